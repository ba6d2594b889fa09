"""The trial of an ablation as a value: its arms and jobs, on what data and with which options.

`ablations.harness.prepare` makes it, `ablations.harness.execution.execute` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan
from ablations.harness.declare.probe import Probe
from ablations.harness.execution.job import Job, probing_device
from ablations.harness.foreign.network import ForeignNetwork
from ablations.harness.search import Search
from datamodules.images import ImageData


@dataclass(frozen=True)
class Trial:
    """A prepared ablation: its jobs, and the foreign network if there is one.

    arms, claims: the chosen ones. jobs: of these arms, seed by seed. remarks: what a reader must know of the plan, one
    sentence each.
    """

    ablation: Ablation
    options: Options
    data: ImageData
    plan: Plan
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    jobs: tuple[Job, ...]
    foreign: ForeignNetwork | None
    searches: tuple[Search, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the ablation's files lie; named after the data, as the budget or else the command wants them."""
        options = self.options
        what = f"{options.budget}-{self.data.name}" if self.foreign is None else self.foreign.folder_name
        what += "" if options.image_size is None else f"-{options.image_size}px"
        what += "" if options.train_images is None else f"-{options.train_images}-images"
        return options.out / "ablations" / self.ablation.name / what

    @property
    def seeds(self) -> range:
        """Of each arm."""
        return range(self.plan.first_seed, self.plan.first_seed + self.plan.seeds)

    @property
    def device(self) -> torch.device:
        """Where probes run."""
        return probing_device(self.options.trainer)

    @property
    def probes(self) -> tuple[Probe, ...]:
        """What a foreign network is asked."""
        return tuple(probe for probe in self.plan.probes if probe.asks_foreign)

    def jobs_of(self, arm: Arm) -> list[Job]:
        """The jobs of an arm, by seed."""
        return [job for job in self.jobs if job.arm == arm.name]

    @cached_property
    def groups(self) -> list[list[tuple[int, Job]]]:
        """The jobs with their indices, those that share a run together, in the order of the jobs."""
        by_run: dict[str, list[tuple[int, Job]]] = {}
        for index, job in enumerate(self.jobs):
            by_run.setdefault(job.run.name, []).append((index, job))
        return list(by_run.values())
