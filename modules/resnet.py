"""Residual networks: He et al. 2015, arXiv:1512.03385 (original) and He et al. 2016, arXiv:1603.05027 (pre-activation).

CIFAR form (2015, section 4.2): a 3x3 stem, three stages of 16, 32 and 64 channels at 32, 16 and 8 pixels, option A
shortcuts, global average pooling. ImageNet form (2015, table 1): a 7x7 stem and four stages.

Differs from the papers: bottlenecks put the stride on the 3x3 convolution by default, as timm and torchvision do
("v1.5"); `stride_on="first"` is the published 1x1. The CIFAR pre-activation networks of basic blocks use option A, the
bottleneck ones (164, 1001) option B on the pre-activated signal, as the authors' code does.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple, get_args

from torch import nn

from modules.architecture import Architecture
from modules.block import Block, DropPer, shape_match
from modules.layers import conv, initialise, pooled_head, sequence
from modules.network import Network
from modules.recipe import HE2015_CIFAR, HE2015_CIFAR_DEEP, HE2015_IMAGENET, HE2016_CIFAR
from modules.surgery import set_survival


class Order(NamedTuple):
    """Where batch norm and ReLU stand around a block's convolutions, as words (see `layers.sequence`)."""

    prefix: str  # before the first convolution
    unit: str  # each convolution
    joint: str  # between two convolutions
    suffix: str  # after the last convolution, before the addition
    post: str  # after the addition


ORDERS = {  # the five rows of 1603.05027, table 2
    "original": Order("", "conv bn", "relu", "", "relu"),
    "bn_after_addition": Order("", "conv", "bn relu", "", "bn relu"),
    "relu_before_addition": Order("", "conv bn", "relu", "relu", ""),
    "relu_only_preactivation": Order("relu", "conv bn", "relu", "", ""),
    "full_preactivation": Order("bn relu", "conv", "bn relu", "", ""),
}

BlockKind = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C"]
OrderName = Literal[
    "original", "bn_after_addition", "relu_before_addition", "relu_only_preactivation", "full_preactivation"
]
StrideOn = Literal["first", "3x3"]
EXPANSION = {"basic": 1, "bottleneck": 4}


def _check(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def _convolutions(kind: str, in_channels: int, width: int, stride: int, stride_on: str) -> list[nn.Conv2d]:
    if kind == "basic":
        return [conv(in_channels, width, 3, stride), conv(width, width, 3)]
    first, middle = (stride, 1) if stride_on == "first" else (1, stride)
    return [conv(in_channels, width, 1, first), conv(width, width, 3, middle), conv(width, 4 * width, 1)]


def residual_block(
    kind: str,
    in_channels: int,
    width: int,
    stride: int,
    order: Order,
    shortcut: str,
    stride_on: str,
    average_shortcut: bool,
    skip: bool,
    is_first: bool,
) -> Block:
    """One residual block: (N, in_channels, H, W) to (N, width * expansion, H / stride, W / stride).

    is_first: the network's first block moves its prefix before the split, because no addition precedes it (1603.05027,
    appendix); so does every block with a projection, whose shortcut then reads the pre-activated signal.
    """
    out_channels = width * EXPANSION[kind]
    changes_shape = stride != 1 or in_channels != out_channels
    projects = skip and (shortcut == "C" or (shortcut == "B" and changes_shape))
    shares_prefix = bool(order.prefix) and (is_first or projects)
    convs = _convolutions(kind, in_channels, width, stride, stride_on)
    words = [] if shares_prefix else [order.prefix]
    words += [f" {order.joint} ".join([order.unit] * len(convs)), order.suffix]
    path: nn.Module
    if projects:
        normalised = "conv" if "bn" in order.prefix else "conv bn"
        path = sequence(normalised, in_channels, [conv(in_channels, out_channels, 1, stride)])
    else:
        path = shape_match(in_channels, out_channels, stride, average_shortcut)
    return Block(
        sequence(" ".join(words), in_channels, convs),
        path,
        pre=sequence(order.prefix, in_channels) if shares_prefix else None,
        post=sequence(order.post, out_channels) if order.post else None,
        merge="add" if skip else "replace",
        changes_shape=changes_shape,
    )


def _stem(order: Order, in_channels: int, width: int, imagenet: bool) -> nn.Sequential:
    # What the first block's prefix will do is left out of the stem.
    words = "conv" + ("" if "bn" in order.prefix else " bn") + ("" if "relu" in order.prefix else " relu")
    first = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False) if imagenet else conv(in_channels, width, 3)
    stem = sequence(words, width, [first])
    if imagenet:
        stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
    return stem


def _resnet(
    blocks_per_stage: tuple[int, ...],
    kind: str,
    width: int,
    num_classes: int,
    in_channels: int,
    imagenet: bool,
    order_name: str,
    shortcut: str,
    stride_on: str,
    average_shortcut: bool,
    skip: bool,
    survival_prob: float,
    survival_rule: Literal["linear", "uniform"],
    drop_per: DropPer,
) -> Network:
    _check("order", order_name, tuple(ORDERS))
    _check("shortcut", shortcut, get_args(Shortcut))
    _check("stride_on", stride_on, get_args(StrideOn))
    order = ORDERS[order_name]
    channels = width
    blocks: OrderedDict[str, Block] = OrderedDict()
    for stage, num_blocks in enumerate(blocks_per_stage):
        for index in range(num_blocks):
            stride = 2 if stage > 0 and index == 0 else 1
            stage_width = width * 2**stage
            blocks[f"stage{stage + 1}_block{index + 1}"] = residual_block(
                kind, channels, stage_width, stride, order, shortcut, stride_on, average_shortcut, skip, not blocks
            )
            channels = stage_width * EXPANSION[kind]
    stem = _stem(order, in_channels, width, imagenet)
    network = Network(stem, blocks, pooled_head(channels, num_classes, order.prefix))
    initialise(network)
    if survival_prob != 1.0:
        set_survival(network, survival_prob, survival_rule, drop_per)
    return network


def resnet_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 20,
    width: int = 16,
    block: BlockKind = "basic",
    order: OrderName = "original",
    shortcut: Shortcut = "A",
    stride_on: StrideOn = "3x3",
    average_shortcut: bool = False,
    skip: bool = True,
    survival_prob: float = 1.0,
    survival_rule: Literal["linear", "uniform"] = "linear",
    drop_per: DropPer = "batch",
) -> Network:
    """The CIFAR residual network of `depth` layers: 6n + 2 with basic blocks, 9n + 2 with bottlenecks.

    width: channels of the first stage (16 in the papers); stages have width, 2 width and 4 width.
    shortcut: A pads with zeros, B projects where the shape changes, C projects everywhere (2015, section 4.1).
    skip: False leaves the shortcuts out, the "plain" twin. survival_prob: of the last block, 1 is no stochastic depth.
    Raises ValueError for a depth that the formula does not allow or an unknown variant.
    """
    _check("block", block, get_args(BlockKind))
    layers = {"basic": 6, "bottleneck": 9}[block]
    if depth < layers + 2 or (depth - 2) % layers:
        raise ValueError(f"depth must be {layers}n + 2 with n >= 1 for {block} blocks, got {depth}")
    return _resnet(
        ((depth - 2) // layers,) * 3, block, width, num_classes, in_channels, False, order, shortcut, stride_on,
        average_shortcut, skip, survival_prob, survival_rule, drop_per,
    )  # fmt: skip


IMAGENET_STAGES = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


def resnet_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    depth: int,
    width: int = 64,
    order: OrderName = "original",
    shortcut: Shortcut = "B",
    stride_on: StrideOn = "3x3",
    average_shortcut: bool = False,
    skip: bool = True,
    survival_prob: float = 1.0,
    survival_rule: Literal["linear", "uniform"] = "linear",
    drop_per: DropPer = "batch",
) -> Network:
    """The ImageNet residual network of 18, 34, 50, 101 or 152 layers (2015, table 1); arguments as `resnet_cifar`.

    Raises ValueError for another depth or an unknown variant.
    """
    _check("depth", depth, tuple(IMAGENET_STAGES))
    kind, stages = IMAGENET_STAGES[depth]
    return _resnet(
        stages, kind, width, num_classes, in_channels, True, order, shortcut, stride_on,
        average_shortcut, skip, survival_prob, survival_rule, drop_per,
    )  # fmt: skip


def _table() -> dict[str, Architecture]:
    original, preactivation = "He et al. 2015, 1512.03385", "He et al. 2016, 1603.05027"
    found = {"resnet_cifar": Architecture(resnet_cifar, original, HE2015_CIFAR)}
    for depth in (20, 32, 44, 56, 110, 1202):
        recipe = HE2015_CIFAR_DEEP if depth >= 110 else HE2015_CIFAR
        found[f"resnet{depth}"] = Architecture(resnet_cifar, original, recipe, {"depth": depth})
    for depth in (20, 32, 44, 56, 110, 164, 1001):
        fixed: dict[str, object] = {"depth": depth, "order": "full_preactivation"}
        if depth in (164, 1001):
            fixed |= {"block": "bottleneck", "shortcut": "B"}
        found[f"preact_resnet{depth}"] = Architecture(resnet_cifar, preactivation, HE2016_CIFAR, fixed)
    for depth in IMAGENET_STAGES:
        found[f"resnet{depth}"] = Architecture(
            resnet_imagenet, original, HE2015_IMAGENET, {"depth": depth}, image_size=224, num_classes=1000
        )
    return found


ARCHITECTURES = _table()
