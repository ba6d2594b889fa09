"""What the blocks and other modules of a network give for an input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from modules.blocks.network import Network, evaluating

Key = TypeVar("Key")


def captured(network: nn.Module, modules: Mapping[Key, nn.Module], x: Tensor) -> dict[Key, Tensor]:
    """What each of these modules gives while the network computes x, in the order in which they are done.

    Nothing is detached: gradients flow as in a plain forward pass. No hook is left, also after an error.
    """
    found: dict[Key, Tensor] = {}
    with ExitStack() as hooks:
        for key, module in modules.items():
            hooks.enter_context(module.register_forward_hook(partial(_keep, found, key)))
        network.forward(x)
    return found


def features(network: Network, x: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The output of each named block, of the chain or inside another (default: of the whole chain), for images x.

    As `captured`. Raises ValueError for an unknown block.
    """
    names = list(network.blocks) if names is None else list(names)
    found = captured(network, {name: network.block(name) for name in names}, x)
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


def _keep(found: dict[Key, Tensor], key: Key, module: nn.Module, inputs: object, output: Tensor) -> None:
    found[key] = output
