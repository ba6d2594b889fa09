"""Which numbers of several digits are read wrong, and at which place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.images import ImageData


@dataclass(frozen=True, kw_only=True)
class NumberErrors(Probe):
    """% of test numbers with a wrong digit at each place, and % wrong among the numbers of each length."""

    units = {"error": "%"}
    passes = 1.0
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Places are counted from 1; behind the last digit the null class is right."""
        import torch

        parts = []
        with torch.no_grad():
            for images, labels in subject.data.evaluation_batches("test", device=subject.device):
                parts.append((subject.network(images).argmax(dim=1) != labels).cpu())
                subject.on_pass()
        wrong, length = torch.cat(parts), lengths(subject.data)
        for place, share in enumerate(wrong.double().mean(dim=0).tolist(), start=1):
            yield Measurement(point("place", place=place), "error", 100.0 * share)
        for number in length.unique().tolist():
            share = wrong[length == number].any(dim=1).double().mean().item()
            yield Measurement(point("length", length=number), "error", 100.0 * share)


def lengths(data: ImageData) -> Tensor:
    """Digits of each test number: int64 (N,); the last class is that of no digit."""
    return (data.test.labels != data.num_classes - 1).sum(dim=1)
