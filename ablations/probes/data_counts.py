"""What data are, in numbers: for claims that need many test images, or colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point


@dataclass(frozen=True, kw_only=True)
class DataCounts(Probe):
    """How many test images there are, and how many channels an image has."""

    units = {"test_images": "", "channels": ""}
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        yield Measurement(point("data"), "test_images", float(len(subject.data.test)))
        yield Measurement(point("data"), "channels", float(subject.data.in_channels))
