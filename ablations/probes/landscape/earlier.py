"""The surface around a network as it was in training: a control for networks that do not fit their images as well."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean

from ablations.harness.declare.probe import Measurement, Subject, refuse_below
from ablations.harness.store.records import point
from ablations.probes.activations.training_fit import fit
from ablations.probes.landscape.convexity import share_negative
from ablations.probes.landscape.plane import guessing
from ablations.probes.landscape.surface_file import axis
from ablations.probes.landscape.surface_probe import SurfaceProbe


@dataclass(frozen=True, kw_only=True)
class Earlier(SurfaceProbe):
    """What share of the surface is not convex around earlier states of a network, those nearest to losses in training.

    levels: these losses, in nats. steps, span, pairs: see `Plane`; the share is the mean over the pairs. snapshots: how
    many states there are to choose from.
    """

    units = {"train/loss": "nats", "share_nonconvex": "%"}
    asks_foreign = False
    levels: tuple[float, ...] = (0.1, 0.03)
    steps: int = 51
    span: float = 1.0
    pairs: int = 1
    snapshots: int = 31

    def __post_init__(self) -> None:
        super().__post_init__()
        axis((-self.span, self.span), self.steps)
        refuse_below(self, pairs=1, snapshots=3)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """A state that is nearest to several levels is asked once; the untrained one is none."""
        batches = self.batches(subject, "train")
        losses = {epoch: fit(subject.at(epoch), batches["train"])[0] for epoch in subject.snapshots if epoch}
        known = {epoch: math.log(loss) for epoch, loss in losses.items() if 0 < loss < math.inf}
        nearest = {min(known, key=lambda epoch: abs(known[epoch] - math.log(level))) for level in self.levels if known}
        for epoch in sorted(nearest):
            then = replace(subject, network=subject.at(epoch))
            shares = []
            for pair in range(self.pairs):
                name = f"earlier_{epoch}_{pair}" if pair else f"earlier_{epoch}"
                found, _ = self.random_plane(then, name, batches, self.steps, self.span, pair)
                shares.append(share_negative(found.computed["train/loss"], found.axes, guessing(subject)))
            yield Measurement(point("earlier", epoch=epoch), "train/loss", losses[epoch])
            yield Measurement(point("earlier", epoch=epoch), "share_nonconvex", mean(shares))

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Every state is evaluated once, and every point of every surface."""
        return 1.0 * (self.snapshots + len(self.levels) * self.pairs * self.steps**2) * self.limit
