"""Asking a network the questions of probes, or reading what it answered when it was asked before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.harness.declare.probe import Probe, Subject
from ablations.harness.runtime import say
from ablations.harness.store import answers
from ablations.harness.store.records import Record, Records, read_csv
from ablations.harness.store.runs import snapshot_epochs


@dataclass(frozen=True)
class Asked:
    """Whose answers are kept where.

    ablation, arm, seed, run: what a record says of itself. folder: of the run. weights: digest of the network's, ""
    where it is not known. shown: what answers depend on beside a probe's settings, of a foreign network.
    is_first: see `Subject`.
    """

    ablation: str
    arm: str
    seed: int
    run: str
    folder: Path
    weights: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    is_first: bool = True

    def file(self, probe: Probe) -> Path:
        """Where the answers to a probe lie."""
        # Seed 0 is the first wherever it occurs; of another one the same network may have answered with less.
        more = {"first_seed": True} if probe.shows_first and self.is_first and self.seed else {}
        return answers.answers_file(self.folder, probe.name, probe.version, {**probe.settings, **self.shown, **more})

    def has(self, probes: Iterable[Probe]) -> bool:
        """Whether all of them were answered, and nothing of it is damaged."""
        return not any(answers.damage(self.file(probe), self.weights) for probe in probes)

    def answers(self, probe: Probe) -> list[Record]:
        """The answers that are kept, as records of this arm."""
        return [
            replace(row, ablation=self.ablation, arm=self.arm, seed=self.seed, run=self.run)
            for row in read_csv(self.file(probe))
        ]


def ask(asked: Asked, probes: Sequence[Probe], subject: Subject) -> tuple[list[Record], list[Record]]:
    """The answers to all probes, and those of them that are new.

    subject: with all snapshots that are kept, of which a probe sees those that it wants. Answers that are damaged, or
    of other weights, are said to be and asked for again.
    """
    found: list[Record] = []
    new: list[Record] = []
    for probe in probes:
        file = asked.file(probe)
        wrong = answers.damage(file, asked.weights)
        if not wrong:
            found += asked.answers(probe)
            continue
        if file.exists():
            say(f"  {asked.arm} seed {asked.seed}: {wrong}; asked again")
        answers.remove_damaged(file, asked.weights)
        mine = replace(subject, folder=answers.kept_beside(file), snapshots=_wanted(subject, probe))
        rows = [
            Record(asked.ablation, asked.arm, asked.seed, point, metric, value, probe.units[metric], asked.run)
            for point, metric, value in probe.ask(mine)
        ]
        answers.keep(file, Records(rows), asked.weights)
        found += rows
        new += rows
    return found, new


def _wanted(subject: Subject, probe: Probe) -> dict[int, Path]:
    """The subject's snapshots that the probe wants: evenly spread ones, and all where it wants as many as there are."""
    if not subject.snapshots:
        return {}
    return {epoch: subject.snapshots[epoch] for epoch in snapshot_epochs(max(subject.snapshots), probe.num_snapshots)}
