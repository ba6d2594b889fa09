"""Residual networks: He et al. 2015, arXiv:1512.03385 (original) and He et al. 2016, arXiv:1603.05027 (pre-activation).

CIFAR form (2015, section 4.2): a 3x3 stem, three stages of 16, 32 and 64 channels at 32, 16 and 8 pixels, option A
shortcuts, global average pooling. ImageNet form (2015, table 1): a 7x7 stem and four stages. `plain20` and its like are
their twins without shortcuts. ResNet-B, -C and -D (He et al. 2018, arXiv:1812.01187, section 4) each add one change:
B puts the stride on the 3x3 convolution, C makes the stem of three 3x3 convolutions, D pools before projecting.

Differs from the papers: bottlenecks put the stride on the 3x3 convolution by default, as timm and torchvision do
("v1.5", ResNet-B); `resnet50a` has the published 1x1. The CIFAR pre-activation networks of basic blocks use option A,
the bottleneck ones (164, 1001) option B on the pre-activated signal, as the authors' code does. ResNet-B, -C and -D are
trained like the original, not by the recipe of their paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import nn

from modules.architecture import Architecture, taking
from modules.blocks.block import Block, DropPer
from modules.blocks.layers import check_choice, conv, initialise, pooled_head, sequence
from modules.blocks.network import Network
from modules.blocks.residual_block import (
    EXPANSION,
    ORDERS,
    BlockDesign,
    BlockKind,
    Gate,
    OrderName,
    residual_block,
)
from modules.blocks.surgery import set_kept_blocks, set_survival
from modules.training.recipe import HE2015_CIFAR, HE2015_CIFAR_DEEP, HE2015_IMAGENET, HE2016_CIFAR

Stem = Literal["7x7", "3x3"]
StemKind = Literal["small", "7x7", "3x3"]
SurvivalRule = Literal["linear", "uniform"]


def _stem(kind: StemKind, order: OrderName, in_channels: int, width: int) -> nn.Sequential:
    prefix = ORDERS[order].prefix
    # What the first block's prefix will do is left out of the stem.
    words = "conv" + ("" if "bn" in prefix else " bn") + ("" if "relu" in prefix else " relu")
    if kind == "small":
        return sequence(words, width, [conv(in_channels, width, 3)])
    if kind == "7x7":
        stem = sequence(words, width, [conv(in_channels, width, 7, 2)])
    else:
        half = max(1, width // 2)
        convs = [conv(in_channels, half, 3, 2), conv(half, half, 3), conv(half, width, 3)]
        stem = sequence("conv bn relu conv bn relu " + words, width, convs)
    stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
    return stem


def residual_network(
    design: BlockDesign,
    blocks_per_stage: tuple[int, ...],
    width: int,
    num_classes: int,
    in_channels: int,
    *,
    stem: StemKind = "small",
    stem_width: int | None = None,
) -> Network:
    """A stem and stages of residual blocks: `width` channels (times the expansion) in the first, twice in each next.

    stem: "small" keeps the resolution (CIFAR), the other two divide it by 4. stem_width: its channels, `width` if None.
    """
    channels = width if stem_width is None else stem_width
    stem_channels = channels
    blocks: dict[str, Block] = {}
    for stage, num_blocks in enumerate(blocks_per_stage):
        for index in range(num_blocks):
            stride = 2 if stage > 0 and index == 0 else 1
            stage_width = width * 2**stage
            name = f"stage{stage + 1}_block{index + 1}"
            blocks[name] = residual_block(design, channels, stage_width, stride, is_first=not blocks)
            channels = stage_width * EXPANSION[design.block]
    first = _stem(stem, design.order, in_channels, stem_channels)
    network = Network(first, blocks, pooled_head(channels, num_classes, ORDERS[design.order].prefix))
    initialise(network)
    for module in network.modules():
        if isinstance(module, Gate):
            module.open_at_bias()
    return network


@dataclass(frozen=True)
class Survival:
    """Stochastic depth, see `surgery.set_survival`; survival_prob: of the last block, 1 is none."""

    survival_prob: float = 1.0
    survival_rule: SurvivalRule = "linear"
    drop_per: DropPer = "batch"

    def of(self, network: Network) -> Network:
        """The network with it."""
        if self.survival_prob == 1.0:
            return network
        return set_survival(network, self.survival_prob, self.survival_rule, self.drop_per)


def stages_of(depth: int, kind: BlockKind) -> tuple[int, int, int]:
    """Blocks in each of the three stages of a CIFAR network of `depth` layers.

    Raises ValueError for a depth that is not 6n + 2 (basic blocks) or 9n + 2 (bottlenecks).
    """
    check_choice("block", kind, get_args(BlockKind))
    layers = {"basic": 6, "bottleneck": 9}[kind]
    if depth < layers + 2 or (depth - 2) % layers:
        raise ValueError(f"depth must be {layers}n + 2 with n >= 1 for {kind} blocks, got {depth}")
    return ((depth - 2) // layers,) * 3


FORMS = ("order", "shortcut", "stride_on", "average_shortcut", "skip")


@taking("survival", Survival())
@taking(
    "design", BlockDesign(), "block", *FORMS, "shortcut_scale", "branch_scale", "shortcut_dropout", "gate", "gate_bias"
)
def resnet_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 20,
    width: int = 16,
    kept_blocks: int = 0,
    design: BlockDesign,
    survival: Survival,
) -> Network:
    """The CIFAR residual network of `depth` layers: 6n + 2 with basic blocks, 9n + 2 with bottlenecks.

    width: channels of the first stage (16 in the papers); stages have width, 2 width and 4 width. kept_blocks: exactly
    so many random blocks per mini-batch instead of stochastic depth (see `surgery.set_kept_blocks`), 0 for all.
    Raises ValueError for a depth that the formula does not allow, an unknown variant, or both kinds of random depth.
    """
    network = residual_network(design, stages_of(depth, design.block), width, num_classes, in_channels)
    if kept_blocks == 0:
        return survival.of(network)
    if survival.survival_prob != 1.0:
        raise ValueError(f"kept_blocks {kept_blocks} excludes survival_prob {survival.survival_prob}; give one of them")
    return set_kept_blocks(network, kept_blocks)


IMAGENET_STAGES: dict[int, tuple[BlockKind, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


@taking("survival", Survival())
@taking("design", BlockDesign(shortcut="B"), *FORMS)
def resnet_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    depth: int,
    width: int = 64,
    stem: Stem = "7x7",
    design: BlockDesign,
    survival: Survival,
) -> Network:
    """The ImageNet residual network of 18, 34, 50, 101 or 152 layers (2015, table 1).

    stem: one 7x7 convolution, or three of 3x3 with width / 2, width / 2 and width channels (ResNet-C).
    Raises ValueError for another depth or an unknown variant.
    """
    check_choice("depth", depth, tuple(IMAGENET_STAGES))
    check_choice("stem", stem, get_args(Stem))
    kind, stages = IMAGENET_STAGES[depth]
    return survival.of(
        residual_network(replace(design, block=kind), stages, width, num_classes, in_channels, stem=stem)
    )


def _imagenet(paper: str, **fixed: object) -> Architecture:
    return Architecture(resnet_imagenet, paper, HE2015_IMAGENET, fixed, image_size=224, num_classes=1000)


def _table() -> dict[str, Architecture]:
    original, preactivation = "He et al. 2015, 1512.03385", "He et al. 2016, 1603.05027"
    tricks = "He et al. 2018, 1812.01187"
    found = {"resnet_cifar": Architecture(resnet_cifar, original, HE2015_CIFAR)}
    for depth in (20, 32, 44, 56, 110, 1202):
        recipe = HE2015_CIFAR_DEEP if depth >= 110 else HE2015_CIFAR
        found[f"resnet{depth}"] = Architecture(resnet_cifar, original, recipe, {"depth": depth})
        if depth < 1202:
            found[f"plain{depth}"] = Architecture(resnet_cifar, original, recipe, {"depth": depth, "skip": False})
    for depth in (20, 32, 44, 56, 110, 164, 1001):
        fixed: dict[str, object] = {"depth": depth, "order": "full_preactivation"}
        if depth in (164, 1001):
            fixed |= {"block": "bottleneck", "shortcut": "B"}
        found[f"preact_resnet{depth}"] = Architecture(resnet_cifar, preactivation, HE2016_CIFAR, fixed)
    for depth in IMAGENET_STAGES:
        found[f"resnet{depth}"] = _imagenet(original, depth=depth)
        found[f"resnet{depth}d"] = _imagenet(tricks, depth=depth, stem="3x3", shortcut="D")
    for depth in (18, 34, 50):
        found[f"plain{depth}"] = _imagenet(original, depth=depth, skip=False)
    found["resnet50a"] = _imagenet(original, depth=50, stride_on="first")
    found["resnet50b"] = _imagenet(tricks, depth=50)
    found["resnet50c"] = _imagenet(tricks, depth=50, stem="3x3")
    return found


ARCHITECTURES = _table()
