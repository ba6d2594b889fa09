"""Fully connected networks: the baseline without convolutions, of any depth and width.

`mlp10` ... `mlp100` are the plain networks of Srivastava et al. 2015, arXiv:1507.06228, section 3.1: layers of 71
units, about as many parameters each as a highway layer of 50.
Differs from the paper: it searched rate, momentum, decay and activation at random for every network; ours are fixed.
Batch norm, skips and gates are other families' matter.
"""

from __future__ import annotations

from torch import nn

from modules.architecture import Architecture
from modules.blocks.layers import activation_layer, keep_variance, named, plain_block
from modules.blocks.network import InputSize, Network
from modules.training.recipe import Recipe

MLP = Recipe(
    epochs=10,
    batch_size=256,
    momentum=0.0,
    weight_decay=0.0,
    milestones=(),
    augmentation="none",
    source="Zhang et al. 2021, 2106.11342, section 5.2: 10 epochs at the constant rate 0.1",
)
MLP_DEEP = Recipe(
    epochs=100,
    batch_size=128,
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="exponential",
    augmentation="none",
    source="Srivastava et al. 2015, 1507.06228, section 3.1: exponential decay (rate and momentum searched; here ours)",
)


def _layers(features: int, width: int, activation: str, dropout: float) -> dict[str, nn.Module]:
    layers = {"fc": nn.Linear(features, width), "activation": activation_layer(activation)}
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return layers


def mlp(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 2,
    width: int = 256,
    activation: str = "relu",
    dropout: float = 0.0,
    image_size: int = 28,
) -> Network:
    """`depth` hidden fully connected layers of `width` units, and a linear classifier.

    The first layer, which reads the pixels, is the stem; the others are blocks, which a deletion turns into the
    identity. activation: relu, tanh or sigmoid. dropout: probability in [0, 1] after each hidden layer.
    image_size: of the square input, in pixels. Raises ValueError for an unknown activation or a bad probability.
    """
    first = _layers(in_channels * image_size**2, width, activation, dropout)
    blocks = {
        f"hidden{index}": plain_block(_layers(width, width, activation, dropout)) for index in range(2, depth + 1)
    }
    network = Network(
        named(flatten=nn.Flatten(), **first),
        blocks,
        named(fc=nn.Linear(width, num_classes)),
        input_size=InputSize(image_size, 0),
    )
    keep_variance(network, activation)
    return network


def _table() -> dict[str, Architecture]:
    found = {"mlp": Architecture(mlp, "Zhang et al. 2021, 2106.11342", MLP, image_size=28, in_channels=1)}
    for depth in (10, 20, 50, 100):
        found[f"mlp{depth}"] = Architecture(
            mlp,
            "Srivastava et al. 2015, 1507.06228",
            MLP_DEEP,
            {"depth": depth, "width": 71},
            image_size=28,
            in_channels=1,
        )
    return found


ARCHITECTURES = _table()
