"""Random directions: how much the loss rises along lines in them, and how far from orthogonal two of them are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import get_args

import numpy as np

from ablations.harness.declare.measure import Invented, Measure, computed
from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below, refuse_unknown
from ablations.harness.store.records import Records, point
from ablations.probes.landscape.convexity import mean_rise
from ablations.probes.landscape.surface_file import Normalise, Vectors, axis
from ablations.probes.landscape.surface_probe import SurfaceProbe, direction_seed

NORMALISATIONS: tuple[Normalise, ...] = ("filter", "none")


@dataclass(frozen=True, kw_only=True)
class Lines(SurfaceProbe):
    """Of each random line the mean rise of the training loss, see `convexity.mean_rise`; of normalised ones all losses.

    draws: lines of either kind. line_span: how far one reaches to either side. raw_span: without normalisation, where
    entries of a direction have a standard deviation of 1.
    """

    version = 2
    units = {"rise": "nats", "train/loss": "nats"}
    draws: int = 10
    line_steps: int = 21
    line_span: float = 0.5
    raw_span: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for span in (self.line_span, self.raw_span):
            axis((-span, span), self.line_steps)
        if self.line_steps % 2 == 0:
            raise ValueError(f"--probe.line_steps {self.line_steps}: give an odd number, so that one is the centre")
        refuse_below(self, draws=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        batches = self.batches(subject, "train")
        reaches = {self.normalise: self.line_span, "none": self.raw_span}
        for normalise, reach in reaches.items():
            for number in range(self.draws):
                found = self.drawn(
                    subject, f"line_{normalise}_{number}", batches, [self.direction(subject, number, normalise)],
                    self.line_steps, (-reach, reach),
                    normalise=normalise, direction_seeds=[direction_seed(subject, number)],
                )  # fmt: skip
                losses, where = found.values["train/loss"], {"normalise": normalise, "draw": number}
                yield Measurement(point("line", **where), "rise", mean_rise(losses, self.line_steps // 2))
                for at, loss in zip(found.axes[0], losses, strict=True) if normalise == self.normalise else ():
                    yield Measurement(point("line", **where, at=float(at)), "train/loss", float(loss))

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Every point of every line is a pass over the images."""
        return 2.0 * self.draws * self.line_steps * self.limit


def likeness(records: Records, arm: str) -> dict[int, float]:
    """Seed -> mean correlation of two normalised lines of a network, each as the logarithms of its losses."""
    lines: dict[int, dict[str, list[tuple[float, float]]]] = {}
    for row in records.where(arm, probe="line", metric="train/loss"):
        lines.setdefault(row.seed, {}).setdefault(row.fields["draw"], []).append((float(row.fields["at"]), row.value))
    found = {}
    for seed, by_draw in lines.items():
        losses = np.array([[loss for _, loss in sorted(points)] for points in by_draw.values()])
        with np.errstate(divide="ignore", invalid="ignore"):  # a loss that has no logarithm gives NaN
            pairs = np.corrcoef(np.log10(losses))[np.triu_indices(len(losses), 1)]
        found[seed] = float(pairs.mean())
    return found


def correlated(arm: str) -> Measure:
    """The mean correlation of two lines of a network."""

    def invent(value: float) -> Iterator[Invented]:
        along_first = max(-1.0, min(1.0, value))
        across = math.sqrt(1 - along_first**2)
        for draw, (odd, even) in enumerate([(1.0, 0.0), (along_first, across)]):
            for at in (-1, 0, 1):
                height = odd * at / math.sqrt(2) + even * (3 * at**2 - 2) / math.sqrt(6)
                yield arm, point("line", normalise="filter", draw=draw, at=at), "train/loss", 10**height

    says = f"mean correlation of the logarithms of the losses along two random lines of {arm}"
    return computed(says, "", partial(likeness, arm=arm), (arm,), invent)


@dataclass(frozen=True, kw_only=True)
class Angles(Probe):
    """The mean |cosine| of pairs of random directions, and sqrt(2 / (pi n)) of their n entries.

    pairs: of directions. vectors: see `random_direction`.
    """

    units = {"cosine/mean_absolute": "", "cosine/expected": ""}
    needs_blocks = False
    pairs: int = 100
    vectors: Vectors = "fixed"

    def __post_init__(self) -> None:
        refuse_unknown(self, vectors=get_args(Vectors))
        refuse_below(self, pairs=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """With filter normalisation and without any."""
        from ablations.probes.landscape.directions import cosine, random_direction

        for normalise in NORMALISATIONS:
            cosines = []
            for number in range(self.pairs):
                first, second = (
                    random_direction(
                        subject.network, direction_seed(subject, 1000 + 2 * number + each), normalise, self.vectors
                    )
                    for each in (0, 1)
                )
                cosines.append(abs(cosine(first, second)))
                subject.on_pass()
            entries = sum(part.numel() for part in first.values())
            where = point("angle", normalise=normalise)
            yield Measurement(where, "cosine/mean_absolute", mean(cosines))
            yield Measurement(where, "cosine/expected", math.sqrt(2 / (math.pi * entries)))
