"""The layers of a network that give maps: their names, their outputs for images, and where they answer most.

A layer is the stem or a block of the chain, by its name; a block that ends in flattening is represented by its branch,
`conv3.branch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.blocks.features import captured
from modules.blocks.network import Network, evaluating


class Peaks(NamedTuple):
    """Of one layer for every image and channel: the greatest value (N, C), and its row and column in the map."""

    values: Tensor
    rows: Tensor
    columns: Tensor


def layer(network: Network, name: str) -> nn.Module:
    """The module of a layer's name; raises AttributeError for one that is not there."""
    return network.stem if name == "stem" else network.blocks.get_submodule(name)


def map_layers(network: Network, example: Tensor) -> dict[str, tuple[int, int, int]]:
    """Every layer that gives maps of more than one pixel for an image (1, C, H, W): name -> shape (C, H, W)."""
    stem = [] if type(network.stem) is nn.Identity else ["stem"]
    candidates = [*stem, *(candidate for name in network.order for candidate in (name, f"{name}.branch"))]
    with torch.no_grad(), evaluating(network):
        found = outputs(network, candidates, example)
    shapes = {name: tuple(y.shape[1:]) for name, y in found.items() if y.dim() == 4 and y.shape[2] * y.shape[3] > 1}
    return {
        name: (shape[0], shape[1], shape[2])
        for name, shape in shapes.items()
        if not name.endswith(".branch") or name.removesuffix(".branch") not in shapes
    }


def spread(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of the names, evenly spread, with the first and the last."""
    if len(names) <= count:
        return list(names)
    return [names[round(index * (len(names) - 1) / (count - 1))] for index in range(count)]


def outputs(network: Network, names: Iterable[str], x: Tensor) -> dict[str, Tensor]:
    """What the named layers give for images (N, C, H, W), as `captured`."""
    return captured(network, {name: layer(network, name) for name in names}, x)


def peaks(network: Network, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Peaks]:
    """The peaks of the named layers over batches of (images, labels), on the CPU."""
    parts: dict[str, list[Peaks]] = {name: [] for name in names}
    with torch.no_grad(), evaluating(network):
        for images, _ in batches:
            for name, y in outputs(network, names, images).items():
                values, places = y.flatten(2).max(dim=2)
                width = y.shape[3]
                parts[name].append(Peaks(values.cpu(), (places // width).cpu(), (places % width).cpu()))
    return {name: Peaks(*(torch.cat(column) for column in zip(*rows, strict=True))) for name, rows in parts.items()}


def strongest(found: Mapping[str, Peaks], count: int) -> dict[str, list[int]]:
    """For every layer the channels with the greatest peaks, at most `count`, in their own order."""
    chosen = {}
    for name, peak in found.items():
        best = peak.values.amax(dim=0)
        chosen[name] = sorted(best.topk(min(count, len(best))).indices.tolist())
    return chosen
