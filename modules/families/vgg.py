"""VGG: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, and its forms for small images.

A plain network: every convolution and every hidden fully connected layer is one `replace` block whose shortcut, used
only when the block is deleted, is the parameter-free shape match. Max pooling belongs to the block before it (`post`),
so deleting a layer never changes the resolution.
kernel_size=5 is the shallow twin of section 4.1: each pair of 3x3 convolutions becomes one 5x5 of the same field (7:
each three become one 7x7).

Small-image forms: the 15-layer network of Veit et al. 2016 (13 convolutions, one hidden layer of 512, one classifier),
whose paper gives no code; the layer count matches the widely used CIFAR form of configuration D, which has batch norm;
without it is `batch_norm=False`. VGG-9 of Li et al. 2017, arXiv:1712.09913, has batch norm after its hidden layer too.

Differs from the papers: He initialisation of the convolutions instead of a start from configuration A's weights.
"""

from __future__ import annotations

from torch import nn

from modules.architecture import Architecture
from modules.blocks.block import Block
from modules.blocks.layers import ResponseNorm, check_choice, conv, initialise, named, plain_block
from modules.blocks.network import InputSize, Network
from modules.training.recipe import LI2017_CIFAR, Recipe

SIMONYAN2014 = Recipe(
    epochs=74,
    batch_size=256,
    learning_rate=0.01,
    weight_decay=5e-4,
    milestones=(0.4, 0.7, 0.9),
    source="Simonyan & Zisserman 2014, 1409.1556, section 3.1 (there 10x down on plateaus; the fractions are ours)",
)
VGG_CIFAR = Recipe(
    epochs=182,
    learning_rate=0.01,
    weight_decay=5e-4,
    warmup_steps=400,
    source="optimiser of Simonyan & Zisserman 2014, schedule of He et al. 2015; Veit et al. 2016 do not give theirs",
)

CONVS_PER_GROUP = {
    "A": (1, 1, 2, 2, 2),
    "A-LRN": (1, 1, 2, 2, 2),
    "B": (2, 2, 2, 2, 2),
    "C": (2, 2, 3, 3, 3),
    "D": (2, 2, 3, 3, 3),
    "E": (2, 2, 4, 4, 4),
}
KernelSizes = tuple[tuple[int, ...], ...]  # of the convolutions of each group


def _kernel_sizes(convs_per_group: tuple[int, ...], kernel_size: int) -> KernelSizes:
    """Stacks of 3x3 convolutions, each replaced by one convolution with the stack's receptive field."""
    if kernel_size not in (3, 5, 7):
        raise ValueError(f"kernel_size must be 3, 5 or 7, got {kernel_size!r}")
    stack = (kernel_size - 1) // 2
    if any(num_convs % stack for num_convs in convs_per_group):
        raise ValueError(f"kernel_size {kernel_size} replaces {stack} convolutions each, groups have {convs_per_group}")
    return tuple((kernel_size,) * (num_convs // stack) for num_convs in convs_per_group)


def _convolutions(
    groups: KernelSizes, width: int, in_channels: int, batch_norm: bool, num_pools: int, response_norm: bool = False
) -> tuple[dict[str, Block], int]:
    """The blocks by name, and the channels of the last. response_norm: after the first convolution."""
    blocks: dict[str, Block] = {}
    channels = in_channels
    for group, kernel_sizes in enumerate(groups, start=1):
        out_channels = width * 2 ** min(group - 1, 3)
        for index, kernel_size in enumerate(kernel_sizes, start=1):
            layers: dict[str, nn.Module] = {"conv": conv(channels, out_channels, kernel_size, bias=True)}
            if batch_norm:
                layers["bn"] = nn.BatchNorm2d(out_channels)
            layers["relu"] = nn.ReLU()
            if response_norm and not blocks:
                layers["norm"] = ResponseNorm()
            pools = index == len(kernel_sizes) and group <= num_pools
            blocks[f"conv{group}_{index}"] = plain_block(layers, nn.MaxPool2d(2) if pools else None)
            channels = out_channels
    return blocks, channels


def _append_hidden(
    blocks: dict[str, Block], name: str, features: tuple[int, int], dropout: float, batch_norm: bool = False
) -> None:
    layers: dict[str, nn.Module] = {"fc": nn.Linear(*features)}
    if batch_norm:
        layers["bn"] = nn.BatchNorm1d(features[1])
    layers |= {"relu": nn.ReLU(), "dropout": nn.Dropout(dropout)}
    blocks[name] = plain_block(layers)


def _flatten_last(blocks: dict[str, Block], grid: int) -> None:
    """Pools the last convolution's output to grid x grid and flattens it, as part of that block's `post`."""
    last = blocks[next(reversed(blocks))]
    last.post = named(pool=last.post, grid=nn.AdaptiveAvgPool2d(grid), flatten=nn.Flatten())


def vgg_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    configuration: str,
    width: int = 64,
    hidden: int = 4096,
    kernel_size: int = 3,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """Configuration A or A-LRN (11 layers), B (13), C or D (16) or E (19), for 224 x 224 input.

    width: channels of the first group; the others have 2, 4, 8 and 8 width. hidden: units of each of the two hidden
    layers. kernel_size: 5 makes one 5x5 convolution of each pair, for B. A-LRN has response normalisation after its
    first convolution; the last convolution of C's groups of three is 1x1. The input has at least 32 pixels.
    Raises ValueError for another configuration, or a kernel size that its groups do not allow.
    """
    check_choice("configuration", configuration, tuple(CONVS_PER_GROUP))
    groups = _kernel_sizes(CONVS_PER_GROUP[configuration], kernel_size)
    if configuration == "C":
        groups = (*groups[:2], *[(3, 3, 1)] * 3)
    blocks, channels = _convolutions(groups, width, in_channels, batch_norm, 5, configuration == "A-LRN")
    _flatten_last(blocks, grid=7)
    _append_hidden(blocks, "fc6", (channels * 49, hidden), dropout)
    _append_hidden(blocks, "fc7", (hidden, hidden), dropout)
    network = Network(nn.Identity(), blocks, named(fc=nn.Linear(hidden, num_classes)), input_size=InputSize(32))
    initialise(network, linear_std=0.01)
    return network


def vgg_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    convs_per_group: tuple[int, ...] = (2, 2, 3, 3, 3),
    width: int = 64,
    num_pools: int = 5,
    grid: int = 1,
    hidden: int = 512,
    kernel_size: int = 3,
    batch_norm: bool = False,
    hidden_batch_norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """VGG for small images: groups of 3x3 convolutions of width, 2, 4, 8 and 8 width, one hidden layer, a classifier.

    num_pools: the first so many groups end in 2x2 max pooling; the input must be at least 2**num_pools pixels wide.
    grid: width in pixels to which the last maps are averaged (or repeated) before the hidden layer. kernel_size: 5
    makes one 5x5 convolution of each pair, 7 one 7x7 of each three. The default is the 15-layer network of Veit et al.
    2016. Raises ValueError for an empty group, no groups, or a number that does not fit them.
    """
    convs_per_group = tuple(convs_per_group)
    if not convs_per_group or min(convs_per_group) < 1:
        raise ValueError(f"convs_per_group must hold at least one convolution each, got {convs_per_group}")
    if not 0 <= num_pools <= len(convs_per_group):
        raise ValueError(f"num_pools must lie in 0..{len(convs_per_group)}, got {num_pools}")
    if grid < 1:
        raise ValueError(f"grid must be at least 1 pixel, got {grid}")
    groups = _kernel_sizes(convs_per_group, kernel_size)
    blocks, channels = _convolutions(groups, width, in_channels, batch_norm, num_pools)
    _flatten_last(blocks, grid)
    _append_hidden(blocks, "hidden", (channels * grid**2, hidden), dropout, hidden_batch_norm)
    head = named(fc=nn.Linear(hidden, num_classes))
    network = Network(nn.Identity(), blocks, head, input_size=InputSize(2**num_pools))
    # He initialisation for the hidden layer too: with std 0.01 a network without batch norm does not start.
    initialise(network)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def _table() -> dict[str, Architecture]:
    paper, veit = "Simonyan & Zisserman 2014, 1409.1556", "Veit et al. 2016, 1605.06431"
    li = "Li et al. 2017, 1712.09913"
    forms: dict[str, dict[str, object]] = {
        "vgg11_lrn": {"configuration": "A-LRN"},
        "vgg16_c": {"configuration": "C"},
        "vgg13_5x5": {"configuration": "B", "kernel_size": 5},
    }
    for layers, name in {11: "A", 13: "B", 16: "D", 19: "E"}.items():
        forms[f"vgg{layers}"] = {"configuration": name}
        forms[f"vgg{layers}_bn"] = {"configuration": name, "batch_norm": True}
    found = {
        name: Architecture(vgg_imagenet, paper, SIMONYAN2014, fixed, image_size=224, num_classes=1000)
        for name, fixed in forms.items()
    }
    nine: dict[str, object] = {
        "convs_per_group": (2, 2, 3), "num_pools": 3, "grid": 4, "hidden": 256, "dropout": 0.0,
    }  # fmt: skip
    normalised = {"batch_norm": True, "hidden_batch_norm": True}
    return {
        **found,
        "vgg_cifar": Architecture(vgg_cifar, veit, VGG_CIFAR),
        "vgg15": Architecture(vgg_cifar, veit, VGG_CIFAR),
        "vgg15_bn": Architecture(vgg_cifar, veit, VGG_CIFAR, {"batch_norm": True}),
        "vgg9": Architecture(vgg_cifar, li, VGG_CIFAR, nine),
        "vgg9_bn": Architecture(vgg_cifar, li, LI2017_CIFAR, nine | normalised),
    }


ARCHITECTURES = _table()
