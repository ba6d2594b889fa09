"""What the benchmarks share: arms that take turns, ratios per round, and the table that is printed.

Arms are timed in alternation (A B C, C B A, ...), a few batches each, and compared within a round, so that whatever the
machine does besides touches all of them. An arm may live in a process of its own, because allocator settings belong to
a process; it waits while another is timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ablations.harness import runtime


class Ratio(NamedTuple):
    """Median, least and greatest of one ratio over the rounds."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.greatest:.2f})"


class Worker:
    """A fresh process that holds `setup(*arguments)`, a function, and calls it with what it is asked."""

    def __init__(self, setup: Callable[..., Callable[..., Any]], *arguments: object) -> None:
        fresh = multiprocessing.get_context("spawn")
        self._connection, theirs = fresh.Pipe()
        self._process = fresh.Process(target=_serve, args=(theirs, setup, arguments))
        self._process.start()
        theirs.close()

    def __call__(self, *question: object) -> Any:
        self._connection.send(question)
        return self._connection.recv()  # EOFError if the process has died; its own traceback is on the terminal

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.terminate()


def alone(run: Callable[..., Any], *arguments: object) -> Any:
    """What `run(*arguments)` returns in a fresh process that ends with it."""
    with Worker(_itself, run) as process:
        return process(*arguments)


def _itself(run: Callable[..., Any]) -> Callable[..., Any]:
    return run


def _serve(connection: Connection, setup: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    answer = setup(*arguments)
    try:
        while True:
            connection.send(answer(*connection.recv()))
    except EOFError:
        return


def interleaved(arms: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Arm -> what it returned in each round; every second round goes through the arms backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds):
        for name in list(arms)[:: -1 if number % 2 else 1]:
            seconds[name].append(arms[name]())
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """The ratio of two arms, from its value in every round."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def timed(run: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def arguments(description: str | None, **more: Mapping[str, Any]) -> argparse.Namespace:
    """The command line of a benchmark; `more` is flag -> keywords of add_argument."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few batches, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here as well")
    for flag, keywords in more.items():
        parser.add_argument(f"--{flag}", **keywords)
    return parser.parse_args()


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """Prints rows as an aligned table under their common keys; floats get three significant digits."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), flush=True)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def conclude(verdict: str, numbers: Mapping[str, object], options: argparse.Namespace) -> None:
    """Prints the last line, ratios beside their targets and the machine, and writes the file if one is asked for."""
    found = runtime.environment("cpu")
    machine = f"{found['device']}, {found['threads']} threads, torch {found['torch']}"
    print(f"{verdict} | {machine}{' | quick' if options.quick else ''}")
    if options.json is not None:
        whole = {"quick": options.quick, "environment": found, **numbers}
        options.json.write_text(json.dumps(whole, indent=1, default=list) + "\n")
