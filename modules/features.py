"""What the blocks of a network give for an input, by name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from modules.network import Network


def features(network: Network, x: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The output of each named block, of the chain or inside another (default: of the whole chain), for images x.

    Nothing is detached: gradients flow as in a plain forward pass. No hook is left, also after an error.
    Raises ValueError for an unknown block.
    """
    names = list(network.blocks) if names is None else list(names)
    found: dict[str, Tensor] = {}

    handles = []
    try:
        for name in names:
            keep = partial(_keep, found, name)
            handles.append(network.block(name).register_forward_hook(keep))
        network.forward(x)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found[name] for name in names}


def _keep(found: dict[str, Tensor], name: str, block: nn.Module, inputs: object, output: Tensor) -> None:
    found[name] = output


def shapes(network: Network, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape that each block of the chain gives for one sample of shape `input_shape` (C, H, W)."""
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            found = features(network.eval(), torch.zeros(1, *input_shape, device=device))
    finally:
        for module, training in modes.items():
            module.training = training
    return {name: tuple(output.shape[1:]) for name, output in found.items()}
