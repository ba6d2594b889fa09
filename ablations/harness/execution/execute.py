"""Carrying out a trial: train what is missing, probe it, judge the claims, leave the files of a report.

Files are written after each run; killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ablations.harness import forecast, runtime
from ablations.harness.conclusion import conclude
from ablations.harness.execution import job
from ablations.harness.execution.workers import side_by_side, worth
from ablations.harness.foreign import network as external
from ablations.harness.foreign.network import Stranger
from ablations.harness.prepare import prepare
from ablations.harness.probing import Subject
from ablations.harness.runtime import say
from ablations.harness.store.files import sweep
from ablations.harness.store.folders import discard, make_way, settle
from ablations.harness.store.records import Record, Records
from ablations.harness.store.runs import locked
from ablations.harness.trial import Trial


def carry_out(trial: Trial) -> bool:
    """Trains, probes, judges and reports; True if a run or the report failed. Only estimates at --dry-run."""
    if trial.options.search and not trial.searching:
        _carry_out(prepare(trial.ablation, trial.options, searching=True))
        if not trial.options.dry_run:  # prepared anew, because what is found decides the arms
            return _carry_out(prepare(trial.ablation, trial.options))
    return _carry_out(trial)


def _carry_out(trial: Trial) -> bool:
    workers = worth(trial, trial.groups)
    with runtime.threads(1 if workers > 1 else None):
        estimates = forecast.estimates(trial)
    expected = forecast.expected(trial, estimates)
    left = forecast.tell_plan(trial, estimates, expected, workers)
    if trial.options.dry_run:
        return False
    started, spent = time.perf_counter(), 0.0
    answers: dict[int, job.Answer] = {}
    for index, answer in _answers(trial, workers):
        answers[index] = answer
        spent += expected[index] / workers
        rest = forecast.time_left(left, spent, time.perf_counter() - started)
        say(f"[{len(answers)}/{len(trial.jobs)}] {trial.jobs[index].label}: {answer.words}{rest}")
    if trial.searching:
        return False
    records = [row for index in sorted(answers) for row in answers[index].rows]
    failures = [answers[index].failure for index in sorted(answers) if answers[index].failure]
    outside = None
    if trial.stranger is not None:
        found, outside = _ask_stranger(trial, trial.stranger)
        records += found
    failed_report = conclude(trial, Records(records), estimates, outside)
    for failure in failures:
        print(f"failed: {failure}; --fresh trains it again", file=sys.stderr)
    return bool(failures) or failed_report


def _answers(trial: Trial, workers: int) -> Iterator[tuple[int, job.Answer]]:
    """(index of the job, answer) as they are ready, in this process or in several."""
    left = []
    for group in trial.groups:
        if workers > 1 and not all(job.is_asked(trial, trial.jobs[index]) for index in group):
            left.append(group)
            continue
        for number, index in enumerate(group):
            # What the first job of a group has trained, the others share.
            mine = replace(trial, options=replace(trial.options, fresh=trial.options.fresh and number == 0))
            yield index, job.carry_out(mine, trial.jobs[index])
    if left:
        yield from side_by_side(trial, left, min(workers, len(left)))


def _ask_stranger(trial: Trial, stranger: Stranger) -> tuple[list[Record], dict[str, Any]]:
    """The records of the network from outside, and what is told of it."""
    answers = trial.folder / "probes"
    with locked(stranger.run, trial.options.out / ".locks" / f"{trial.ablation.name}-{stranger.folder_name}-probes"):
        make_way(trial.folder)
        settle(answers)
        if trial.options.fresh:
            discard(answers)
        answers.mkdir(parents=True, exist_ok=True)
        sweep(answers)
        records = job.question(
            trial, stranger.network, trial.data, stranger.arm, 0, stranger.run, trial.folder, stranger.arm,
            **stranger.settings,
        )  # fmt: skip
        subject = Subject(stranger.network, trial.data, {}, stranger.arm, 0, trial.device)
        return records, external.describe(stranger, trial.ablation, subject, Records(records), trial.folder)
