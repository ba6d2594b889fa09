"""Directions in the space of weights: random ones of comparable length, and those from one network to another.

Li et al. 2018, "Visualizing the loss landscape of neural nets", arXiv:1712.09913, section 4: a Gaussian direction is
scaled filter by filter to the norm of the network's own filters, d_ij <- d_ij / |d_ij| * |theta_ij|, so that pictures
of networks with weights of different size can be compared. Biases and batch norm parameters are left where they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from ablations.probes.landscape.surface_file import Normalise, Vectors
from modules.blocks.layers import check_choice

Direction = Mapping[str, Tensor]
"""Name of a parameter or buffer, as in the state dict -> what is added to it at coordinate 1."""


def random_direction(
    network: nn.Module, seed: int, normalise: Normalise = "filter", vectors: Vectors = "fixed"
) -> dict[str, Tensor]:
    """A Gaussian direction over the network's parameters; the same seed gives the same on every device.

    normalise: "filter" gives the part of every output filter (for a linear layer: of every neuron) its filter's norm,
    "layer" that of every tensor its tensor's norm, "weight" multiplies every entry by its weight, "none" leaves the
    entries as they are drawn. vectors: whether tensors of one dimension or none (biases, batch norm) stay "fixed" or
    are "moved"; moved, one is normalised as a whole, because its filters would be single numbers.
    Raises ValueError for another word, or if the network has nothing to move.
    """
    check_choice("normalise", normalise, get_args(Normalise))
    check_choice("vectors", vectors, get_args(Vectors))
    generator = torch.Generator().manual_seed(seed)
    transposed = {
        f"{name}.weight" if name else "weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    }
    direction = {}
    for name, weight in network.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator)  # also for what stays, so that the rest is the same
        if weight.ndim < 2 and vectors == "fixed":
            continue
        scaled = _scaled(drawn, weight.detach().float().cpu(), normalise, 1 if name in transposed else 0)
        direction[name] = scaled.to(weight.device, weight.dtype)
    if not direction:
        raise ValueError("the network has no parameters to move along a direction")
    return direction


def _scaled(drawn: Tensor, weight: Tensor, normalise: Normalise, filters: int) -> Tensor:
    """The drawn entries scaled as asked; filters: the dimension that counts the output filters."""
    if normalise == "none":
        return drawn
    if normalise == "weight":
        return drawn * weight
    if normalise == "layer" or weight.ndim < 2:
        dimensions = tuple(range(weight.ndim))
    else:
        dimensions = tuple(each for each in range(weight.ndim) if each != filters)
    norms = [torch.linalg.vector_norm(each.double(), dim=dimensions, keepdim=True) for each in (weight, drawn)]
    return (drawn * (norms[0] / norms[1].clamp_min(1e-30))).float()


def between(network: nn.Module, other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The direction whose coordinate 1 is the other network, batch norm statistics included.

    other: its state dict. Raises ValueError naming the first tensor that does not fit.
    """
    state = network.state_dict()
    for name in state.keys() ^ other.keys():
        raise ValueError(f"the two networks have different shapes: {name} is in one of them only")
    direction = {}
    for name, here in state.items():
        if here.shape != other[name].shape:
            raise ValueError(
                f"the two networks have different shapes: {name} is {tuple(here.shape)} and {tuple(other[name].shape)}"
            )
        if here.is_floating_point():
            direction[name] = other[name].to(here.device, here.dtype) - here
    return direction


def refuse_misfits(network: nn.Module, direction: Direction) -> None:
    """Raises ValueError naming the first tensor that the direction moves and the network does not have like that."""
    state = network.state_dict()
    for name, offset in direction.items():
        if name not in state or state[name].shape != offset.shape:
            found = tuple(state[name].shape) if name in state else "not there"
            raise ValueError(f"a direction moves {name} of shape {tuple(offset.shape)}; in the network it is {found}")


def dot(first: Direction, second: Direction) -> float:
    """The scalar product over what both move, in double precision."""
    return sum(float((first[name].double() * second[name].double()).sum()) for name in first if name in second)


def cosine(first: Direction, second: Direction) -> float:
    """The cosine of the angle between two directions."""
    return dot(first, second) / math.sqrt(dot(first, first) * dot(second, second))


def moved(network: nn.Module, directions: Sequence[Direction], coordinates: Sequence[float]) -> nn.Module:
    """A copy of the network at these coordinates along the directions."""
    copied = copy.deepcopy(network)
    state = copied.state_dict()
    with torch.no_grad():
        for coordinate, direction in zip(coordinates, directions, strict=True):
            for name, offset in direction.items():
                state[name].add_(offset, alpha=coordinate)
    return copied
