"""Lengths of the paths through residual blocks: Veit, Wilber & Belongie 2016, arXiv:1605.06431, figure 6.

How many paths have a length, how large the gradient down one of them is, and, of both together, which lengths carry the
gradient. A length is the number of branches on a path, from 0 to the number of blocks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, quantiles

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

COUNT, NORM = "paths", "gradient/norm"
MASS = 0.95  # of the gradient, which the paper calls "almost all"
TENTHS = {"q10": 1, "q50": 5, "q90": 9}


@dataclass(frozen=True, kw_only=True)
class PathCounts(Probe):
    """Number of paths of each length, through the paper's 54 blocks and through a network all of whose blocks add."""

    units = {COUNT: ""}

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        import torch

        from ablations.probes.gradients.paths import counts_by_length
        from modules import build

        if not all_add(subject):
            return
        with torch.device("meta"):
            paper = build("preact_resnet110", subject.data.num_classes, subject.data.in_channels)
        for name, network in (("paths_of_54_blocks", paper), ("paths", subject.network)):
            for length, count in enumerate(counts_by_length(network)):
                yield Measurement(point(name, length=length), COUNT, float(count))


@dataclass(frozen=True, kw_only=True)
class PathNorms(Probe):
    """Norm of the gradient at the images down random paths of each length: mean and tenths over paths.

    Of a network all of whose blocks add, as it is trained, on batches of `batch_size` among `limit` training images
    without augmentation. draws: paths of a length; draws_untrained: the same of the network before training.
    """

    draws: int
    draws_untrained: int
    batch_size: int
    limit: int
    snapshots: int = 2
    units = dict.fromkeys((NORM, *(f"{NORM}_{name}" for name in TENTHS)), "")

    def __post_init__(self) -> None:
        refuse_below(self, draws=1, draws_untrained=1, batch_size=1, limit=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        import torch

        from ablations.probes.gradients.paths import sampled_norms

        if not all_add(subject):
            return
        batches = list(subject.data.evaluation_batches("train", self.batch_size, subject.device, self.limit))
        states = {"trained": (copy.deepcopy(subject.network), self.draws)}
        if 0 in subject.snapshots:
            states["untrained"] = (subject.at(0), self.draws_untrained)
        for state, (network, draws) in states.items():
            generator = torch.Generator().manual_seed(subject.seed)
            norms = sampled_norms(network.train(), batches, draws, generator, subject.on_pass)
            for length, values in norms.items():
                where = point("path", state=state, length=length)
                yield Measurement(where, NORM, mean(values))
                tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else values * 9
                for name, tenth in TENTHS.items():
                    yield Measurement(where, f"{NORM}_{name}", tenths[tenth - 1])

    def evaluations(self, blocks: int, num_test: int) -> float:
        """A path goes back through half of the blocks, in two states."""
        return float((blocks + 1) * (self.draws + self.draws_untrained) * self.batch_size)


def all_add(subject: Subject) -> bool:
    """Whether there are paths to choose among everywhere."""
    return all(block.merge == "add" for _, block in subject.network.named_blocks())


def shares(values: Sequence[float]) -> list[float]:
    """Each value as a share of their sum, in 0..1; empty if the sum is 0."""
    total = math.fsum(values)
    return [value / total for value in values] if total > 0 else []


def carried(counts: Sequence[float], norms: Sequence[float]) -> list[float]:
    """Share of the gradient that the paths of each length carry: their number times their mean norm."""
    return shares([count * norm for count, norm in zip(counts, norms, strict=False)])


def interval(mass: Sequence[float], least: float = MASS) -> tuple[int, int]:
    """First and last index of the fewest neighbours whose shares sum to `least` or more; the heaviest such.

    Raises ValueError if all of them sum to less.
    """
    for width in range(1, len(mass) + 1):
        sums = [math.fsum(mass[first : first + width]) for first in range(len(mass) - width + 1)]
        heaviest = max(sums)
        if heaviest >= least * (1 - 1e-12):
            first = sums.index(heaviest)
            return first, first + width - 1
    raise ValueError(f"{least} of the mass is more than there is, {math.fsum(mass)}")


def effective_share(counts: Sequence[float], norms: Sequence[float]) -> float | None:
    """Share in % of all paths in the shortest interval of lengths that holds MASS of the gradient."""
    if not (mass := carried(counts, norms)):
        return None
    first, last = interval(mass)
    return 100.0 * math.fsum(shares(counts)[first : last + 1])


def effective_length(counts: Sequence[float], norms: Sequence[float]) -> float | None:
    """Mean length of a path, weighed by the gradient that it carries, in % of the number of blocks."""
    mass = carried(counts, norms)
    return 100.0 * math.fsum(k * share for k, share in enumerate(mass)) / (len(mass) - 1) if len(mass) > 1 else None


def line(norms: Sequence[float]) -> tuple[float | None, float | None]:
    """Least squares of log10 norm on length: what one block more multiplies the norm by, and R^2.

    Lengths that carry nothing are left out; none of both for fewer than three.
    """
    points = [(length, math.log10(norm)) for length, norm in enumerate(norms) if norm > 0]
    if len(points) < 3:
        return None, None
    middle, level = (mean(values) for values in zip(*points, strict=True))
    spread_x, spread_y = math.fsum((x - middle) ** 2 for x, _ in points), math.fsum((y - level) ** 2 for _, y in points)
    slope = math.fsum((x - middle) * (y - level) for x, y in points) / spread_x
    return 10.0**slope, slope**2 * spread_x / spread_y if spread_y > 0 else 0.0
