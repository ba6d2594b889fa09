"""How large the gradients of the first and the last weights are: figure 7 of Huang et al. 2016, arXiv:1603.09382."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

    from modules import Network

GRADIENT, LAST = "gradient/mean_absolute", "gradient/mean_absolute_of_last"


@dataclass(frozen=True, kw_only=True)
class FirstGradient(Probe):
    """Mean absolute gradients of block 1's first convolution and of the classifier, after evenly spread epochs.

    The classifier is never skipped: its gradient tells what of the other's size comes from the loss alone. They are
    taken on whole batches of `batch_size` among `limit` training images without augmentation, with blocks skipped at
    random as in training; the paper does not say on which images. snapshots: epochs.
    """

    batch_size: int
    limit: int
    snapshots: int = 21
    units = {GRADIENT: "", LAST: ""}
    version = 2
    asks_foreign = False

    def __post_init__(self) -> None:
        refuse_below(self, batch_size=1, limit=self.batch_size)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        found = subject.data.evaluation_batches("train", self.batch_size, subject.device, self.limit)
        batches = [batch for batch in found if len(batch[1]) == self.batch_size]
        for epoch in subject.snapshots:
            network = subject.at(epoch)
            weights = (first_convolution(network), classifier(network))
            sizes = mean_absolute_gradients(network, weights, batches, subject.seed)
            for metric, size in zip(self.units, sizes, strict=True):
                yield Measurement(point("gradient", epoch=epoch), metric, size)
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


def classifier(network: Network) -> Tensor:
    """The weight of the network's last linear layer; raises ValueError if it has none."""
    from torch import nn

    layers = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError("the network holds no linear layer")
    return layers[-1]


def mean_absolute_gradients(
    network: Network, weights: Sequence[Tensor], batches: Iterable[tuple[Tensor, Tensor]], seed: int
) -> list[float]:
    """Mean over each weight's entries and over batches of |gradient of the batch's mean cross-entropy|.

    batches: (images (N, C, H, W), labels (N,)). The network is computed as it is trained: batch norm with the batch's
    own statistics (whose running means move), and blocks skipped at random, drawn from `seed`. A batch that skips the
    weight's block counts as 0. Raises ValueError without a batch.
    """
    import torch
    from torch import nn

    totals, count = [0.0] * len(weights), 0
    devices = [weights[0].device] if weights[0].is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        was_training = network.training
        network.train()
        for images, labels in batches:
            loss = nn.functional.cross_entropy(network(images), labels)
            gradients = torch.autograd.grad(loss, weights)
            totals = [total + each.abs().mean().item() for total, each in zip(totals, gradients, strict=True)]
            count += 1
        network.train(was_training)
    if not count:
        raise ValueError("no batches to take the gradient of")
    return [total / count for total in totals]
