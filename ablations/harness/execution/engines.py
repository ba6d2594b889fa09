"""Engines: who performs jobs. Each takes jobs in groups that share a run and gives answers as they are ready.

`here` is this process; `processes` are several on this machine, each of one thread, because a small run alone leaves
most of a processor idle. Every job leaves its files as if it had been done here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import torch

from ablations.harness import runtime
from ablations.harness.execution.distributed import in_one_process
from ablations.harness.execution.job import Job, read
from ablations.harness.execution.perform import Answer, perform
from ablations.harness.training.lengths import batches

# Below so many steps in all, of a batch each, starting processes takes longer than they save. Steps, not seconds, so
# that a repeated command decides alike.
WORTH_STEPS = 3000
MEMORY_EACH = 2 << 30  # bytes that a process may need

Group = Sequence[tuple[int, Job]]
"""Jobs of one run, with their places among all jobs."""


def worth(groups: Sequence[Group], asked: int | None, device: torch.device) -> int:
    """How many processes to use: what the user asks for, else one per core of a CPU where there is enough to do."""
    runs = [group[0][1].run for group in groups]
    if not runs or not all(in_one_process(run.trainer) for run in runs):
        return 1
    if asked is not None:
        return min(asked, len(groups))
    if device.type != "cpu" or sum(map(batches, runs)) < WORTH_STEPS:
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_EACH
    return max(1, min(torch.get_num_threads(), memory, len(groups)))


def here(groups: Sequence[Group]) -> Iterator[tuple[int, Answer]]:
    """Performs the jobs one after the other in this process."""
    for group in groups:
        for number, (index, job) in enumerate(group):
            yield index, perform(_sharing(job, number))


def _sharing(job: Job, number: int) -> Job:
    """The job as one of its group: what the first has trained, the others share."""
    return replace(job, fresh=job.fresh and number == 0)


def processes(groups: Sequence[Group], workers: int) -> Iterator[tuple[int, Answer]]:
    """Performs the jobs in so many processes, the groups in their order.

    Raises OSError if a process fails, with its last words, and KeyboardInterrupt; the others end between two steps
    then.
    """
    fresh = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(
        workers, fresh, initializer=_start, initargs=(os.getpid(), fresh.Value("i", 0))
    ) as pool:  # fmt: skip
        plain = [[(index, replace(job, processes=1).written()) for index, job in group] for group in groups]
        futures = [pool.submit(_perform_group, group) for group in plain]
        try:
            for future in as_completed(futures):
                yield from future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process.pid is not None:
                    with suppress(ProcessLookupError):  # the pool itself ends the others once it has lost one
                        os.kill(process.pid, signal.SIGINT)
            if isinstance(error, BrokenProcessPool):
                raise OSError("a process ended without a word; its last messages stand above") from None
            raise


def _perform_group(group: Sequence[tuple[int, Mapping[str, Any]]]) -> list[tuple[int, Answer]]:
    """What a process does with jobs that share a run."""
    try:
        return [(index, perform(_sharing(read(said), number))) for number, (index, said) in enumerate(group)]
    except Exception as error:
        traceback.print_exc()
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        raise OSError(f"{type(error).__name__}: {error}{notes}") from None


def _start(parent: int, started: Synchronized[int]) -> None:
    """Makes a new process one that performs jobs."""
    os.setpgrp()  # Ctrl-C at a terminal reaches the parent alone, which passes it on once
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    with started.get_lock():
        runtime.progress_line = started.value
        started.value += 1
    runtime.quiet()
    torch.set_num_threads(1)


def _end_with_parent(parent: int) -> None:
    """Interrupts this process when the parent is gone, killed perhaps, so that no run has two processes at a time."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30.0)
    os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile compute with one thread."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
