"""U-Net: Ronneberger, Fischer & Brox 2015, arXiv:1505.04597, figure 1.

Level k is a block: its shortcut is the skip (cropped to the centre where convolutions are not padded), its branch goes
down (2x2 max pooling, two 3x3 convolutions), through level k + 1 inside it, and up again (2x2 up-convolution), its
`post` holds the two 3x3 convolutions after the merge. The stem is the first pair of convolutions. A deleted level gives
its skip alone; on route "branch" a level is the network without that skip. Level 2 is named `level1.branch.level2`.

`unet` is the published network: convolutions without padding, 572 x 572 pixels to 388 x 388. `unet_small` is ours, for
small images: padded, so that masks keep the images' size, fewer channels and levels, batch norm.

skips: "concat" as published; the paper has no other. "add" needs no channels for the skip in the convolution after it;
"none" has no skip. Both have the same parameters, fewer than "concat".

Differs from the paper: the rate of the dropout at the end of the contracting path is not published, 0.5 is ours; the
learning rate is not either; the loss has no weight map (section 3, equation 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from modules.architecture import Architecture, taking
from modules.blocks.block import Block, Merge, shape_match
from modules.blocks.layers import check_choice, check_dropout, named, sequence
from modules.blocks.network import InputSize, Network
from modules.training.recipe import Recipe

Skips = Literal["concat", "add", "none"]
MERGES: dict[Skips, Merge] = {"concat": "concat", "add": "add", "none": "replace"}

RONNEBERGER2015 = Recipe(
    epochs=100,
    batch_size=1,
    learning_rate=1e-4,
    momentum=0.99,
    weight_decay=0.0,
    source="Ronneberger et al. 2015, 1505.04597, section 3; learning rate, its schedule and epochs are ours",
)
UNET_SMALL = Recipe(
    epochs=40, batch_size=32, learning_rate=0.05, schedule="cosine", source="ours; 1505.04597 has no small form"
)


@dataclass(frozen=True)
class UNetDesign:
    """What decides a U-Net of `depth` levels. width: channels of the stem; each level has twice those above.

    batch_norm: before every ReLU. Raises ValueError for unknown skips or dropout outside [0, 1).
    """

    width: int = 64
    depth: int = 4
    batch_norm: bool = False
    dropout: float = 0.5
    skips: Skips = "concat"
    padded: bool = False

    def __post_init__(self) -> None:
        check_choice("skips", self.skips, get_args(Skips))
        check_dropout(self.dropout)


def _convolutions(in_channels: int, out_channels: int, design: UNetDesign) -> nn.Sequential:
    """Two 3x3 convolutions, each with ReLU: (N, in_channels, H, W) to (N, out_channels, H', W'), H - 4 unpadded."""
    convs = [
        nn.Conv2d(channels, out_channels, 3, padding=int(design.padded), bias=not design.batch_norm)
        for channels in (in_channels, out_channels)
    ]
    return sequence("conv bn relu conv bn relu" if design.batch_norm else "conv relu conv relu", in_channels, convs)


def _level(number: int, design: UNetDesign) -> tuple[Block, int]:
    """Level `number` with all below it, and how many pixels its output is smaller than its input."""
    channels = design.width * 2 ** (number - 1)
    pair = 0 if design.padded else 4
    convs = _convolutions(channels, 2 * channels, design)
    layers: dict[str, nn.Module] = {"pool": nn.MaxPool2d(2), "convs": convs}
    lost = pair
    if number < design.depth:
        below, lost_below = _level(number + 1, design)
        layers[f"level{number + 1}"] = below
        lost += lost_below
    elif design.dropout:
        layers["dropout"] = nn.Dropout(design.dropout)
    layers["up"] = nn.ConvTranspose2d(2 * channels, channels, 2, 2)
    # A pixel lost below is two here; the window of this width, unpadded, cuts half of them from each side.
    skip = shape_match(channels, channels, kernel_size=2 * lost + 1)
    block = Block(
        named(**layers),
        skip,
        post=_convolutions(2 * channels if design.skips == "concat" else channels, channels, design),
        merge=MERGES[design.skips],
        changes_shape=lost > 0,
        branch_channels=channels,
    )
    return block, 2 * lost + pair


def _initialise(network: nn.Module) -> None:
    """He et al. (arXiv:1502.01852): std sqrt(2 / N), N the inputs of one output (1505.04597, section 3); biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):  # windows do not overlap: each output pixel has one of input
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _unet(num_classes: int, in_channels: int, design: UNetDesign) -> Network:
    level, _ = _level(1, design)
    stem = _convolutions(in_channels, design.width, design)
    head = named(conv=nn.Conv2d(design.width, num_classes, 1))
    network = Network(stem, {"level1": level}, head, input_size=_input_size(design.depth, design.padded))
    _initialise(network)
    return network


def _input_size(depth: int, padded: bool) -> InputSize:
    """Every pooling needs an even number of pixels, and of the last convolution at least one must be left."""
    step: int = 2**depth
    if padded:
        return InputSize(step, step)
    least = math.ceil(4 - 3 / step)  # at the bottom: b pixels there give step * (b - 4) + 4 at the output
    for _ in range(depth):
        least = 2 * (least + 4)
    return InputSize(least + 4, step)


@taking("design", UNetDesign(), "width", "depth", "dropout", "skips")
def unet(num_classes: int = 2, in_channels: int = 1, *, design: UNetDesign) -> Network:
    """The published U-Net: (N, in_channels, H, W) to logits (N, num_classes, H', W').

    H' is H - 184 for four levels: 388 for 572.
    """
    return _unet(num_classes, in_channels, design)


SMALL = UNetDesign(16, 3, batch_norm=True, dropout=0.0, padded=True)


@taking("design", SMALL, "width", "depth", "batch_norm", "dropout", "skips")
def unet_small(num_classes: int = 2, in_channels: int = 1, *, design: UNetDesign) -> Network:
    """A padded U-Net for images of a multiple of 2**depth pixels: (N, in_channels, H, W) to (N, num_classes, H, W)."""
    return _unet(num_classes, in_channels, design)


PAPER = "Ronneberger et al. 2015, 1505.04597"
ARCHITECTURES = {
    "unet": Architecture(
        unet, PAPER, RONNEBERGER2015, image_size=572, in_channels=1, num_classes=2, task="segment"
    ),
    "unet_small": Architecture(
        unet_small, PAPER, UNET_SMALL, image_size=32, in_channels=1, num_classes=2, task="segment"
    ),
}  # fmt: skip
