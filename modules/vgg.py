"""VGG: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, and its forms for small images.

A plain network: every convolution and every hidden fully connected layer is one `replace` block whose shortcut, used
only when the block is deleted, is the parameter-free shape match. Max pooling belongs to the block before it (`post`),
so deleting a layer never changes the resolution.

Small-image form: the 15-layer network of Veit et al. 2016 (13 convolutions, one hidden layer of 512, one classifier).
The paper gives no code; the layer count matches the widely used CIFAR form of configuration D, which has batch norm;
without it is `batch_norm=False`.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from modules.architecture import Architecture
from modules.block import Block, shape_match
from modules.layers import conv, initialise
from modules.network import Network
from modules.recipe import SIMONYAN2014, VGG_CIFAR

CONVS_PER_GROUP = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}


def _convolutions(
    convs_per_group: tuple[int, ...], width: int, in_channels: int, batch_norm: bool, num_pools: int
) -> tuple[OrderedDict[str, Block], int]:
    blocks: OrderedDict[str, Block] = OrderedDict()
    channels = in_channels
    for group, num_convs in enumerate(convs_per_group, start=1):
        out_channels = width * 2 ** min(group - 1, 3)
        for index in range(1, num_convs + 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv(channels, out_channels, 3, bias=True))
            if batch_norm:
                layers["bn"] = nn.BatchNorm2d(out_channels)
            layers["relu"] = nn.ReLU()
            pools = index == num_convs and group <= num_pools
            blocks[f"conv{group}_{index}"] = Block(
                nn.Sequential(layers),
                shape_match(channels, out_channels),
                post=nn.MaxPool2d(2) if pools else None,
                merge="replace",
                changes_shape=channels != out_channels,
            )
            channels = out_channels
    return blocks, channels


def _append_hidden(blocks: OrderedDict[str, Block], name: str, features: tuple[int, int], dropout: float) -> None:
    layers = OrderedDict(fc=nn.Linear(*features), relu=nn.ReLU(), dropout=nn.Dropout(dropout))
    blocks[name] = Block(
        nn.Sequential(layers), shape_match(*features), merge="replace", changes_shape=features[0] != features[1]
    )


def _flatten_last(blocks: OrderedDict[str, Block], grid: int) -> None:
    """Pools the last convolution's output to grid x grid and flattens it, as part of that block's `post`."""
    last = blocks[next(reversed(blocks))]
    last.post = nn.Sequential(OrderedDict(pool=last.post, grid=nn.AdaptiveAvgPool2d(grid), flatten=nn.Flatten()))


def vgg_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    configuration: str,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """Configuration A (11 layers), B (13), D (16) or E (19) with two hidden layers of 4096, for 224 x 224 input.

    Raises ValueError for another configuration.
    """
    if configuration not in CONVS_PER_GROUP:
        raise ValueError(f"configuration must be one of {', '.join(CONVS_PER_GROUP)}, got {configuration!r}")
    blocks, channels = _convolutions(CONVS_PER_GROUP[configuration], 64, in_channels, batch_norm, num_pools=5)
    _flatten_last(blocks, grid=7)
    _append_hidden(blocks, "fc6", (channels * 49, 4096), dropout)
    _append_hidden(blocks, "fc7", (4096, 4096), dropout)
    network = Network(nn.Identity(), blocks, nn.Sequential(OrderedDict(fc=nn.Linear(4096, num_classes))))
    initialise(network, linear_std=0.01)
    return network


def vgg_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    convs_per_group: tuple[int, ...] = (2, 2, 3, 3, 3),
    width: int = 64,
    num_pools: int = 5,
    hidden: int = 512,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> Network:
    """VGG for small images: groups of 3x3 convolutions of width, 2, 4, 8 and 8 width, one hidden layer, a classifier.

    num_pools: the first so many groups end in 2x2 max pooling; the input must be at least 2**num_pools pixels wide.
    The default is the 15-layer network of Veit et al. 2016. Raises ValueError for an empty group or no groups.
    """
    if not convs_per_group or min(convs_per_group) < 1:
        raise ValueError(f"convs_per_group must hold at least one convolution each, got {convs_per_group}")
    if not 0 <= num_pools <= len(convs_per_group):
        raise ValueError(f"num_pools must lie in 0..{len(convs_per_group)}, got {num_pools}")
    blocks, channels = _convolutions(tuple(convs_per_group), width, in_channels, batch_norm, num_pools)
    _flatten_last(blocks, grid=1)
    _append_hidden(blocks, "hidden", (channels, hidden), dropout)
    network = Network(nn.Identity(), blocks, nn.Sequential(OrderedDict(fc=nn.Linear(hidden, num_classes))))
    # He initialisation for the hidden layer too: with std 0.01 a network without batch norm does not start.
    initialise(network)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def _table() -> dict[str, Architecture]:
    paper = "Simonyan & Zisserman 2014, 1409.1556"
    found = {
        f"vgg{layers}{suffix}": Architecture(
            vgg_imagenet, paper, SIMONYAN2014, {"configuration": name, **batch_norm}, image_size=224, num_classes=1000
        )
        for layers, name in {11: "A", 13: "B", 16: "D", 19: "E"}.items()
        for suffix, batch_norm in {"": {}, "_bn": {"batch_norm": True}}.items()
    }
    small = "Veit et al. 2016, 1605.06431"
    return {
        **found,
        "vgg_cifar": Architecture(vgg_cifar, small, VGG_CIFAR),
        "vgg15": Architecture(vgg_cifar, small, VGG_CIFAR),
        "vgg15_bn": Architecture(vgg_cifar, small, VGG_CIFAR, {"batch_norm": True}),
    }


ARCHITECTURES = _table()
