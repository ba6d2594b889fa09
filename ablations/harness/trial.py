"""The trial of an ablation: train what is missing, probe it, judge the claims, leave the files of a report.

`ablations.harness.prepare` makes it; `Trial.carry_out` does the work, run by run, and writes after each; killed at any
moment it goes on where it was.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ablations.harness import external, runtime
from ablations.harness.ablation import Ablation, Arm, Claim, Plan
from ablations.harness.command_line import Options
from ablations.harness.conclusion import conclude
from ablations.harness.estimate import Estimate, count, describe, estimate, evaluation_time, in_words
from ablations.harness.files import sweep
from ablations.harness.job import Answer, Job, carry_out, is_asked, is_finished, question
from ablations.harness.probing import Subject
from ablations.harness.records import Record, Records
from ablations.harness.runs import locked
from ablations.harness.runtime import say
from ablations.harness.scale import steps
from ablations.harness.search import Search
from ablations.harness.workers import side_by_side, worth
from datamodules.images import ImageData


def data_key(arm: Arm) -> str:
    """Arms of one key share their data."""
    return json.dumps(arm.data, sort_keys=True)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Trial:
    """A prepared ablation: its jobs, and the network from outside if there is one.

    data: the data set. made: what is made from it for arms, see `data_of`. remarks: what a reader must know of the
    plan, one sentence each.
    """

    ablation: Ablation
    options: Options
    data: ImageData
    made: Mapping[str, ImageData]
    plan: Plan
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    jobs: tuple[Job, ...]
    stranger: external.Stranger | None
    searches: tuple[Search, ...] = ()
    searching: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the ablation's files lie."""
        what = f"{self.options.budget}-{self.data.name}" if self.stranger is None else self.stranger.folder_name
        return self.options.out / "ablations" / self.ablation.name / what

    def data_of(self, arm: Arm) -> ImageData:
        """What an arm is trained, tested and probed on."""
        return self.made[data_key(arm)]

    def num_snapshots(self, arm: Arm) -> int:
        """How many times an arm's weights are kept during training."""
        return max(self.plan.snapshots, 0 if self.searching else arm.snapshots)

    @property
    def device(self) -> torch.device:
        """Where probes run: one GPU if there is one and the options do not say otherwise."""
        cpu = self.options.trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
        return torch.device("cpu" if cpu else "cuda")

    def carry_out(self) -> bool:
        """Trains, probes, judges and reports; True if a run or the report failed. Only estimates at --dry-run."""
        if self.options.search and not self.searching:
            from ablations.harness.prepare import prepare  # anew, because what is found decides the arms

            prepare(self.ablation, self.options, searching=True)._carry_out()
            if not self.options.dry_run:
                return prepare(self.ablation, self.options)._carry_out()
        return self._carry_out()

    def _carry_out(self) -> bool:
        workers = worth(self, self.groups)
        with runtime.threads(1 if workers > 1 else None):
            estimates = self._estimates()
        expected = self._expected(estimates)
        left = self._tell_plan(estimates, expected, workers)
        if self.options.dry_run:
            return False
        started, spent = time.perf_counter(), 0.0
        answers: dict[int, Answer] = {}
        for index, answer in self._answers(workers):
            answers[index] = answer
            spent += expected[index] / workers
            pace = (time.perf_counter() - started) / spent if spent else 1.0
            rest = f", about {in_words((left - spent) * pace)} left" if left - spent > 1 else ""
            say(f"[{len(answers)}/{len(self.jobs)}] {self.jobs[index].label}: {answer.words}{rest}")
        if self.searching:
            return False
        records = [row for index in sorted(answers) for row in answers[index].rows]
        failures = [answers[index].failure for index in sorted(answers) if answers[index].failure]
        outside = None
        if self.stranger is not None:
            found, outside = self._ask_stranger(self.stranger)
            records += found
        failed_report = conclude(self, Records(records), estimates, outside)
        for failure in failures:
            print(f"failed: {failure}; --fresh trains it again", file=sys.stderr)
        return bool(failures) or failed_report

    @cached_property
    def groups(self) -> list[list[int]]:
        """Indices of the jobs, those that share a run together, in the order of the jobs."""
        by_run: dict[str, list[int]] = {}
        for index, job in enumerate(self.jobs):
            by_run.setdefault(job.run.name, []).append(index)
        return list(by_run.values())

    def _answers(self, workers: int) -> Iterator[tuple[int, Answer]]:
        """(index of the job, answer) as they are ready, in this process or in several."""
        left = []
        for group in self.groups:
            if workers > 1 and not all(is_asked(self, self.jobs[index]) for index in group):
                left.append(group)
                continue
            for number, index in enumerate(group):
                # What the first job of a group has trained, the others share.
                mine = replace(self, options=replace(self.options, fresh=self.options.fresh and number == 0))
                yield index, carry_out(mine, self.jobs[index])
        if left:
            yield from side_by_side(self, left, min(workers, len(left)))

    # -- what is to be done, and how long it takes --------------------------------------------------------------------

    def _estimates(self) -> dict[str, Estimate]:
        """Per arm; only arms with work left are timed, the others are only counted."""
        found = {}
        for arm in self.arms:
            jobs = [job for job in self.jobs if job.arm is arm]
            if all(is_asked(self, job) for job in jobs):
                counted, network = describe(jobs[0].run)
                found[arm.name] = Estimate(counted, len(network.blocks), 0.0, 0.0)
            else:
                found[arm.name] = estimate(jobs[0].run, self.data_of(arm), self.device)
        return found

    @property
    def _num_images(self) -> int:
        """What one of the probe's passes goes through."""
        limit = self.plan.settings.get("limit")
        return limit if isinstance(limit, int) else len(self.data.test)

    def _expected(self, estimates: dict[str, Estimate]) -> list[float]:
        """Seconds that each job will take; a run that several share is trained once."""
        images = self._num_images
        seconds = [0.0] * len(self.jobs)
        for group in self.groups:
            for number, index in enumerate(group):
                job = self.jobs[index]
                found = estimates[job.arm.name]
                if number == 0 and not is_finished(self, job):
                    seconds[index] += found.training
                if not self.searching and not is_asked(self, job):
                    settings = {**self.plan.settings, "arm": job.arm.name}
                    seconds[index] += found.per_image * images * self.ablation.passes(found.blocks, settings)
        return seconds

    def _tell_plan(self, estimates: dict[str, Estimate], expected: list[float], workers: int) -> float:
        """Prints arms, costs and expected time; returns the seconds of work left."""
        tried = f"{self.options.search} candidates each" if self.searching else _counted(self.plan.seeds, "seed")
        settings = f"{self.options.budget} budget, {self.data.name}, {tried}"
        say(f"{self.ablation.title} ({settings})")
        if self.stranger is not None:
            return self._tell_stranger(self.stranger)
        if not self.jobs:
            return 0.0
        arm_width = max(len(arm.name) for arm in self.arms)
        say(
            f"  {'arm':<{arm_width}} {'network':<16} {'blocks':>6} {'parameters':>11} {'multiply-adds':>13} "
            f"{'epochs':>6} {'steps':>7} {'precision':<10}  runs"
        )
        for arm in self.arms:
            jobs = [job for job in self.jobs if job.arm is arm]
            found = estimates[arm.name]
            trained = sum(is_finished(self, job) for job in jobs)
            runs = f"{len(jobs)} of {in_words(found.training)}" if trained < len(jobs) else f"{len(jobs)}"
            runs += f", {trained} already trained" if trained else ""
            run = jobs[0].run
            length = f"{run.recipe.epochs:>6} {steps(run):>7,} {run.precision:<10}"
            say(
                f"  {arm.name:<{arm_width}} {arm.network:<16} {found.blocks:>6} {found.cost.parameters:>11,} "
                f"{found.cost.multiply_adds / 1e6:>11.1f} M {length}  {runs}"
            )
        for search in () if self.searching else self.searches:
            say(f"  searched: {search}")
        for remark in self.remarks:
            say(f"  {remark}")
        left = sum(expected) / workers
        at_once = f"{workers} runs at once, " if workers > 1 else ""
        say(f"  expected: {in_words(left)} on this machine, {at_once}probes included; files go to {self.options.out}/")
        return left

    def _tell_stranger(self, stranger: external.Stranger) -> float:
        """Prints the cost of the network from outside and the expected time of probing it; returns its seconds."""
        found = count(stranger.network, stranger.arm, self.data.in_channels, self.data.image_size)
        network = stranger.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images, _ = next(self.data.evaluation_batches("test", min(100, len(self.data.test)), self.device))
        settings = {**self.plan.settings, "arm": stranger.arm}
        passes = self.ablation.passes(len(network.blocks), settings)
        left = evaluation_time(network, images) * self._num_images * passes / (self.options.workers or 1)
        say(f"  {stranger.run}: {found.parameters:,} parameters, {found.multiply_adds / 1e6:.1f} M multiply-adds")
        say(f"  images normalised with {stranger.normalisation}")
        if stranger.taken:
            say(f"  taken of {stranger.weights}: {stranger.taken}")
        say(
            f"  expected: {in_words(left)} on this machine, if it was not asked before; files go to {self.options.out}/"
        )
        return left

    def _ask_stranger(self, stranger: external.Stranger) -> tuple[list[Record], dict[str, Any]]:
        """The records of the network from outside, and what is told of it."""
        answers = self.folder / "probes"
        with locked(stranger.run, self.options.out / ".locks" / f"{self.ablation.name}-{stranger.folder_name}-probes"):
            answers.mkdir(parents=True, exist_ok=True)
            sweep(answers)
            records = question(
                self, stranger.network, self.data, stranger.arm, 0, stranger.run, self.folder, stranger.arm,
                **stranger.settings,
            )  # fmt: skip
            subject = Subject(stranger.network, self.data, {}, stranger.arm, 0, self.device)
            return records, external.describe(stranger, self.ablation, subject, Records(records), self.folder)
