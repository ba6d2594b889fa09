"""kill -9 of a process beside others: of side-by-side runs, of their parent, of one of two commands on one --out."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from programs import wait_for
from safetensors.torch import load_file
from test_workers import is_held

from ablations.harness.launch import main

ROOT = Path(__file__).parents[2]
EPOCHS = 5
# Says which processes there are, and makes epochs last until the test has killed what it wants to kill.
SLOW = """
import os, time
from pathlib import Path
from ablations.harness.training.callbacks import History

if seconds := os.environ.get("SECONDS_AN_EPOCH"):
    if __name__ == "ablation_of_this_process":
        Path(os.environ["PROCESSES"], str(os.getpid())).touch()
    begin = History.on_train_epoch_start

    def begin_late(self, trainer, *arguments):
        time.sleep(float(seconds) if trainer.current_epoch else 0)
        begin(self, trainer, *arguments)

    History.on_train_epoch_start = begin_late
"""


@pytest.fixture
def begin(start, tmp_path):
    """As `start`, with slow epochs; its processes side by side leave their numbers as names of files."""
    (tmp_path / "processes").mkdir()
    return lambda *words, seconds=2: start(*words, SECONDS_AN_EPOCH=str(seconds), PROCESSES=str(tmp_path / "processes"))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def tables(out, network="*"):
    return list(out.glob(f"trained/{network}-*/metrics.csv"))


def rows(out):
    return sum(len(file.read_text().splitlines()) - 1 for file in tables(out))


def left_by(out):
    """Weights and records, but for the rows that a clock measures."""
    with (out / "ablations/remove_layers/smoke-digits/records.csv").open(newline="") as stream:
        records = [row for row in csv.reader(stream) if "seconds" not in row]
    verdicts = json.loads((out / "ablations/remove_layers/smoke-digits/verdicts.json").read_text())
    return records, verdicts, {file.parent.name: load_file(file) for file in out.glob("trained/*/weights.safetensors")}


def assert_undisturbed(out, expected):
    """The same to the last bit, and nothing lies about."""
    records, verdicts, weights = left_by(out)
    assert (records, verdicts) == expected[:2]
    assert weights.keys() == expected[2].keys()
    for run, tensors in weights.items():
        assert all(tensors[name].equal(expected[2][run][name]) for name in tensors), run
    assert not list(out.rglob("*.tmp"))
    assert not [lock for lock in (out / ".locks").iterdir() if is_held(lock)]


@pytest.fixture
def expected(small_ablation, tmp_path):
    """What the command leaves that nothing disturbs."""
    out = tmp_path / "undisturbed"
    assert carried_out(small_ablation(epochs=EPOCHS), out) == 0
    return left_by(out)


def carried_out(ablation, out):
    """Exit code of the command in this process, one run after the other, which is quicker to start."""
    with pytest.raises(SystemExit) as left:
        main(ablation, [*map(str, words(out)[1:])])
    return left.value.code


def words(out, *more, arms=("preact_resnet", "vgg"), file="small.py"):
    return [
        file, "--budget", "smoke", "--wandb", "disabled", "--trainer.accelerator", "cpu", "--arms", *arms, "--out", out,
        *more,
    ]  # fmt: skip


def test_a_killed_process_of_two_and_their_killed_parent(script, begin, small_ablation, tmp_path, expected):
    out = tmp_path / "runs"
    command = words(out, "--workers", 2, file=script({"epochs": EPOCHS}, SLOW))
    process = begin(*command)
    process.wait_for(lambda: len(tables(out)) == 2)
    workers = [int(file.name) for file in (tmp_path / "processes").iterdir()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "a process ended without a word" in err
    assert "resume with:" in err
    assert not any(map(is_running, workers)), "the other one is stopped too"
    assert not list(out.glob("trained/*/done"))

    before = rows(out)
    process = begin(*command)
    process.wait_for(lambda: rows(out) > before)
    process.kill()
    process.communicate()
    # Or two processes would write the same run when the command is repeated.
    wait_for(lambda: not any(map(is_held, (out / ".locks").iterdir())))

    assert carried_out(small_ablation(epochs=EPOCHS), out) == 0
    resumed = [json.loads(file.read_text())["resumed_from_epoch"] for file in out.glob("trained/*/done")]
    assert len(resumed) == 2
    assert min(resumed) >= 1
    assert_undisturbed(out, expected)


def test_one_of_two_commands_on_the_same_folder_is_killed(script, begin, tmp_path, expected):
    out, file = tmp_path / "runs", script({"epochs": EPOCHS}, SLOW)
    killed = begin(*words(out, arms=["vgg"], file=file), seconds=300)
    killed.wait_for(lambda: tables(out, "vgg_cifar"))
    other = begin(*words(out, file=file))
    other.wait_for(lambda: tables(out, "resnet_cifar"))
    assert killed.poll() is None
    killed.kill()
    killed.communicate()
    _, err = other.communicate(timeout=240)
    assert other.returncode == 0, err
    (done,) = out.glob("trained/vgg_cifar-*/done")
    assert json.loads(done.read_text())["resumed_from_epoch"] >= 1, "what the killed command had done is not lost"
    assert_undisturbed(out, expected)
