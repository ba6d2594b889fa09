"""Asking a trained network: what a probe is given, what it answers, and the file that keeps the answers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ablations.harness.ablation import Ablation
from ablations.harness.records import Record, Records, read_csv, write_csv
from ablations.harness.runs import digest
from datamodules.images import ImageData
from modules import Network
from modules.weights import load_weights


class Measurement(NamedTuple):
    """One value that a probe measured; point: as `records.point` writes it."""

    point: str
    metric: str
    value: float
    unit: str


@dataclass(frozen=True)
class Subject:
    """A trained network with all that a probe may use.

    settings: the plan's. seed: the run's; a probe draws from generators seeded by it. on_pass: to be called after each
    pass over a batch, for the progress bar. snapshots: epoch -> weights after it, as many as the plan asks for.
    folder: where a probe may keep files while it works and for the figures. processes: how many it may use.
    """

    network: Network
    data: ImageData
    settings: Mapping[str, Any]
    arm: str
    seed: int
    device: torch.device
    on_pass: Callable[[], object] = lambda: None
    snapshots: Mapping[int, Path] = field(default_factory=dict)
    folder: Path = Path("probes")
    processes: int = 1

    def at(self, epoch: int) -> Network:
        """A copy of the network with its weights after that epoch; raises KeyError for one that was not kept."""
        network = copy.deepcopy(self.network)
        load_weights(network, self.snapshots[epoch])
        return network


def answers_file(ablation: Ablation, settings: Mapping[str, Any], arm: str, run_folder: Path) -> Path:
    """Where the answers of one arm's network to one ablation's probe lie; other settings are another file.

    By arm, because a probe may ask the baseline more than the others, and two arms may share a run.
    """
    return run_folder / "probes" / f"{ablation.name}-{digest({**settings, 'arm': arm})}.csv"


def kept_folder(ablation: Ablation, settings: Mapping[str, Any], arm: str, run_folder: Path) -> Path:
    """Where the probe keeps files beside those answers; it need not exist."""
    return answers_file(ablation, settings, arm, run_folder).with_suffix("")


def ask(ablation: Ablation, subject: Subject, run: str, run_folder: Path) -> Records:
    """The probe's records on the subject, read from their file where the same question was asked before."""
    kept = answers_file(ablation, subject.settings, subject.arm, run_folder)
    if kept.exists():
        return read_csv(kept)
    measured: Iterable[Measurement] = ablation.probe(subject)
    rows = Records(Record(ablation.name, subject.arm, subject.seed, *m, run) for m in measured)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_csv(kept, rows)
    return rows
