"""Programs of their own that start at once: forked from a process that has imported the libraries already.

A start of Python with its imports of torch and Lightning takes longer than the smoke run of a script. What such a
program does is what `python WORDS` does: it has a process id, streams, signals and an exit code of its own. Use
`subprocess` where the start itself, or what is imported, is what a test is about.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
# Not wandb, nor timm, which imports it: a temporary folder of its would end with the first fork.
HEAVY = "torch torchvision torchmetrics lightning.pytorch jsonargparse scipy.stats sklearn.datasets"
FORKS.set_forkserver_preload([*HEAVY.split(), "pyarrow.parquet", "matplotlib.pyplot", "plotly.graph_objects", "jinja2"])


class Program:
    """`python *words`, started in a folder with an environment; as subprocess.Popen with pipes of text."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str], streams: Path) -> None:
        self.args, self.streams = words, (streams / "out", streams / "err")
        self.process = FORKS.Process(target=_run, args=(words, folder, environment, self.streams))
        self.process.start()
        self.pid, self.kill = self.process.pid, self.process.kill

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; raises subprocess.TimeoutExpired, and then it is killed."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0, *map(Path.read_bytes, self.streams))
        out, err = (file.read_text() if file.exists() else "" for file in self.streams)
        return out, err

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Waits until the condition holds, which must be before the program ends."""
        wait_for(lambda: condition() or self.poll() is not None)
        assert condition(), f"ended too early: {self.communicate()}"


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s"
        time.sleep(0.01)


def _run(words: list[str], folder: Path, environment: dict[str, str], streams: tuple[Path, Path]) -> None:
    for number, file in zip((1, 2), streams, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.process.ORIGINAL_DIR = str(folder)  # where processes that it starts look for its script
    first, *rest = words
    sys.path[0] = "" if first.startswith("-") else str(Path(first).absolute().parent)
    try:
        if first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(first, run_name="__main__")
    finally:  # in the order of an interpreter that ends, which a fork alone does not keep to
        threading._shutdown()
        atexit._run_exitfuncs()
