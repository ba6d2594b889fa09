"""What guessing scores: the level below which a network has learned nothing, for measures on the way to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point


@dataclass(frozen=True, kw_only=True)
class Chance(Probe):
    """Loss in nats and top-1 error in % of guessing among the classes, on the images of training and of the test."""

    units = {"train/loss": "nats", "train/top1_error": "%", "test/top1_error": "%"}
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        classes = subject.data.num_classes
        yield Measurement(point("chance"), "train/loss", math.log(classes))
        for metric in ("train/top1_error", "test/top1_error"):
            yield Measurement(point("chance"), metric, 100.0 - 100.0 / classes)
