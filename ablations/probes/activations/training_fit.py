"""How well a trained network fits images it was trained on: without augmentation, in evaluation mode.

The loss that a training curve shows is the mean over an epoch in which the weights changed, on augmented images, with
dropout at work. Asked of the finished network instead, a high training loss is the network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.blocks.network import evaluating


class Fit(NamedTuple):
    """loss: mean cross-entropy in nats; error: top-1 error in percent."""

    loss: float
    error: float


def fit(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> Fit:
    """Of the network in evaluation mode over all batches of (images (N, C, H, W), labels (N,)).

    on_pass: called after each batch. Raises ValueError if there are no samples.
    """
    loss, wrong, total = 0.0, 0, 0
    with torch.no_grad(), evaluating(network):
        for images, labels in batches:
            logits = network(images).float()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            wrong += int((logits.argmax(1) != labels).sum())
            total += len(labels)
            on_pass()
    if not total:
        raise ValueError("no samples to evaluate on")
    return Fit(loss / total, 100.0 * wrong / total)
