"""How much of a network runs in training, where blocks are skipped at random (Huang et al. 2016, arXiv:1603.09382)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point


@dataclass(frozen=True, kw_only=True)
class Survival(Probe):
    """The share of the branches that a step of training runs, on average."""

    units = {"share_of_branches": "%"}

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Asks the design of the network, not its weights."""
        kept = [block.survival_prob for _, block in subject.network.named_blocks()]
        yield Measurement(point("survival"), "share_of_branches", 100.0 * mean(kept))
