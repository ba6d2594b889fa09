"""What a network costs: parameters and multiply-adds."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """parameters: trainable ones; multiply_adds: per sample, of convolutions and linear layers, as papers count."""

    parameters: int
    multiply_adds: int


def cost(network: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Counts one forward pass over a single sample of shape `input_shape` (C, H, W), without memory or time."""
    on_meta = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on_meta(torch.empty(1, *input_shape, device="meta"))
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Cost(parameters, counter.get_total_flops() // 2)
