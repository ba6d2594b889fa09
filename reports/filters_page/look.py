"""What every section of the page of `reports/filters.py` works with: two networks, images, and parts of a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ablations.probes.filters import maps
from datamodules.images import ImageData
from modules import Network
from reports.filters_page.tiles import Album, Tile

GIVEN, RANDOM = "this network", "random weights"
SEARCHED = 2000  # test images among which the patches are sought


class Row(NamedTuple):
    """Tiles side by side, with a label in front."""

    label: str
    tiles: list[Tile]


class Group(NamedTuple):
    """Rows under one heading."""

    title: str
    rows: list[Row]


class Table(NamedTuple):
    """A table of the page; every cell is text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """A section of the page; text: paragraphs. plots: wide pictures."""

    anchor: str
    title: str
    text: list[str]
    groups: list[Group] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Tile] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """A network, the same with random weights, and what they are shown.

    networks: GIVEN and RANDOM, in evaluation mode, out of place. layers: names of `maps.map_layers`. channels: of every
    layer, or empty for the strongest. images, labels: normalised test images to explain, with `predictions` of the
    given network. num_channels: how many of them a layer shows. error: of the given network, in % of at most 2000 test
    images.
    """

    networks: Mapping[str, Network]
    data: ImageData
    layers: list[str]
    all_layers: list[str]
    channels: tuple[int, ...]
    num_channels: int
    images: Tensor
    labels: Tensor
    predictions: Tensor
    error: float
    seed: int
    album: Album

    def shown(self, images: Tensor) -> Tensor:
        """Normalised images (..., C, H, W) as the data has them, in 0..1."""
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.data.mean, self.data.std))
        return (images * std + mean).clamp(0, 1)

    def normalised(self, images: Tensor) -> Tensor:
        """The inverse of `shown`."""
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.data.mean, self.data.std))
        return (images - mean) / std

    @cached_property
    def searched(self) -> list[tuple[Tensor, Tensor]]:
        """Batches of test images among which the strongest patches are sought."""
        device = next(self.networks[GIVEN].parameters()).device
        return list(self.data.evaluation_batches("test", batch_size=250, device=device, limit=SEARCHED))

    @cached_property
    def peaks(self) -> dict[str, dict[str, maps.Peaks]]:
        """Of both networks the peaks of every layer."""
        return {who: maps.peaks(network, self.layers, self.searched) for who, network in self.networks.items()}

    @cached_property
    def chosen(self) -> dict[str, list[int]]:
        """Of every layer the channels that are shown, the same for both networks."""
        if self.channels:
            return {name: list(self.channels) for name in self.layers}
        return maps.strongest(self.peaks[GIVEN], self.num_channels)
