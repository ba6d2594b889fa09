"""What the blocks of a network give for an input, by name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from modules.blocks.network import Network, evaluating


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


def shapes(network: Network, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape that `stem`, each block of the chain and `head` give for one sample of shape `input_shape` (C, H, W).

    Computed on the network's own device; free on the meta device.
    """
    x = torch.zeros(1, *input_shape, device=next(network.parameters()).device)
    with torch.no_grad(), evaluating(network):
        found = {"stem": (x := network.stem(x)).shape}
        for name in network.order:
            found[name] = (x := network.block(name)(x)).shape
        found["head"] = network.head(x).shape
    return {name: tuple(shape[1:]) for name, shape in found.items()}


def _keep(found: dict[str, Tensor], name: str, block: nn.Module, inputs: object, output: Tensor) -> None:
    found[name] = output
