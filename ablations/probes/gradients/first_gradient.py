"""How large the gradient of one weight is in training: figure 7 of Huang et al. 2016, arXiv:1603.09382."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

    from modules import Network

GRADIENT = "gradient/mean_absolute"


@dataclass(frozen=True, kw_only=True)
class FirstGradient(Probe):
    """Mean absolute gradient of the first convolution of block 1, after evenly spread epochs of training.

    It is taken on whole batches of `batch_size` among `limit` training images without augmentation, with blocks
    skipped at random as in training; the paper does not say on which images. snapshots: epochs.
    """

    batch_size: int
    limit: int
    snapshots: int = 21
    units = {GRADIENT: ""}
    asks_foreign = False

    def __post_init__(self) -> None:
        refuse_below(self, batch_size=1, limit=self.batch_size)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        found = subject.data.evaluation_batches("train", self.batch_size, subject.device, self.limit)
        batches = [batch for batch in found if len(batch[1]) == self.batch_size]
        for epoch in subject.snapshots:
            network = subject.at(epoch)
            size = mean_absolute_gradient(network, first_convolution(network), batches, subject.seed)
            yield Measurement(point("gradient", epoch=epoch), GRADIENT, size)
            subject.on_pass()

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Forward and backward are worth three."""
        return 3.0 * self.snapshots * self.limit


def first_convolution(network: Network) -> Tensor:
    """The weight of the first convolution of the network's first block; raises ValueError if it has none."""
    from torch import nn

    name = network.order[0]
    for module in network.block(name).branch.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight
    raise ValueError(f"the branch of {name} holds no convolution")


def mean_absolute_gradient(
    network: Network, weight: Tensor, batches: Iterable[tuple[Tensor, Tensor]], seed: int
) -> float:
    """Mean over a weight's entries and over batches of |gradient of the batch's mean cross-entropy|.

    batches: (images (N, C, H, W), labels (N,)). The network is computed as it is trained: batch norm with the batch's
    own statistics (whose running means move), and blocks skipped at random, drawn from `seed`. A batch that skips the
    weight's block counts as 0. Raises ValueError without a batch.
    """
    import torch
    from torch import nn

    total, count = 0.0, 0
    devices = [weight.device] if weight.is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        was_training = network.training
        network.train()
        for images, labels in batches:
            loss = nn.functional.cross_entropy(network(images), labels)
            (gradient,) = torch.autograd.grad(loss, weight)
            total += gradient.abs().mean().item()
            count += 1
        network.train(was_training)
    if not count:
        raise ValueError("no batches to take the gradient of")
    return total / count
