"""Jobs side by side, each in a process of one thread: a small run alone leaves most of a processor idle.

A process prepares the same trial from the same script and options, and is then told job after job; every job leaves
its files as if it had been done here.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from ablations.harness import runtime
from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import declaration
from ablations.harness.training.lengths import batches
from ablations.harness.execution import job
from ablations.harness.prepare import prepare
from ablations.harness.trial import Trial

# Below so many steps in all, of a batch each, starting processes takes longer than they save. Steps, not seconds, so
# that a repeated command decides alike.
WORTH_STEPS = 3000
MEMORY_EACH = 2 << 30  # bytes that a process may need


def worth(trial: Trial, groups: Sequence[Sequence[int]]) -> int:
    """How many processes to use: what the user says, else one per core of a CPU where there is enough to do."""
    asked = trial.options.workers
    if not job.in_one_process(trial.options) or not groups:
        return 1
    if asked is not None:
        return min(asked, len(groups))
    runs = [trial.jobs[group[0]].run for group in groups]
    if trial.device.type != "cpu" or sum(map(batches, runs)) < WORTH_STEPS or declaration(trial.ablation) is None:
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_EACH
    return max(1, min(torch.get_num_threads(), memory, len(groups)))


def side_by_side(trial: Trial, groups: Sequence[Sequence[int]], workers: int) -> Iterator[tuple[int, job.Answer]]:
    """Carries out the jobs and yields (index of the job, answer) as they are ready.

    groups: indices of jobs; those of one group share a run and are done one after the other.
    Raises OSError if a process fails, with its last words, and KeyboardInterrupt; the others are stopped then.
    """
    left = list(reversed(groups))
    with _processes(trial, workers) as connections:
        idle = list(connections)
        busy: dict[Connection, int] = {}  # how many answers it still owes
        while left or busy:
            while idle and left:
                connection, group = idle.pop(), left.pop()
                busy[connection] = len(group)
                connection.send(list(group))
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                yield _received(ready)
                busy[ready] -= 1
                if not busy[ready]:
                    idle.append(ready)
                    del busy[ready]


def _received(connection: Connection) -> tuple[int, job.Answer]:
    try:
        found = connection.recv()
    except EOFError:
        raise OSError("a process ended without a word; its last messages stand above") from None
    if isinstance(found, str):
        if found == "interrupted":
            raise KeyboardInterrupt
        raise OSError(found)
    answer: tuple[int, job.Answer] = found
    return answer


@contextmanager
def _processes(trial: Trial, workers: int) -> Iterator[list[Connection]]:
    """So many processes that wait for jobs; they end when the block does, at once after an error."""
    declared = declaration(trial.ablation)
    assert declared is not None  # `worth` and `prepare` have looked
    fresh = multiprocessing.get_context("spawn")
    connections: list[Connection] = []
    processes: list[SpawnProcess] = []
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "TQDM_POSITION")}
    try:
        for number in range(workers):
            ours, theirs = fresh.Pipe()
            os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_POSITION": str(number)}
            mine = (theirs, *declared, trial.options, trial.searching)
            process = fresh.Process(target=_serve, args=mine, daemon=True)
            process.start()
            theirs.close()
            connections.append(ours)
            processes.append(process)
        _restore(before)
        yield connections
    except BaseException:
        for process in processes:  # each ends its run between two steps
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        _restore(before)
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(30)
            if process.is_alive():
                process.terminate()


def _restore(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _serve(connection: Connection, script: Path, name: str, options: Options, searching: bool) -> None:
    """What a process does: prepare the trial, then job after job until nobody asks any more."""
    os.setpgrp()  # Ctrl-C at a terminal reaches the parent alone, which passes it on once
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        runtime.quiet()
        torch.set_num_threads(1)
        trial = _trial(script, name, options, searching)
        while True:
            group = connection.recv()
            for number, index in enumerate(group):
                # What the first job of a group has trained, the others share.
                mine = replace(trial, options=replace(options, fresh=options.fresh and number == 0, workers=1))
                connection.send((index, job.carry_out(mine, trial.jobs[index])))
    except (EOFError, BrokenPipeError):
        return
    except KeyboardInterrupt:
        _last_word(connection, "interrupted")
    except BaseException as error:
        traceback.print_exc()
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        _last_word(connection, f"{type(error).__name__}: {error}{notes}")


def _end_with_parent(parent: int) -> None:
    """Interrupts this process when the parent is gone, killed perhaps, so that no run has two processes at a time."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30.0)
    os._exit(1)


def _last_word(connection: Connection, word: str) -> None:
    with suppress(OSError):
        connection.send(word)


def _trial(script: Path, name: str, options: Options, searching: bool) -> Trial:
    spec = importlib.util.spec_from_file_location("ablation_of_this_process", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return prepare(getattr(module, name), options, searching)
