"""How large the gradient of one weight is in training: figure 7 of Huang et al. 2016, arXiv:1603.09382."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from modules import Network


def first_convolution(network: Network) -> Tensor:
    """The weight of the first convolution of the network's first block; raises ValueError if it has none."""
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
