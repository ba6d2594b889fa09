"""GoogLeNet: Szegedy et al. 2014, arXiv:1409.4842, table 1 (Inception v1), and its form for small images.

Nine Inception blocks, each a replace block whose branch holds parallel paths that are blocks again: `inception3a` is
deleted like any layer, `inception3a.branch.5x5` leaves zeros in that path's place. Pooling between stages belongs to
the block before it (`post`), the stem is everything before the first Inception block.

The auxiliary heads on 4a and 4d exist in training alone. They average over 5x5 windows at stride 3, a 4 x 4 grid at
224 pixels; for other sizes the result is averaged to 4 x 4, as their fully connected layer needs.

Where the paper is silent: local response normalisation is AlexNet's and stands where BVLC's Caffe model has it, pooling
rounds sizes up as there (224 pixels end at 7 x 7), and weights start from He normal, by fan-in, because fan-outs differ
so much between paths. `batch_norm=True` is the later form, as in torchvision: batch norm with eps 1e-3 after every
convolution, whose bias goes, and no response normalisation. torchvision's own has a 3x3 convolution in the 5x5 path by
mistake (`kernel=3`) and a 2x2 pool before 5a.
Differs from the paper: without Polyak averaging of the weights, and without its crops and colour changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import nn

from modules.architecture import Architecture, taking
from modules.blocks.block import Block, shape_match
from modules.blocks.layers import ResponseNorm, check_dropout, conv, keep_variance, named, sequence
from modules.blocks.network import InputSize, Network
from modules.blocks.parallel import parallel
from modules.training.recipe import HE2015_CIFAR, Recipe

PATHS = ("1x1", "3x3", "5x5", "pool")
AUXILIARY_AFTER = ("inception4a", "inception4d")
POOL_AFTER = ("inception3b", "inception4e")


class Channels(NamedTuple):
    """What a row of table 1 says of one Inception block."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int


TABLE1 = {
    "inception3a": Channels(64, 96, 128, 16, 32, 32),
    "inception3b": Channels(128, 128, 192, 32, 96, 64),
    "inception4a": Channels(192, 96, 208, 16, 48, 64),
    "inception4b": Channels(160, 112, 224, 24, 64, 64),
    "inception4c": Channels(128, 128, 256, 24, 64, 64),
    "inception4d": Channels(112, 144, 288, 32, 64, 64),
    "inception4e": Channels(256, 160, 320, 32, 128, 128),
    "inception5a": Channels(256, 160, 320, 32, 128, 128),
    "inception5b": Channels(384, 192, 384, 48, 128, 128),
}

SZEGEDY2014 = Recipe(
    epochs=250,
    batch_size=32,
    learning_rate=0.01,
    weight_decay=2e-4,
    schedule="exponential",
    final_fraction=0.96 ** (250 / 8),
    source="Szegedy et al. 2014, 1409.4842, section 6: momentum 0.9, the rate falls 4 % every 8 epochs (here evenly), "
    "auxiliary weight 0.3; the other numbers from BVLC's Caffe model; no Polyak averaging",
)
GOOGLENET_CIFAR = replace(
    HE2015_CIFAR,
    source="He et al. 2015, 1512.03385, section 4.2; Szegedy et al. 2014 have no CIFAR network, this is ours",
)


def _scaled(channels: int, width: int) -> int:
    """A channel count of table 1 for a stem of `width` channels instead of 64."""
    return max(1, round(channels * width / 64))


def _units(convs: Sequence[nn.Conv2d], channels: int, batch_norm: bool) -> nn.Sequential:
    return sequence(" ".join(["conv bn relu" if batch_norm else "conv relu"] * len(convs)), channels, convs)


@dataclass(frozen=True)
class InceptionDesign:
    """What all Inception blocks of a network have in common, and its heads.

    width: channels of the first convolution; every other count of table 1 is scaled by width / 64.
    paths: which of 1x1, 3x3, 5x5 and pool every Inception block has; what is left out makes it narrower.
    reduce: False is the naive module of the paper's figure 2(a): 3x3 and 5x5 read the input itself and the pool path
        hands on all its channels. kernel: of the 5x5 path, odd. dropout: before the classifier, in [0, 1).
    Raises ValueError for another path, kernel or dropout.
    """

    width: int = 64
    paths: tuple[str, ...] = PATHS
    reduce: bool = True
    kernel: int = 5
    batch_norm: bool = False
    auxiliary: bool = True
    dropout: float = 0.4

    def __post_init__(self) -> None:
        if not self.paths or len(set(self.paths)) != len(self.paths) or not set(self.paths) <= set(PATHS):
            raise ValueError(f"paths must be some of {', '.join(PATHS)}, each once, got {tuple(self.paths)!r}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and at least 1, got {self.kernel}")
        check_dropout(self.dropout)


def inception(in_channels: int, channels: Channels, design: InceptionDesign) -> tuple[Block, int]:
    """One Inception block and the channels it gives: (N, in_channels, H, W) to (N, sum over the paths, H, W)."""
    batch_norm, reduce, kernel = design.batch_norm, design.reduce, design.kernel

    def unit(*layers: tuple[int, int]) -> nn.Sequential:
        convs, read = [], in_channels
        for out_channels, kernel_size in layers:
            convs.append(conv(read, out_channels, kernel_size, bias=not batch_norm))
            read = out_channels
        return _units(convs, in_channels, batch_norm)

    found: dict[str, tuple[nn.Module, int]] = {}
    for name in PATHS:
        if name not in design.paths:
            continue
        path: nn.Module
        if name == "1x1":
            path, out = unit((channels.one, 1)), channels.one
        elif name == "3x3":
            out = channels.three
            path = unit((channels.reduce3, 1), (out, 3)) if reduce else unit((out, 3))
        elif name == "5x5":
            out = channels.five
            path = unit((channels.reduce5, 1), (out, kernel)) if reduce else unit((out, kernel))
        else:
            out = channels.pool if reduce else in_channels
            layers = dict(unit((out, 1)).named_children()) if reduce else {}
            path = named(pool=nn.MaxPool2d(3, 1, 1), **layers)
        found[name] = (path, out)
    out_channels = sum(out for _, out in found.values())
    block = Block(
        parallel(found), shape_match(in_channels, out_channels), merge="replace",
        changes_shape=in_channels != out_channels,
    )  # fmt: skip
    return block, out_channels


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _stem(in_channels: int, width: int, batch_norm: bool, imagenet: bool) -> nn.Sequential:
    """7x7/2, 1x1 and 3x3 of width, width and 3 width channels, with pools; small images: 3x3 first, no pools."""
    first, second = conv(in_channels, width, 3, bias=not batch_norm), conv(width, width, 1, bias=not batch_norm)
    if imagenet:
        first = conv(in_channels, width, 7, 2, bias=not batch_norm)
    third = conv(width, 3 * width, 3, bias=not batch_norm)
    normalises = imagenet and not batch_norm
    layers: dict[str, nn.Module] = {"conv1": _units([first], width, batch_norm)}
    if imagenet:
        layers["pool1"] = _pool()
    if normalises:
        layers["norm1"] = ResponseNorm()
    layers["conv2"] = _units([second], width, batch_norm)
    layers["conv3"] = _units([third], width, batch_norm)
    if normalises:
        layers["norm2"] = ResponseNorm()
    if imagenet:
        layers["pool2"] = _pool()
    return named(**layers)


def _auxiliary_head(channels: int, width: int, num_classes: int, batch_norm: bool) -> nn.Sequential:
    """Section 5: average pooling, 128 1x1 filters, 1024 units, 70 % dropout, a classifier (counts at width 64)."""
    filters, hidden = _scaled(128, width), _scaled(1024, width)
    return named(
        pool=nn.AvgPool2d(5, 3),
        grid=nn.AdaptiveAvgPool2d(4),
        reduce=_units([conv(channels, filters, 1, bias=not batch_norm)], channels, batch_norm),
        flatten=nn.Flatten(),
        fc1=nn.Linear(16 * filters, hidden),
        relu=nn.ReLU(),
        dropout=nn.Dropout(0.7),
        fc2=nn.Linear(hidden, num_classes),
    )


def _googlenet(num_classes: int, in_channels: int, imagenet: bool, design: InceptionDesign) -> Network:
    width, batch_norm = design.width, design.batch_norm
    blocks: dict[str, Block] = {}
    heads: dict[str, nn.Module] = {}
    channels = 3 * width
    for name, row in TABLE1.items():
        block, channels = inception(channels, Channels(*(_scaled(count, width) for count in row)), design)
        if name in POOL_AFTER:
            block.post = _pool()
        if design.auxiliary and name in AUXILIARY_AFTER:
            heads[name] = _auxiliary_head(channels, width, num_classes, batch_norm)
        blocks[name] = block
    dropout, classifier = nn.Dropout(design.dropout), nn.Linear(channels, num_classes)
    head = named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout=dropout, fc=classifier)
    # The auxiliary heads' 5x5 windows need 5 pixels at 4a, the last pool needs 2 at 4e.
    least = {(True, True): 79, (True, False): 31, (False, True): 10, (False, False): 4}[imagenet, design.auxiliary]
    stem = _stem(in_channels, width, batch_norm, imagenet)
    network = Network(stem, blocks, head, auxiliary=heads, input_size=InputSize(least))
    keep_variance(network, "relu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    return network


@taking("design", InceptionDesign())
def googlenet(num_classes: int = 1000, in_channels: int = 3, *, design: InceptionDesign) -> Network:
    """GoogLeNet for 224 x 224 input; at least 79 x 79 with auxiliary heads, 31 x 31 without."""
    return _googlenet(num_classes, in_channels, True, design)


@taking("design", InceptionDesign(batch_norm=True, auxiliary=False))
def googlenet_cifar(num_classes: int = 10, in_channels: int = 3, *, design: InceptionDesign) -> Network:
    """GoogLeNet for small images, ours: 3x3/1 first, no pools in the stem; 32 x 32 pixels end at 8 x 8.

    Batch norm by default: trained from scratch in a short budget, 22 layers without it need the auxiliary heads and a
    low rate. At least 4 x 4 pixels, 10 x 10 with auxiliary heads.
    """
    return _googlenet(num_classes, in_channels, False, design)


PAPER = "Szegedy et al. 2014, 1409.4842"
ARCHITECTURES = {
    "googlenet": Architecture(googlenet, PAPER, SZEGEDY2014, image_size=224, num_classes=1000),
    "googlenet_bn": Architecture(googlenet, PAPER, SZEGEDY2014, {"batch_norm": True}, image_size=224, num_classes=1000),
    "googlenet_cifar": Architecture(googlenet_cifar, PAPER, GOOGLENET_CIFAR),
}
