"""What a network costs: parameters and multiply-adds."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """What a network costs per sample.

    parameters: trainable ones, without auxiliary heads, which are dropped after training. multiply_adds: of
    convolutions and linear layers alone, as papers count.
    """

    parameters: int
    multiply_adds: int


def cost(network: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Counts one forward pass over a single sample of shape `input_shape` (C, H, W), without memory or time."""
    # Only the tensors go to the meta device: a copy of the network would hold its weights a second time.
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    on_meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            functional_call(network, on_meta, (torch.empty(1, *input_shape, device="meta"),))
    finally:
        for module, mode in training.items():
            module.training = mode
    kept = (p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("auxiliary."))
    parameters = sum(p.numel() for p in kept)
    return Cost(parameters, counter.get_total_flops() // 2)
