"""LeNet-5: LeCun et al. 1998, in the form of Zhang et al. 2021, arXiv:2106.11342, section 7.6.

Two 5x5 convolutions with pooling, three fully connected layers; sigmoid and average pooling, 61 706 parameters.
Each layer but the classifier is a `replace` block; pooling stands in its `post`.
Differs from LeCun et al.: no trainable pooling, every map of the second convolution sees all of the first, softmax
instead of radial units, 28 pixels padded by 2 instead of 32.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from modules.architecture import Architecture
from modules.blocks.block import Block
from modules.blocks.layers import activation_layer, check_choice, keep_variance, named, plain_block
from modules.blocks.network import InputSize, Network
from modules.training.recipe import Recipe

LENET_SIGMOID = Recipe(
    epochs=10,
    batch_size=256,
    learning_rate=0.9,
    momentum=0.0,
    weight_decay=0.0,
    milestones=(),
    augmentation="none",
    source="Zhang et al. 2021, 2106.11342, section 7.6: 10 epochs at the constant rate 0.9",
)
LENET_RELU = replace(
    LENET_SIGMOID, learning_rate=0.1, source="Zhang et al. 2021, 2106.11342, section 7.6, but 0.1: 0.9 is for sigmoid"
)
POOLS = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
LEAST = 12  # pixels that leave one after both convolutions and poolings


def _layer(name: str, weighted: nn.Module, activation: str, post: nn.Module | None = None) -> Block:
    return plain_block({name: weighted, "activation": activation_layer(activation)}, post)


def lenet5(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    activation: str = "sigmoid",
    pool: str = "average",
    image_size: int = 28,
) -> Network:
    """LeNet-5 with 6 and 16 maps and 120 and 84 hidden units.

    activation: relu, tanh or sigmoid. pool: average or max, 2x2. image_size: of the square input, at least 12 pixels.
    Weights start as Glorot uniform, biases at 0. Raises ValueError for another activation, pooling or size.
    """
    check_choice("pool", pool, tuple(POOLS))
    if image_size < LEAST:
        raise ValueError(f"image_size must be at least {LEAST} pixels, got {image_size}")
    grid = (image_size // 2 - 4) // 2
    flattened = named(pool=POOLS[pool](2), flatten=nn.Flatten())
    network = Network(
        nn.Identity(),
        {
            "conv1": _layer("conv", nn.Conv2d(in_channels, 6, 5, padding=2), activation, POOLS[pool](2)),
            "conv2": _layer("conv", nn.Conv2d(6, 16, 5), activation, flattened),
            "fc3": _layer("fc", nn.Linear(16 * grid**2, 120), activation),
            "fc4": _layer("fc", nn.Linear(120, 84), activation),
        },
        named(fc=nn.Linear(84, num_classes)),
        input_size=InputSize(image_size, 0),
    )
    keep_variance(network, "sigmoid")  # Glorot, whatever the activation
    return network


PAPER = "LeCun et al. 1998, as in Zhang et al. 2021, 2106.11342"
ARCHITECTURES = {
    "lenet5": Architecture(lenet5, PAPER, LENET_SIGMOID, image_size=28, in_channels=1),
    "lenet5_relu": Architecture(lenet5, PAPER, LENET_RELU, {"activation": "relu"}, image_size=28, in_channels=1),
    "lenet5_relu_max": Architecture(
        lenet5, PAPER, LENET_RELU, {"activation": "relu", "pool": "max"}, image_size=28, in_channels=1
    ),
}
