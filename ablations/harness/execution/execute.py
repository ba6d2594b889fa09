"""Carrying out a trial: train what is missing, ask it, judge the claims, leave the files of a report.

Files are written after each run; killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ablations.harness import forecast, runtime
from ablations.harness.conclusion import conclude
from ablations.harness.declare.probe import Subject
from ablations.harness.execution import engines
from ablations.harness.execution.asking import ask
from ablations.harness.execution.perform import Answer, evaluating, is_asked
from ablations.harness.foreign.network import ForeignNetwork, describe
from ablations.harness.prepare import prepare
from ablations.harness.runtime import say
from ablations.harness.search import trying
from ablations.harness.store.files import sweep
from ablations.harness.store.folders import discard, make_way, settle
from ablations.harness.store.records import Record, Records
from ablations.harness.store.runs import locked
from ablations.harness.store.wandb_names import PROBE
from ablations.harness.tracking.lineage import dataset
from ablations.harness.tracking.tracking import description, log_answers, tracker
from ablations.harness.trial import Trial

Engine = Callable[[Sequence[engines.Group]], Iterator[tuple[int, Answer]]]


def carry_out(trial: Trial, report: Callable[[Path], bool], engine: Engine | None = None) -> bool:
    """Trains, asks, judges and reports; True if a run or the report failed. Only estimates at --dry-run.

    report: makes the report of the folder's files, see `conclude`. engine: who performs what is left to do, instead of
    this process or several of this machine.
    """
    if trial.searches:
        options = replace(trial.options, search=0, arms=(), claims=(), seeds=None, first_seed=None, probe={})
        _carry_out(prepare(trying(trial.searches, trial.ablation), options), report, engine)
        if not trial.options.dry_run:  # prepared anew, because what is found decides the arms
            trial = prepare(trial.ablation, trial.options)
    return _carry_out(trial, report, engine)


def _carry_out(trial: Trial, report: Callable[[Path], bool], engine: Engine | None) -> bool:
    workers = engines.worth(trial.groups, trial.options.workers, trial.device)
    with runtime.threads(1 if workers > 1 else None):
        estimates = forecast.estimates(trial)
    expected = forecast.expected(trial, estimates)
    left = forecast.tell_plan(trial, estimates, expected, workers)
    if trial.options.dry_run:
        return False
    started, spent = time.perf_counter(), 0.0
    answers: dict[int, Answer] = {}
    for index, answer in _answers(trial.groups, workers, engine):
        answers[index] = answer
        spent += expected[index] / workers
        rest = forecast.time_left(left, spent, time.perf_counter() - started)
        say(f"[{len(answers)}/{len(trial.jobs)}] {trial.jobs[index].label}: {answer.words}{rest}")
    if trial.ablation.trains_only:
        return False
    records = [row for index in sorted(answers) for row in answers[index].rows]
    failures = [answers[index].failure for index in sorted(answers) if answers[index].failure]
    told = None
    if trial.foreign is not None:
        found, told = _ask_foreign(trial, trial.foreign)
        records += found
    failed_report = conclude(trial, Records(records), estimates, report, told)
    for failure in failures:
        print(f"failed: {failure}; --fresh trains it again", file=sys.stderr)
    return bool(failures) or failed_report


def _answers(groups: Sequence[engines.Group], workers: int, engine: Engine | None) -> Iterator[tuple[int, Answer]]:
    """(index of the job, answer) as they are ready: what was asked before is read here, the rest goes to an engine."""
    if workers == 1 and engine is None:
        yield from engines.here(groups)
        return
    left = [group for group in groups if not all(is_asked(job) for _, job in group)]
    yield from engines.here([group for group in groups if group not in left])
    if left:
        yield from engine(left) if engine is not None else engines.processes(left, min(workers, len(left)))


def _ask_foreign(trial: Trial, foreign: ForeignNetwork) -> tuple[list[Record], dict[str, Any]]:
    """The records of the foreign network, and what is told of it."""
    answers, name = trial.folder / "probes", trial.ablation.name
    with locked(foreign.run, trial.options.out / ".locks" / f"{name}-{foreign.folder_name}-probes"):
        make_way(trial.folder)
        settle(answers)
        if trial.options.fresh:
            discard(answers)
        answers.mkdir(parents=True, exist_ok=True)
        sweep(answers)
        asked, workers = foreign.asked(name, trial.folder), trial.options.workers or 1
        with tqdm(desc=f"{foreign.arm}: probing", unit="pass", disable=not sys.stderr.isatty(), leave=False) as bar:
            network = evaluating(foreign.network, trial.device)
            subject = Subject(network, trial.data, foreign.arm, 0, trial.device, bar.update, processes=workers)
            records, new = ask(asked, trial.probes, subject)
        if new:
            _track(trial, foreign, new)
        return records, describe(foreign, trial.ablation, asked, subject, Records(records))


def _track(trial: Trial, foreign: ForeignNetwork, rows: list[Record]) -> None:
    """New answers of the foreign network are a W&B run of their own."""
    options = trial.options
    counted = forecast.counted_foreign(trial, foreign)
    claims = [claim.id for claim in trial.ablation.claims]
    described = description(
        PROBE, trial.ablation.name, options.budget, claims, str(trial.data.name), foreign.arm, 0, foreign.run, counted,
        trial.device.type,
    )  # fmt: skip
    own = tracker(options.out, options.wandb, **described, train_run="", inputs=[dataset(trial.data.identity)])
    if own is not None:
        log_answers(own, rows, 0)
        own.finish()
