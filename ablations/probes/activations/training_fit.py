"""How well a trained network fits images it was trained on: without augmentation, in evaluation mode.

The loss that a training curve shows is the mean over an epoch in which the weights changed, on augmented images, with
dropout at work. Asked of the finished network instead, a high training loss is the network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TrainingFit(Probe):
    """Loss and error of a network on training images, always the same; train_images: how many."""

    train_images: int
    units = {"train/loss": "nats", "train/top1_error": "%"}
    needs_blocks = False

    def __post_init__(self) -> None:
        refuse_below(self, train_images=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        images = subject.data.evaluation_batches("train", device=subject.device, limit=self.train_images)
        for metric, value in zip(self.units, fit(subject.network, images, subject.on_pass), strict=True):
            yield Measurement(point("trained_on"), metric, value)

    def evaluations(self, blocks: int, num_test: int) -> float:
        return self.train_images


def fit(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> tuple[float, float]:
    """Mean cross-entropy in nats and top-1 error in percent over all batches of (images (N, C, H, W), labels (N,)).

    In evaluation mode. on_pass: called after each batch. Raises ValueError if there are no samples.
    """
    import torch

    from modules.blocks.network import evaluating

    loss, wrong, total = 0.0, 0, 0
    with torch.no_grad(), evaluating(network):
        for images, labels in batches:
            logits = network(images).float()
            loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            wrong += int((logits.argmax(1) != labels).sum())
            total += len(labels)
            on_pass()
    if not total:
        raise ValueError("no samples to evaluate on")
    return loss / total, 100.0 * wrong / total
