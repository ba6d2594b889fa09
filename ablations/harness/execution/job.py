"""A job: one run with its questions, as plain data. A file holds it, and any process performs it from that alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

import datamodules
from ablations.harness.declare import probe as probes
from ablations.harness.declare.probe import Probe
from ablations.harness.execution.asking import Asked
from ablations.harness.store.files import write_json
from ablations.harness.store.runs import Run, snapshot_files, weights_noted
from datamodules.images import ImageData
from modules.training.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """One arm with one seed: the run that answers for it, on which data, and what it is asked.

    ablation, budget, claims: what trackers are told. load, make: arguments of `datamodules.load` and, unless empty,
    `datamodules.make`. out: root of everything written. fresh: a finished run is trained again. processes: how many
    a probe may use. trains_only: the run is told by its training loss, its test error is not looked at. is_first: its
    seed is the first of the plan's, see `Subject`.
    """

    ablation: str
    budget: str
    claims: tuple[str, ...]
    arm: str
    run: Run
    load: Mapping[str, Any]
    make: Mapping[str, Any]
    probes: tuple[Probe, ...]
    out: Path
    wandb: str = "disabled"
    wandb_weights: bool = False
    fresh: bool = False
    processes: int = 1
    trains_only: bool = False
    is_first: bool = True

    @property
    def label(self) -> str:
        """What a user is told that it is."""
        return self.arm if self.trains_only else f"{self.arm} seed {self.run.seed}"

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.run.folder(self.out)

    @property
    def data(self) -> ImageData:
        """What the network is trained, tested and asked on."""
        return loaded(self.load, self.make)

    @property
    def device(self) -> torch.device:
        """Where probes run: one GPU if there is one and the options do not say otherwise."""
        return probing_device(self.run.trainer)

    @property
    def asked(self) -> Asked:
        """Where the answers of its network are kept."""
        weights = weights_noted(self.folder)
        return Asked(
            self.ablation, self.arm, self.run.seed, self.run.name, self.folder, weights, is_first=self.is_first
        )

    @property
    def snapshots(self) -> tuple[int, ...]:
        """How many times in training each probe wants the weights kept."""
        return tuple(sorted({probe.num_snapshots for probe in self.probes} - {0}))

    def snapshot_files(self, folder: Path) -> dict[int, Path]:
        """Epoch -> file in a run's folder of the weights after it, as many as the probes want."""
        return snapshot_files(folder, self.run.recipe.epochs, self.snapshots)

    def written(self) -> dict[str, Any]:
        """The job as plain values."""
        return {
            **{each.name: getattr(self, each.name) for each in fields(self)},
            "claims": list(self.claims),
            "run": {**asdict(self.run), "data": dict(self.run.data)},
            "load": dict(self.load),
            "make": dict(self.make),
            "probes": [probes.written(probe) for probe in self.probes],
            "out": str(self.out),
        }


def read(said: Mapping[str, Any]) -> Job:
    """The job that `Job.written` wrote."""
    recipe = said["run"]["recipe"]
    run = Run(**{**said["run"], "recipe": Recipe(**{**recipe, "milestones": tuple(recipe["milestones"])})})
    asked = tuple(probes.read(each) for each in said["probes"])
    changed = {"run": run, "probes": asked, "out": Path(said["out"]), "claims": tuple(said["claims"])}
    return Job(**{**said, **changed})


def write(job: Job, file: Path, **more: Any) -> None:
    """Writes the job to a JSON file; more: plain values beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"job": job.written(), **more})


def loaded(load: Mapping[str, Any], make: Mapping[str, Any]) -> ImageData:
    """The data of jobs, by the arguments of `datamodules.load` and `datamodules.make`."""
    return source(json.dumps(dict(load), sort_keys=True))(json.dumps(dict(make), sort_keys=True))


@lru_cache(maxsize=1)  # jobs come seed by seed: of what a seed draws for itself, one seed's is enough to hold
def source(load: str) -> Callable[[str], ImageData]:
    """What gives the data that are made of others, each made once, as long as no others are loaded."""
    data = datamodules.load(**json.loads(load))
    return cache(lambda make: data if make == "{}" else datamodules.make(data, **json.loads(make)))


def probing_device(trainer: Mapping[str, Any]) -> torch.device:
    """Where probes run, by the options of lightning.Trainer: one GPU if there is one and they do not say otherwise."""
    cpu = trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
    return torch.device("cpu" if cpu else "cuda")
