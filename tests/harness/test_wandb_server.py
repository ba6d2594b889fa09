"""A stand-in for W&B's server that fails in every way: no run is lost, and a command waits 30 s at the most."""

import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ablations.harness.tracking.tracking import PATIENCE, USUAL, Patience

BOUND = 30.0  # seconds, promised
BUCKET = {
    "id": "QnVja2V0", "displayName": "run", "config": "{}", "historyLineCount": 0,
    "project": {"id": "UHJv", "name": "project", "entity": {"id": "RW50", "name": "entity"}},
}  # fmt: skip

QUICK = """
small_ablation = replace(small_ablation, charts=())
"""
STOPWATCH = """
import atexit, functools, time
from ablations.harness.tracking.tracking import Tracker

seconds, last = 0.0, None

def timed(call):
    @functools.wraps(call)
    def wrapper(*arguments, **keywords):
        global seconds, last
        started = time.perf_counter()
        try:
            return call(*arguments, **keywords)
        finally:
            last = time.perf_counter()
            seconds += last - started
    return wrapper

Tracker.attempt, Tracker.finish = timed(Tracker.attempt), timed(Tracker.finish)
# Called after what wandb does at exit, because it is registered before.
atexit.register(lambda: print("waited", seconds + (time.perf_counter() - last if last else 0.0)))
"""


class StandIn(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `way` says; a way with `after_` first lets one run begin."""

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        way = self.server.way
        self.server.asked += 1
        if way.startswith("after_") and b"mutation UpsertBucket" in body and not self.server.begun:
            self.server.begun = True
            bucket = {**BUCKET, "name": json.loads(body)["variables"].get("name", "run")}
            return self.reply(200, {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}})
        if way.endswith("hangs"):
            return self.server.released.wait(120)
        if way.endswith("drops"):
            return self.connection.close()
        if way.endswith("nonsense"):
            return self.reply(200, {"data": {}})
        return self.reply(500, {"error": "out of order"})

    do_GET = do_POST = do_PUT = answer

    def reply(self, code, content):
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, way):
        super().__init__(("127.0.0.1", 0), StandIn)
        self.way, self.asked, self.begun, self.released = way, 0, False, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def train(script, program, tmp_path):
    """Trains a tiny arm in a program of its own; gives what it printed, its seconds in W&B, its folder, requests."""
    file = script({"epochs": 1}, QUICK + STOPWATCH)

    def run(way):
        server, out = Server(way), tmp_path / way
        given = {
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
            "WANDB_API_KEY": "" if way == "no_account" else "x" * 40,
            "ABLATIONS_COMMAND": way,  # it does not share the patience of other commands
        }
        words = ["--budget", "smoke", "--arms", "preact_resnet", "--trainer.accelerator", "cpu"]
        done = program(file, *words, "--out", out, "--wandb", "offline" if way == "offline" else "online", **given)
        server.close()
        assert done.returncode == 0, (way, done.stderr)
        waited = float(done.stdout.splitlines()[-1].removeprefix("waited "))
        return [line for line in done.stdout.splitlines() if "W&B" in line], waited, out, server.asked

    return run


def test_no_server_loses_a_run_or_holds_a_command_for_long(train):
    ways = ("errors", "hangs", "drops", "after_hangs", "after_nonsense", "no_account")
    with ThreadPoolExecutor(7) as pool:  # at once: most of what they do is wait
        (told, usual, alone, asked), *found = pool.map(train, ("offline", *ways))
    assert (told, asked) == ([], 0)
    for way, (told, waited, out, asked) in zip(ways, found, strict=True):
        assert waited - usual < BOUND, (way, waited, usual)
        assert (asked == 0) == (way == "no_account")
        assert len(told) == 1, (way, told)
        # At an answer without the artifact that it asked for wandb's own process dies, now or when the next run begins.
        stopped, not_reached = "W&B stopped" in told[0], "W&B is not reached" in told[0]
        assert stopped or (not_reached and way != "after_hangs")
        assert not_reached or way.startswith("after_")
        # Both W&B runs are kept, offline after the failure; one that began online may have been begun again.
        kept = {file.stem for file in (out / "wandb").glob("*run-*/*.wandb")}
        assert len(kept) == 2, way
        assert list((out / "wandb").glob("offline-run-*/*.wandb")), way
        # What is trained does not depend on any of it.
        (file,) = (alone / "trained").glob("*/weights.safetensors")
        mine = out / file.relative_to(alone)
        assert mine.with_name("done").exists(), way
        assert mine.read_bytes() == file.read_bytes(), way


def test_a_command_has_one_patience(tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.harness.tracking.tracking.USUAL", -1.0)
    first, second = Patience(tmp_path), Patience(tmp_path)
    assert first.left == second.left == PATIENCE > USUAL
    with first.spent():
        pass
    assert PATIENCE - 2 < second.left < PATIENCE
    with pytest.raises(ConnectionError), second.spent():
        raise ConnectionError
    assert first.left == 0
