"""What a network errs as it is, for whom no other question says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject

ERROR = "test/top1_error"


@dataclass(frozen=True, kw_only=True)
class Intact(Probe):
    """The error of a network that classifies, on at most `limit` test images; nothing of another one."""

    limit: int = 2000
    units = {ERROR: "%"}
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        import torch

        wrong = total = 0
        with torch.no_grad():
            for images, labels in subject.data.evaluation_batches("test", device=subject.device, limit=self.limit):
                logits = subject.network(images)
                if logits.ndim != 2 or labels.ndim != 1:
                    return
                wrong += int((logits.argmax(dim=1) != labels).sum())
                total += len(labels)
        yield Measurement("intact", ERROR, 100.0 * wrong / total)

    def evaluations(self, blocks: int, num_test: int) -> float:
        return min(self.limit, num_test)
