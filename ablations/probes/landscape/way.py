"""How much of the way of training lies in planes through its end, and what the loss is like there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablations.harness.declare.probe import Measurement, Subject, refuse_below
from ablations.harness.store.records import point
from ablations.probes.landscape.surface_file import axis
from ablations.probes.landscape.surface_probe import SurfaceProbe


@dataclass(frozen=True, kw_only=True)
class Way(SurfaceProbe):
    """Shares and coordinates of the way in its two principal components and in two random directions, see `trajectory`.

    Beside them the share of a random walk with steps as long. steps: points along each side of the surfaces, of the
    first seed alone.
    """

    version = 2
    units = {"share/principal": "%", "share/random": "%", "share/random_walk": "%", "x": "", "y": ""}
    asks_foreign = False
    shows_first = True
    steps: int = 51
    snapshots: int = 31

    def __post_init__(self) -> None:
        super().__post_init__()
        axis((0.0, 1.0), self.steps)
        refuse_below(self, snapshots=3)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Planes are those of the parameters; what batch norm counts is left out."""
        from ablations.probes.landscape.trajectory import (
            plane_of,
            principal_plane,
            share_of_random_walk,
            step_lengths,
        )

        states = [subject.at(epoch).state_dict() for epoch in subject.snapshots]
        names = [name for name, _ in subject.network.named_parameters()]
        planes = {
            "principal": principal_plane(states, names),
            "random": plane_of(states, names, [self.direction(subject, number, "filter") for number in (0, 1)]),
        }
        for kind, plane in planes.items():
            yield Measurement(point("way"), f"share/{kind}", plane.share)
        walked = share_of_random_walk(step_lengths(states, names), subject.seed)
        yield Measurement(point("way"), "share/random_walk", walked)
        for kind, plane in planes.items():
            for epoch, place in zip(subject.snapshots, plane.coordinates.tolist(), strict=True):
                for metric, value in zip("xy", place, strict=True):
                    yield Measurement(point("way", plane=kind, epoch=epoch), metric, value)
            if subject.is_first:
                self.drawn(
                    subject, f"way_{kind}", self.batches(subject, "train"), plane.directions, self.steps,
                    spans(plane.coordinates), normalise="principal components" if kind == "principal" else "filter",
                )  # fmt: skip


def spans(coordinates: Any) -> list[tuple[float, float]]:
    """A quarter of the way's extent more on every side; at least a hundredth of the longer side, so never nothing."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = np.maximum(0.25 * (high - low), 0.01 * float((high - low).max()))
    return [(float(a - m), float(b + m)) for a, b, m in zip(low, high, margin, strict=True)]
