"""DenseNet: Huang, Liu, van der Maaten & Weinberger 2016, arXiv:1608.06993.

Every layer reads all feature maps before it in its dense block and adds `growth_rate` new ones: a concat block. Between
dense blocks stands a transition, a replace block whose average pooling is in `post`.

CIFAR form (section 3): three dense blocks of equal length at 32, 16 and 8 pixels; plain layers BN-ReLU-3x3, with
`bottleneck` (B) BN-ReLU-1x1-BN-ReLU-3x3 over 4 growth_rate channels, with `compression` (C) below 1 transitions that
cut the channels; BC is both. Stem: 16 channels, 2 growth_rate for BC. ImageNet form (table 1): BC, a 7x7 stem, four
dense blocks.

Differs from the paper: transitions have a ReLU between batch norm and convolution, as the authors' code does. A form
that adds instead of concatenating is not here: with equal channels it is a pre-activation residual network.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from modules.architecture import Architecture, taking
from modules.blocks.block import Block, shape_match
from modules.blocks.layers import check_choice, check_dropout, conv, initialise, named, pooled_head, sequence
from modules.blocks.network import InputSize, Network
from modules.training.recipe import Recipe

HUANG2016_DENSE_CIFAR = Recipe(
    epochs=300,
    batch_size=64,
    nesterov=True,
    source="Huang et al. 2016, 1608.06993, section 4.2 (dropout 0.2 for data without augmentation; SVHN 40 epochs)",
)
HUANG2016_DENSE_IMAGENET = Recipe(
    epochs=90,
    batch_size=256,
    nesterov=True,
    milestones=(1 / 3, 2 / 3),
    source="Huang et al. 2016, 1608.06993, section 4.2, ImageNet",
)


def _dropped(layers: nn.Sequential, dropout: float) -> nn.Sequential:
    """The same layers with dropout after each convolution; names of the others stay."""
    if not dropout:
        return layers
    found: dict[str, nn.Module] = {}
    for name, layer in layers.named_children():
        found[name] = layer
        if isinstance(layer, nn.Conv2d):
            found[name.replace("conv", "dropout")] = nn.Dropout(dropout)
    return named(**found)


def dense_layer(channels: int, growth_rate: int, bottleneck: bool, dropout: float) -> Block:
    """One layer: (N, channels, H, W) to (N, channels + growth_rate, H, W), the input's channels first."""
    if bottleneck:
        width = 4 * growth_rate
        convs = [conv(channels, width, 1), conv(width, growth_rate, 3)]
    else:
        convs = [conv(channels, growth_rate, 3)]
    branch = sequence(" ".join(["bn relu conv"] * len(convs)), channels, convs)
    # Not changes_shape: the shortcut is the identity, a deleted layer keeps all that it reads.
    return Block(_dropped(branch, dropout), merge="concat", branch_channels=growth_rate)


def transition(channels: int, out_channels: int, dropout: float) -> Block:
    """From one dense block to the next: (N, channels, H, W) to (N, out_channels, H / 2, W / 2)."""
    branch = sequence("bn relu conv", channels, [conv(channels, out_channels, 1)])
    return Block(
        _dropped(branch, dropout),
        shape_match(channels, out_channels),
        post=nn.AvgPool2d(2),
        merge="replace",
        changes_shape=channels != out_channels,
    )


@dataclass(frozen=True)
class DenseDesign:
    """What all dense blocks of a network have in common.

    compression: share of the channels in (0, 1] that a transition keeps; 0.5 in the papers' BC networks. dropout: after
    every convolution but the first; 0.2 in the paper for data without augmentation. recompute: see `Network`.
    Raises ValueError for a compression or dropout out of range.
    """

    growth_rate: int = 12
    bottleneck: bool = False
    compression: float = 1.0
    dropout: float = 0.0
    recompute: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.compression <= 1:
            raise ValueError(f"compression must lie in (0, 1], got {self.compression}")
        check_dropout(self.dropout)


def _densenet(
    design: DenseDesign, stem: nn.Module, channels: int, layers_per_block: tuple[int, ...], num_classes: int, least: int
) -> Network:
    blocks: dict[str, Block] = {}
    for number, num_layers in enumerate(layers_per_block, start=1):
        for index in range(1, num_layers + 1):
            layer = dense_layer(channels, design.growth_rate, design.bottleneck, design.dropout)
            blocks[f"dense{number}_layer{index}"] = layer
            channels += design.growth_rate
        if number < len(layers_per_block):
            out_channels = max(1, int(channels * design.compression))
            blocks[f"transition{number}"] = transition(channels, out_channels, design.dropout)
            channels = out_channels
    head = pooled_head(channels, num_classes, "bn relu")
    network = Network(stem, blocks, head, input_size=InputSize(least), recompute=design.recompute)
    initialise(network)
    return network


@taking("design", DenseDesign())
def densenet_cifar(num_classes: int = 10, in_channels: int = 3, *, depth: int = 40, design: DenseDesign) -> Network:
    """The DenseNet for small images of `depth` layers: 3n + 4, or 6n + 4 with bottlenecks.

    Raises ValueError for a depth that the formula does not allow, or a design that is none.
    """
    step = 6 if design.bottleneck else 3
    if depth < step + 4 or (depth - 4) % step:
        form = "with bottlenecks" if design.bottleneck else "without bottlenecks"
        raise ValueError(f"depth must be {step}n + 4 with n >= 1 {form}, got {depth}")
    channels = 2 * design.growth_rate if design.bottleneck and design.compression < 1 else 16
    stem = sequence("conv", in_channels, [conv(in_channels, channels, 3)])
    # Two poolings by 2 need 4 pixels.
    return _densenet(design, stem, channels, ((depth - 4) // step,) * 3, num_classes, 4)


IMAGENET_LAYERS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


@taking("design", DenseDesign(32, True, 0.5), "growth_rate", "compression", "dropout", "recompute")
def densenet_imagenet(num_classes: int = 1000, in_channels: int = 3, *, depth: int, design: DenseDesign) -> Network:
    """The ImageNet DenseNet-BC of 121, 169 or 201 layers (table 1).

    Raises ValueError for another depth, or a design that is none.
    """
    check_choice("depth", depth, tuple(IMAGENET_LAYERS))
    channels = 2 * design.growth_rate
    stem = sequence("conv bn relu", in_channels, [nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)])
    stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
    # The stem makes ceil(pixels / 4), which three poolings by 2 halve.
    return _densenet(design, stem, channels, IMAGENET_LAYERS[depth], num_classes, 29)


def _table() -> dict[str, Architecture]:
    paper = "Huang et al. 2016, 1608.06993"
    found = {"densenet_cifar": Architecture(densenet_cifar, paper, HUANG2016_DENSE_CIFAR)}
    for depth, growth_rate in ((40, 12), (100, 12), (100, 24)):
        fixed: dict[str, object] = {"depth": depth, "growth_rate": growth_rate, "bottleneck": False, "compression": 1.0}
        found[f"densenet{depth}_k{growth_rate}"] = Architecture(densenet_cifar, paper, HUANG2016_DENSE_CIFAR, fixed)
    for depth, growth_rate in ((100, 12), (250, 24), (190, 40)):
        fixed = {"depth": depth, "growth_rate": growth_rate, "bottleneck": True, "compression": 0.5}
        found[f"densenet_bc{depth}_k{growth_rate}"] = Architecture(densenet_cifar, paper, HUANG2016_DENSE_CIFAR, fixed)
    for depth in IMAGENET_LAYERS:
        found[f"densenet{depth}"] = Architecture(
            densenet_imagenet, paper, HUANG2016_DENSE_IMAGENET, {"depth": depth}, image_size=224, num_classes=1000
        )
    return found


ARCHITECTURES = _table()
