"""Norms of the gradient at each block of a network, by the block's output and by its weights.

All passes are in training mode, with the batch's own statistics, as the gradients of training are; they run on copies,
so that no running statistic of the given network moves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

    from modules import Network

ACTIVATION_NORM, PARAMETER_NORM = "gradient/activation", "gradient/parameters"


@dataclass(frozen=True, kw_only=True)
class BlockGradients(Probe):
    """Norms at each block on `limit` training images, always the same, after evenly spread epochs of training.

    snapshots: epochs; a network that was given with its weights is asked once.
    """

    batch_size: int = 64
    limit: int = 256
    snapshots: int = 5
    units = {ACTIVATION_NORM: "", PARAMETER_NORM: ""}

    def __post_init__(self) -> None:
        refuse_below(self, batch_size=1, limit=1, snapshots=2)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        batches = list(subject.data.evaluation_batches("train", self.batch_size, subject.device, limit=self.limit))
        for epoch in subject.snapshots or (0,):
            network = subject.at(epoch) if subject.snapshots else subject.network
            norms = block_norms(network, batches, subject.on_pass)
            for position, (name, found) in enumerate(norms.items(), start=1):
                where = point("gradient", epoch=epoch, position=position, block=name)
                for metric, norm in zip(self.units, found, strict=True):
                    yield Measurement(where, metric, norm)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Forward and backward are worth three."""
        return 3.0 * self.snapshots * self.limit


def forward(network: Network, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The output of each block of the chain by name, gradients included, and the logits (N, classes)."""
    x = network.stem(images)
    outputs = {}
    for name in network.order:
        x = network.block(name)(x)
        outputs[name] = x
    return outputs, network.head(x)


def block_norms(
    network: Network, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, tuple[float, float]]:
    """Block of the chain -> L2 norms of the gradient of a batch's mean loss, the mean over batches (images, labels).

    The first is that by the block's output (all images at once), the second that by its weights.
    Raises ValueError if there are no batches.
    """
    import torch

    network = copy.deepcopy(network).train()
    owners = {name: list(network.block(name).parameters()) for name in network.order}
    weights = [weight for owned in owners.values() for weight in owned]
    sums = {name: [0.0, 0.0] for name in network.order}
    count = 0
    for images, labels in batches:
        outputs, logits = forward(network, images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        found = torch.autograd.grad(loss, [*outputs.values(), *weights])
        remaining = iter(found[len(outputs) :])
        for name, gradient in zip(outputs, found, strict=False):
            squares = [next(remaining).square().sum() for _ in owners[name]]
            sums[name][0] += gradient.norm().item()
            sums[name][1] += float(torch.stack(squares).sum().sqrt()) if squares else 0.0
        count += 1
        on_pass()
    if not count:
        raise ValueError("no batches to take gradients of")
    return {name: (output / count, own / count) for name, (output, own) in sums.items()}
