"""Paths side by side on the same input, each of them a block, so that every path can be deleted by its name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modules.blocks.block import Block


class Zeros(nn.Module):
    """What is left of a deleted path: (N, C, H, W) to zeros (N, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.channels, *x.shape[2:])

    def extra_repr(self) -> str:
        return str(self.channels)


class Parallel(nn.ModuleDict):
    """Concatenates along the channels what its paths make of the same input, in their order.

    Maps (N, C, H, W) to (N, sum of the paths' channels, H', W'). Paths keep their names: `inception3a.branch.5x5`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.values()], dim=1)


def parallel(paths: Mapping[str, tuple[nn.Module, int]]) -> Parallel:
    """Paths by name, each with the number of channels it gives; a deleted one gives as many zeros.

    Every path keeps the resolution. Raises ValueError if there is no path.
    """
    if not paths:
        raise ValueError("parallel paths need at least one path")
    return Parallel({name: Block(path, Zeros(channels), merge="replace") for name, (path, channels) in paths.items()})
