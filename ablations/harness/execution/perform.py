"""Performing one job: trained and asked where that was not done before, and what the files then say of it.

    python -m ablations.harness.execution.perform FILE

does so for the job that a file holds, in whatever process and on whatever machine that sees the same root; everything
is left in the run's folder, where a process that has the same job finds it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ablations.harness import runtime
from ablations.harness.declare.probe import Subject
from ablations.harness.estimate import describe, in_words
from ablations.harness.execution.asking import ask
from ablations.harness.execution.completion import lack, make_finished
from ablations.harness.execution.distributed import in_one_process, train_in_processes
from ablations.harness.execution.job import Job, read
from ablations.harness.store.files import sweep
from ablations.harness.store.folders import is_settled, make_way_for_files, settle
from ablations.harness.store.integrity import sha256
from ablations.harness.store.records import Record, point
from ablations.harness.store.runs import WEIGHTS, epochs_of, final_loss, held, is_described, outcome
from ablations.harness.store.wandb_names import PROBE, TRAIN
from ablations.harness.tracking import lineage
from ablations.harness.tracking.tracking import (
    Tracker,
    description,
    log_answers,
    new_id,
    remember_training,
    tracker,
    trained_by,
)
from ablations.harness.training.callbacks import Diverged
from ablations.harness.training.train import train, write_config
from ablations.harness.training.units import unit
from modules import Network, build
from modules.weights import load_weights


class Answer(NamedTuple):
    """What became of a job: its records, a few words for the user, and why it failed ("" if it did not)."""

    rows: list[Record]
    words: str
    failure: str = ""


def is_finished(job: Job) -> bool:
    """Whether the run has ended, with the snapshots that its probes need, and nothing of it is damaged."""
    return not job.fresh and not lack(job, job.out)


def is_asked(job: Job) -> bool:
    """Whether the probes' answers are there too; a run that diverged has none."""
    return is_finished(job) and job.asked.has(job.probes)


def perform(job: Job) -> Answer:
    """Trains and asks the job's network where that was not done before; a run that diverges is an answer too.

    Raises OSError if another process has the run.
    """
    folder = job.folder
    if is_asked(job) and is_settled(folder) and is_described(folder):
        answer = _as_it_stands(job)
        if answer is not None:
            return answer
    with held(job.run, job.out):
        settle(folder)
        sweep(folder)
        make_way_for_files(folder, ("config.json", "environment.json", "job.json"))
        answer = _perform(job, is_finished(job), is_asked(job))
        if not is_described(folder):
            write_config(job.run, folder)
        return answer


def _as_it_stands(job: Job) -> Answer | None:
    """The answer of a job that was asked, only read, without the lock; None if another process changes it meanwhile."""
    before = outcome(job.folder)
    try:
        answer = _perform(job, was_finished=True, was_asked=True)
    except Exception:  # a file is gone; whatever else it may be is met again under the lock
        return None
    return answer if outcome(job.folder) == before and is_asked(job) else None


def _perform(job: Job, was_finished: bool, was_asked: bool) -> Answer:
    """Trains unless it was finished and asks unless it was asked; both need the lock of the run, reading does not."""
    folder = job.folder
    tracked: Tracker | None = None  # of a network that is trained now, for its answers too
    try:
        # Weights are read, and so compared with what was written, only where somebody asks them.
        if was_finished and not was_asked:
            was_finished = not lack(job, job.out, contents=True)
        if not was_finished:

            def keep(*of: Any) -> None:
                nonlocal tracked
                tracked = _train(*of)

            make_finished(job, keep)
            if tracked is not None and job.wandb_weights:
                tracked.log_output(lineage.model(folder))
        done = outcome(folder) or {}
        if done["state"] == "diverged":
            raise Diverged(int(done["step"]), int(done["epoch"]) - 1)
        if job.trains_only:
            return Answer([], f"training loss {final_loss(folder):.3g}" + (", already trained" if was_finished else ""))
        rows = list(_rows(job, done))
        started = time.perf_counter()
        if was_asked:
            rows += [row for probe in job.probes for row in job.asked.answers(probe)]
        else:
            rows += _asked(job, tracked)
    except Diverged as error:
        if job.trains_only:
            return Answer([], str(error))
        rows = [*_curves(job), _row(job, "test", "test/top1_error", float("nan"), "%")]
        rows.append(_row(job, "diverged", "step", error.step, ""))
        return Answer(rows, str(error), f"{job.label}: {error}; its last good checkpoint, if any, is in {folder}")
    except Exception as error:
        error.add_note(f"at {job.label}, whose files are in {folder}")
        raise
    finally:
        if tracked is not None:
            tracked.finish()
    error_name = next(metric for metric in done if metric.endswith("_error"))
    named = "test error" if error_name == "test/top1_error" else re.sub("[/_]", " ", error_name)
    words = f"{named} {done[error_name]:.2f} %"
    words += ", already trained" if was_finished else f", trained in {in_words(done['seconds'])}"
    if job.probes:
        words += ", already probed" if was_asked else f", probed in {in_words(time.perf_counter() - started)}"
    return Answer(rows, words)


def _asked(job: Job, tracked: Tracker | None) -> list[Record]:
    """The records of the probes' answers; new ones are told to the tracker of its training or to one of their own."""
    data, folder = job.data, job.folder
    network = build(job.run.network, data.num_classes, data.in_channels, **job.run.arguments)
    load_weights(network, folder / WEIGHTS)
    hidden, line = not sys.stderr.isatty(), runtime.progress_line
    with tqdm(desc=f"{job.label}: probing", unit="pass", disable=hidden, leave=False, position=line) as bar:
        subject = Subject(
            evaluating(network, job.device), data, job.arm, job.run.seed, job.device, bar.update,
            job.snapshot_files(folder), processes=job.processes, is_first=job.is_first,
        )  # fmt: skip
        rows, new = ask(replace(job.asked, weights=sha256(folder / WEIGHTS)), job.probes, subject)
    last_step = next((int(row["step"]) for row in reversed(epochs_of(folder))), 0)
    if new and tracked is not None:
        log_answers(tracked, new, last_step)
    elif new and job.wandb != "disabled":
        own = tracker(job.out, job.wandb, **_of_answers(job))
        if own is not None:
            log_answers(own, new, last_step)
            own.finish()
    return rows


def evaluating(network: Network, device: torch.device) -> Network:
    """The network where and how probes ask it."""
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _described(job: Job, job_type: str) -> dict[str, Any]:
    """What every tracker of the job is told."""
    data = str(job.run.data["name"])
    described = description(
        job_type, job.ablation, job.budget, job.claims, data, job.arm, job.run.seed, job.run.name,
        describe(job.run)[0], job.device.type,
    )  # fmt: skip
    if job.trains_only:
        arm, _, number = job.arm.partition(" candidate ")
        described |= {"name": f"{arm}/candidate={number}", "arm": arm, "candidate": int(number)}
        described["tags"].append("candidate")
    return described


def _of_answers(job: Job) -> dict[str, Any]:
    """What a tracker is told that logs answers of a network that was trained before."""
    inputs = [lineage.dataset(job.run.data), *([lineage.model(job.folder)] if job.wandb_weights else [])]
    return _described(job, PROBE) | {"train_run": trained_by(job.out, job.run.name), "inputs": inputs}


def _row(job: Job, where: str, metric: str, value: float, unit: str) -> Record:
    return Record(job.ablation, job.arm, job.run.seed, where, metric, value, unit, job.run.name)


def _rows(job: Job, done: dict[str, Any]) -> Iterator[Record]:
    for metric, value in done.items():
        if metric.startswith("test/"):
            yield _row(job, "test", metric, value, unit(metric, job.run.network))
    yield _row(job, "train", "seconds", done["seconds"], "s")
    yield from _curves(job)


def _curves(job: Job) -> Iterator[Record]:
    """The training curves that the run's table holds: one row for each epoch and metric."""
    for line in epochs_of(job.folder):
        where = point("epoch", epoch=int(line["epoch"]))
        for metric, value in line.items():
            if value and (metric.startswith(("train/", "val/")) or metric == "seconds"):
                yield _row(job, where, metric, float(value), unit(metric, job.run.network))


def _train(job: Job, out: Path) -> Tracker | None:
    """Trains below `out`; a tracked run is kept with all others, and returned unfinished if it is this process's."""
    run_id = new_id(job.ablation)
    described = _described(job, TRAIN) | {"run_id": run_id, "inputs": [lineage.dataset(job.run.data)]}
    # W&B filters by flat names: `data` is the data's name, its identity has a name of its own.
    described |= {("data_identity" if key == "data" else key): value for key, value in job.run.identity().items()}
    try:
        if not in_one_process(job.run.trainer):
            train_in_processes(job, out, described)
            return None
        logger = tracker(job.out, job.wandb, **described)
        try:
            train(job.run, job.data, out, logger, job.label, sys.stderr.isatty(), job.snapshots)
        except BaseException as error:
            if logger is not None:
                logger.finish(exit_code=0 if isinstance(error, Diverged) else 1)
            raise
        return logger
    finally:
        remember_training(job.out, job.run.name, run_id)


def main(file: Path) -> int:
    """Performs the job of a file; 1 for a run that failed."""
    runtime.quiet()
    runtime.keep_freed_memory()
    job = read(json.loads(file.read_text(encoding="utf-8"))["job"])
    answer = perform(job)
    runtime.say(f"{job.label}: {answer.words}")
    return 1 if answer.failure else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
