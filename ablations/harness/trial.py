"""The trial of an ablation as a value: its arms and jobs, on what data and with which options.

`ablations.harness.prepare` makes it, `ablations.harness.execution.execute` carries it out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan
from ablations.harness.foreign.network import Stranger
from ablations.harness.search import Search
from ablations.harness.store.runs import Run
from datamodules.images import ImageData


@dataclass(frozen=True)
class Job:
    """One arm with one seed: the run that answers for it."""

    arm: Arm
    run: Run
    candidate: int | None = None  # its number in a search

    @property
    def label(self) -> str:
        what = f"seed {self.run.seed}" if self.candidate is None else f"candidate {self.candidate}"
        return f"{self.arm.name} {what}"


def data_key(arm: Arm) -> str:
    """Arms of one key share their data."""
    return json.dumps(arm.data, sort_keys=True)


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
    stranger: Stranger | None
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

    @cached_property
    def groups(self) -> list[list[int]]:
        """Indices of the jobs, those that share a run together, in the order of the jobs."""
        by_run: dict[str, list[int]] = {}
        for index, job in enumerate(self.jobs):
            by_run.setdefault(job.run.name, []).append(index)
        return list(by_run.values())
