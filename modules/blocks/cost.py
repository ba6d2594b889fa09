"""What a network costs: parameters and multiply-adds."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from modules.blocks.meta import QuickShapes
from modules.blocks.network import Network, evaluating


class Cost(NamedTuple):
    """What a network costs per sample.

    parameters: trainable ones, without auxiliary heads, which are dropped after training. multiply_adds: of
    convolutions and linear layers alone, as papers count.
    """

    parameters: int
    multiply_adds: int


def cost(network: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Counts one forward pass over a single sample of shape `input_shape` (C, H, W), without memory or time."""
    with QuickShapes() as counter:
        _pass_on_meta(network, input_shape)
    return Cost(_parameters(network), counter.multiply_adds)


def cost_by_part(network: Network, input_shape: tuple[int, ...]) -> dict[str, Cost]:
    """The cost of `stem`, of each block of the chain by its name, and of `head`; they add up to `cost`."""
    with FlopCounterMode(display=False) as counter, QuickShapes():
        _pass_on_meta(network, input_shape)
    counts = counter.get_flop_counts()
    parts = {"stem": "stem", **{name: f"blocks.{name}" for name in network.blocks}, "head": "head"}
    top = type(network).__name__
    return {
        name: Cost(_parameters(network.get_submodule(path)), sum(counts.get(f"{top}.{path}", {}).values()) // 2)
        for name, path in parts.items()
    }


def _pass_on_meta(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    # Only the tensors go to the meta device: a copy of the network would hold its weights a second time.
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    on_meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    with evaluating(network), torch.no_grad():
        functional_call(network, on_meta, (torch.empty(1, *input_shape, device="meta"),))


def _parameters(part: nn.Module) -> int:
    return sum(p.numel() for n, p in part.named_parameters() if p.requires_grad and not n.startswith("auxiliary."))
