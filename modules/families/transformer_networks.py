"""Networks with spatial transformers: Jaderberg et al. 2015, arXiv:1506.02025, section 4 and appendix A.

- `st_fcn`, `st_cnn`: the networks for distorted digits (table 1), with and without a transformer in front.
- `st_addition`: two transformers in parallel for the sum of two digits in two channels (appendix A.1).
- `st_svhn`: house numbers, one transformer in front or four inside (appendix A.5).

Where the paper is silent: the numbers of units follow from `num_parameters`, about equal in all arms, localisation
included; the CNN has 32 filters in both layers, padded so that images of 16 to 60 pixels and more fit; parallel
transformers of the addition stand before the fully connected network; 0.9 momentum; He initialisation.
Multiply-adds of sampling are not counted, those of the positions are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from torch import nn

from modules.architecture import Architecture, Builder, taking
from modules.blocks.block import Block
from modules.blocks.layers import check_choice, check_dropout, check_least, conv, initialise, named, plain_block
from modules.blocks.localisation import LocalisationName
from modules.blocks.network import InputSize, Network
from modules.blocks.spatial_transformer import (
    SpatialTransformer,
    TransformerDesign,
    parallel_transformers,
    transformer_block,
)
from modules.training.recipe import HE2015_CIFAR, Recipe

PAPER = "Jaderberg et al. 2015, 1506.02025"
Transformers = Literal["none", "single", "multi"]
Trunk = Literal["fcn", "cnn"]

JADERBERG2015_MNIST = Recipe(
    epochs=640,
    batch_size=256,
    learning_rate=0.01,
    weight_decay=0.0,
    milestones=(1 / 3, 2 / 3),
    augmentation="none",
    source="Jaderberg et al. 2015, 1506.02025, appendix A.4: 150k steps of 256 on 60000 images; momentum is ours",
)
JADERBERG2015_SVHN = Recipe(
    epochs=217,
    learning_rate=0.01,
    weight_decay=5e-4,
    milestones=(0.2, 0.4, 0.6, 0.8),
    localisation_factor=0.1,
    augmentation="none",
    source="Jaderberg et al. 2015, appendix A.5: 400k steps of 128, on 236k house numbers; momentum is ours",
)
ST_CIFAR = replace(
    HE2015_CIFAR,
    localisation_factor=0.1,
    source="He et al. 2015, 1512.03385, section 4.2; localisation as Jaderberg et al. 2015, appendix A.5",
)


def _network(stem: nn.Module, blocks: Mapping[str, Block], head: Mapping[str, nn.Module], image_size: int) -> Network:
    network = Network(stem, blocks, named(**head), input_size=InputSize(image_size, 0))
    initialise(network)
    for module in network.modules():
        if isinstance(module, SpatialTransformer):
            module.initialise()
    return network


def _layer(weighted: nn.Conv2d | nn.Linear, post: nn.Module | None = None, dropout: float = 0.0) -> Block:
    layers: dict[str, nn.Module] = {"fc" if isinstance(weighted, nn.Linear) else "conv": weighted, "relu": nn.ReLU()}
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return plain_block(layers, post)


def _digit_stem(
    design: TransformerDesign, in_channels: int, image_size: int, pool: int
) -> tuple[dict[str, nn.Module], int, int]:
    """The layers of the stem, and the channels and the width in pixels that they give."""
    check_least("pool", pool)
    layers: dict[str, nn.Module] = {}
    channels, size = in_channels, image_size
    if design.transform != "none":
        layers["transformer"] = parallel_transformers(in_channels, image_size, design)
        channels, size = design.num_transformers * in_channels, design.output_size or image_size
    elif design.num_transformers != 1 or design.output_size not in (None, image_size):
        raise ValueError("transform 'none' knows neither num_transformers nor output_size")
    if pool > 1:
        layers["pool"] = nn.AvgPool2d(pool)
    return layers, channels, size // pool


def _count(layers: Mapping[str, nn.Module]) -> int:
    return sum(p.numel() for layer in layers.values() for p in layer.parameters())


def _units(found: float, num_parameters: int) -> int:
    if round(found) < 1:
        raise ValueError(f"num_parameters of {num_parameters} leaves no hidden unit to this network; raise it")
    return round(found)


@taking("design", TransformerDesign(localisation="fc"))
def st_fcn(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    image_size: int = 28,
    pool: int = 1,
    num_parameters: int = 400_000,
    design: TransformerDesign,
) -> Network:
    """[transformers, average pooling -] two hidden fully connected layers and a classifier.

    transform: `none` is the plain network. pool: width of the average pooling after the transformers (2 for RTS and
    TC), which the plain network has in front. num_parameters: of the whole network, met within 1 %, which decides the
    hidden units. Raises ValueError for unknown and impossible values.
    """
    layers, channels, size = _digit_stem(design, in_channels, image_size, pool)
    check_least("width in pixels behind transformer and pooling", size)
    features = channels * size**2
    # hidden^2 + hidden * linear + num_classes + transformers = num_parameters
    linear, left = features + 2 + num_classes, num_parameters - num_classes - _count(layers)
    hidden = _units((math.sqrt(max(0, linear**2 + 4 * left)) - linear) / 2, num_parameters)
    layers["flatten"] = nn.Flatten()
    blocks = {"hidden1": _layer(nn.Linear(features, hidden)), "hidden2": _layer(nn.Linear(hidden, hidden))}
    return _network(named(**layers), blocks, {"fc": nn.Linear(hidden, num_classes)}, image_size)


@taking("design", TransformerDesign())
def st_cnn(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    image_size: int = 28,
    pool: int = 1,
    width: int = 32,
    num_parameters: int = 400_000,
    design: TransformerDesign,
) -> Network:
    """[transformers, average pooling -] 9x9 and 7x7 convolution, each with 2x2 pooling, a hidden layer, a classifier.

    width: filters of both convolutions. num_parameters: met within 1 % up to 60 pixels; the rest as `st_fcn`.
    Raises ValueError for unknown and impossible values, and for fewer than 4 pixels to convolve.
    """
    layers, channels, size = _digit_stem(design, in_channels, image_size, pool)
    check_least("width in pixels behind transformer and pooling", size, 4)
    blocks = {
        "conv1": _layer(conv(channels, width, 9, bias=True), nn.MaxPool2d(2)),
        "conv2": _layer(conv(width, width, 7, bias=True), named(pool=nn.MaxPool2d(2), flatten=nn.Flatten())),
    }
    features = width * (size // 4) ** 2
    left = num_parameters - num_classes - _count(layers) - _count(blocks)
    hidden = _units(left / (features + 1 + num_classes), num_parameters)
    blocks["hidden"] = _layer(nn.Linear(features, hidden))
    return _network(named(**layers), blocks, {"fc": nn.Linear(hidden, num_classes)}, image_size)


@taking("design", TransformerDesign(num_transformers=2), "transform", "num_transformers", "start")
def st_addition(
    num_classes: int = 19,
    in_channels: int = 2,
    *,
    image_size: int = 42,
    trunk: Trunk = "fcn",
    width: int = 32,
    num_parameters: int = 400_000,
    design: TransformerDesign,
) -> Network:
    """The sum of two digits, one in each channel: transformers in parallel, each of which reads and moves both.

    trunk: `st_fcn` or `st_cnn` behind them, the latter with `width` filters. The other arguments as `st_fcn`.
    Raises ValueError for unknown and impossible values.
    """
    check_choice("trunk", trunk, get_args(Trunk))
    builder, filters = (st_fcn, {}) if trunk == "fcn" else (st_cnn, {"width": width})
    num_transformers = 1 if design.transform == "none" else design.num_transformers
    return builder(
        num_classes, in_channels, image_size=image_size, num_parameters=num_parameters,
        transform=design.transform, num_transformers=num_transformers, start=design.start, **filters,
    )  # fmt: skip


SVHN_CHANNELS = (48, 64, 128, 160, 192, 192, 192, 192)
TRANSFORMED = {"none": 0, "single": 1, "multi": 4}  # the first so many convolutions have a transformer in front


@taking("design", TransformerDesign(), "transform", "sampling", "start")
def st_svhn(
    num_classes: int = 11,
    in_channels: int = 3,
    *,
    image_size: int = 64,
    transformers: Transformers = "multi",
    num_digits: int = 1,
    width: int = 48,
    hidden: int = 3072,
    dropout: float = 0.5,
    design: TransformerDesign,
) -> Network:
    """Eight 5x5 convolutions, pooling after the first, third, fifth and seventh, two hidden layers, one head per digit.

    transformers: none; `single`, in front; `multi`, one before each of the first four convolutions. They are blocks of
    the chain, `transformer1` ... num_digits: 1 gives logits (N, num_classes), more (N, num_classes, num_digits) for
    targets (N, num_digits). width: channels of the first convolution; the others are in proportion.
    dropout: behind all but the first convolution, and behind the hidden layers.
    Raises ValueError for unknown and impossible values, and for images of less than 16 pixels.
    """
    check_choice("transformers", transformers, get_args(Transformers))
    check_least("num_digits", num_digits)
    check_least("image_size", image_size, 16)
    check_dropout(dropout)
    localisation: LocalisationName = "conv_svhn" if transformers == "single" else "fc_svhn"
    design = replace(design, localisation=localisation)
    blocks: dict[str, Block] = {}
    channels, size = in_channels, image_size
    for index, published in enumerate(SVHN_CHANNELS, start=1):
        if index <= TRANSFORMED[transformers]:
            blocks[f"transformer{index}"] = transformer_block(channels, size, design)
        out_channels = max(1, published * width // SVHN_CHANNELS[0])
        post = nn.MaxPool2d(2) if index % 2 else nn.Flatten() if index == len(SVHN_CHANNELS) else None
        convolution = conv(channels, out_channels, 5, bias=True)
        blocks[f"conv{index}"] = _layer(convolution, post, dropout if index > 1 else 0.0)
        channels, size = out_channels, size // 2 if index % 2 else size
    blocks["hidden1"] = _layer(nn.Linear(channels * size**2, hidden), dropout=dropout)
    blocks["hidden2"] = _layer(nn.Linear(hidden, hidden), dropout=dropout)
    head: dict[str, nn.Module] = {"fc": nn.Linear(hidden, num_classes * num_digits)}
    if num_digits > 1:
        head["digits"] = nn.Unflatten(1, (num_classes, num_digits))
    return _network(nn.Identity(), blocks, head, image_size)


def _digits(builder: Builder, **fixed: object) -> Architecture:
    return Architecture(builder, PAPER, JADERBERG2015_MNIST, fixed, image_size=28, in_channels=1)


ARCHITECTURES = {
    "fcn": _digits(st_fcn, transform="none"),
    "cnn": _digits(st_cnn, transform="none"),
    "st_fcn": _digits(st_fcn),
    "st_cnn": _digits(st_cnn),
    **{f"st_fcn_{transform}": _digits(st_fcn, transform=transform) for transform in ("affine", "projective", "tps")},
    **{f"st_cnn_{transform}": _digits(st_cnn, transform=transform) for transform in ("affine", "projective", "tps")},
    "st_addition": Architecture(st_addition, PAPER, JADERBERG2015_MNIST, image_size=42, in_channels=2, num_classes=19),
    "st_svhn": Architecture(st_svhn, PAPER, JADERBERG2015_SVHN, image_size=64, num_classes=11),
}
