"""Localisation networks of spatial transformers: Jaderberg et al. 2015, arXiv:1506.02025, appendix A.4 and A.5.

Each is what stands before the last layer, which gives theta (`modules.blocks.spatial_transformer`).

Where the paper is silent: ReLU behind every layer; the last layer is not counted among those it names; convolutions
have no padding where the image is large enough (from 28 pixels on for `conv`, which there ends in one pixel) and keep
the resolution where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from modules.blocks.layers import check_least, named

LocalisationName = Literal["fc", "conv", "fc_svhn", "conv_svhn"]


def fc_localisation(in_channels: int, image_size: int, hidden: tuple[int, ...]) -> tuple[nn.Sequential, int]:
    """Fully connected layers with ReLU, without the last one, and the number of features they give."""
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    features = in_channels * image_size**2
    for index, units in enumerate(hidden, start=1):
        layers[f"fc{index}"] = nn.Linear(features, units)
        layers[f"relu{index}"] = nn.ReLU()
        features = units
    return named(**layers), features


def conv_localisation(
    in_channels: int, image_size: int, channels: int, shrink: int, hidden: int
) -> tuple[nn.Sequential, int]:
    """Shrunken input, 5x5 convolution, 2x2 max pooling, 5x5 convolution, one hidden layer; and its features' number.

    Raises ValueError for an image that leaves nothing to pool.
    """
    check_least("image_size of a convolutional localisation network", image_size, 2 * shrink)
    size = image_size // shrink
    padding = 0 if (size - 4) // 2 - 4 >= 1 else 2
    last = (size - 4) // 2 - 4 if padding == 0 else size // 2
    shrunken = {"shrink": nn.AvgPool2d(shrink)} if shrink > 1 else {}
    layers = named(
        **shrunken,
        conv1=nn.Conv2d(in_channels, channels, 5, padding=padding), relu1=nn.ReLU(), pool=nn.MaxPool2d(2),
        conv2=nn.Conv2d(channels, channels, 5, padding=padding), relu2=nn.ReLU(), flatten=nn.Flatten(),
        fc=nn.Linear(channels * last**2, hidden), relu3=nn.ReLU(),
    )  # fmt: skip
    return layers, hidden


LOCALISATIONS: dict[str, Callable[[int, int], tuple[nn.Sequential, int]]] = {
    "fc": partial(fc_localisation, hidden=(32, 32, 32)),
    "conv": partial(conv_localisation, channels=20, shrink=2, hidden=20),
    "fc_svhn": partial(fc_localisation, hidden=(32, 32)),
    "conv_svhn": partial(conv_localisation, channels=32, shrink=1, hidden=32),
}
