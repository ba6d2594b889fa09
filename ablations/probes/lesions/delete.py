"""Blocks deleted and shuffled at test time: Veit, Wilber & Belongie 2016, arXiv:1605.06431, section 4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below, refuse_unknown
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from ablations.probes.lesions.lesions import Chain

UNITS = {"test/top1_error": "%", "train/top1_error": "%"}


@dataclass(frozen=True, kw_only=True)
class DeleteEach(Probe):
    """Error of the network as it is, and with each block deleted in turn: figure 3.

    split: whose images, train or test; limit: so many of them, None for all. shortcuts: whether blocks that add lose
    their shortcut as well, in place of their branch, a control. stem_layers: in front of the first block, where each
    block is a layer: points then say its `layer` in place of its position and whether it changes the shape.
    """

    split: Literal["train", "test"] = "test"
    limit: int | None = None
    shortcuts: bool = False
    stem_layers: int = 0
    units = UNITS

    def __post_init__(self) -> None:
        refuse_below(self, limit=1, stem_layers=0)
        refuse_unknown(self, split=("train", "test"))

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        from ablations.probes.lesions.lesions import chain

        network = subject.network
        chains = {point("intact"): chain(network)}
        for position, (name, block) in enumerate(network.named_blocks(), start=1):
            where: dict[str, object] = {"position": position, "changes_shape": block.changes_shape}
            if self.stem_layers:
                where = {"layer": position + self.stem_layers}
            chains[point("delete", block=name, **where)] = chain(network, {name: "shortcut"})
            if self.shortcuts and block.merge == "add":
                chains[point("delete_shortcut", block=name, **where)] = chain(network, {name: "branch"})
        return errors(subject, chains, self.split, self.limit)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Common beginnings are computed once, which halves each deletion; a training set is larger."""
        images = self.limit or num_test * (5 if self.split == "train" else 1)
        return (1 + blocks / 2 * (2 if self.shortcuts else 1)) * images


@dataclass(frozen=True, kw_only=True)
class LesionsAtRandom(Probe):
    """Test error with 1 to `most_deleted` random blocks deleted, and with blocks of one shape shuffled: figure 5.

    draws: of each number of deleted blocks. reorderings: orders, of 1 to `most_swaps` exchanges in turn. limit: so
    many test images, None for all.
    """

    most_deleted: int = 20
    draws: int = 100
    reorderings: int = 200
    most_swaps: int = 20
    limit: int | None = None
    units = UNITS

    def __post_init__(self) -> None:
        refuse_below(self, most_deleted=0, draws=0, reorderings=0, most_swaps=1, limit=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        import torch
        from scipy.stats import kendalltau

        from ablations.probes.lesions import lesions

        network, draws = subject.network, torch.Generator().manual_seed(subject.seed)
        names = list(network.blocks)
        chains = {}
        for k in range(1, min(self.most_deleted, len(names)) + 1):
            for draw in range(self.draws):
                chosen = [names[i] for i in torch.randperm(len(names), generator=draws)[:k].tolist()]
                where = point("delete_random", k=k, draw=draw)
                chains[where] = lesions.chain(network, dict.fromkeys(chosen, "shortcut"))
        images, _ = next(iter(subject.data.evaluation_batches("test", device=subject.device, limit=1)))
        groups = lesions.interchangeable(network, images)
        for draw in range(self.reorderings if groups else 0):
            swaps = 1 + draw % self.most_swaps
            order = lesions.swapped(names, groups, swaps, draws)
            tau = kendalltau(range(len(names)), [names.index(name) for name in order]).statistic
            chains[point("reorder", swaps=swaps, draw=draw, tau=round(float(tau), 6))] = lesions.chain(
                network, order=order
            )
        return errors(subject, chains, "test", self.limit)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Common beginnings are computed once, and deleted blocks cost nothing."""
        most = min(self.most_deleted, blocks)
        passes = 0.6 * most * self.draws * (1 - most / 2 / max(1, blocks)) + 0.9 * self.reorderings
        return passes * (self.limit or num_test)


def errors(
    subject: Subject, chains: Mapping[str, Chain], split: Literal["train", "test"], limit: int | None
) -> Iterator[Measurement]:
    """The error in % of each chain, by its point, on images of a split."""
    from ablations.probes.lesions.lesions import error_rates

    batches = subject.data.evaluation_batches(split, device=subject.device, limit=limit)
    found = error_rates(subject.network, list(chains.values()), batches, subject.on_pass)
    for where, error in zip(chains, found, strict=True):
        yield Measurement(where, f"{split}/top1_error", error)
