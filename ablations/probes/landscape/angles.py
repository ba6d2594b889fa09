"""How far from orthogonal two random directions are, beside what their number of entries lets expect."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from typing import get_args

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below, refuse_unknown
from ablations.harness.store.records import point
from ablations.probes.landscape.surface_file import Normalise, Vectors
from ablations.probes.landscape.surface_probe import direction_seed

NORMALISATIONS: tuple[Normalise, ...] = ("filter", "none")


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
