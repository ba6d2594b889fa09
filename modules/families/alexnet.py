"""AlexNet: Krizhevsky, Sutskever & Hinton 2012 (NIPS), sections 3 to 5, and a four-layer form for small images.

Reproduced: the two streams as convolutions of two groups, response normalisation, overlapping pooling, dropout and the
published initialisation. Each layer but the classifier is a `replace` block; pooling stands in its `post`.
Differs from the paper: padding 2 in the first convolution, so that 224 pixels give the published 55 x 55 maps; the last
maps are pooled to 6 x 6, which changes nothing at 224 pixels and lets other sizes in.
With widths 64, 192, 384, 256, 256, no groups and no response normalisation it is the network of Krizhevsky 2014,
arXiv:1404.5997, as torchvision has it.

Small form: the four-layer network of section 3.1, figure 1, is not described there; ours follows the authors' code for
CIFAR-10, three 5x5 convolutions with pooling and a classifier, without regularisation by default.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from modules.architecture import Architecture
from modules.blocks.block import Block
from modules.blocks.layers import ResponseNorm, activation_layer, check_choice, keep_variance, named, plain_block
from modules.blocks.network import InputSize, Network
from modules.training.recipe import Recipe

KRIZHEVSKY2012 = Recipe(
    epochs=90,
    learning_rate=0.01,
    weight_decay=5e-4,
    milestones=(0.25, 0.5, 0.75),
    source="Krizhevsky et al. 2012, section 5 (there 10x down three times on plateaus; the fractions are ours)",
)
KRIZHEVSKY2012_CIFAR = Recipe(
    epochs=40,
    learning_rate=0.01,
    weight_decay=0.0,
    milestones=(),
    augmentation="none",
    source="Krizhevsky et al. 2012, figure 1: no regularisation (the rate was chosen for each arm; here ours)",
)
GRID = 6  # pixels of the last maps
POOL_SIZES = (2, 3)


def _convolution(conv: nn.Conv2d, activation: str, response_norm: bool, post: nn.Module | None) -> Block:
    layers = {"conv": conv, "activation": activation_layer(activation)}
    if response_norm:
        layers["norm"] = ResponseNorm()
    return plain_block(layers, post)


def _fully_connected(in_features: int, out_features: int, activation: str, dropout: float) -> Block:
    return plain_block({
        "fc": nn.Linear(in_features, out_features),
        "activation": activation_layer(activation),
        "dropout": nn.Dropout(dropout),
    })  # fmt: skip


def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    groups: int = 2,
    response_norm: bool = True,
    pool_size: int = 3,
    activation: str = "relu",
    dropout: float = 0.5,
) -> Network:
    """Five convolutions and two hidden fully connected layers, for 224 x 224 input.

    widths: channels of the five convolutions. groups: of convolutions 2, 4 and 5; 2 is the published network on two
    devices, 1 has no streams. response_norm: after convolutions 1 and 2. pool_size: 3 overlaps, 2 does not; the stride
    is 2. activation: relu, tanh or sigmoid. Raises ValueError for widths that are not five whole numbers divisible by
    the groups, another pool size or an unknown activation.
    """
    check_choice("pool_size", pool_size, POOL_SIZES)
    if len(widths) != 5 or any(not isinstance(width, int) or width < 1 for width in widths):
        raise ValueError(f"widths must be five whole numbers of at least 1, got {widths}")
    if groups < 1 or any(width % groups for width in widths):
        raise ValueError(f"widths must be divisible by groups, got {widths} and {groups}")
    last = named(pool=nn.MaxPool2d(pool_size, 2), grid=nn.AdaptiveAvgPool2d(GRID), flatten=nn.Flatten())
    first, second, third, fourth, fifth = widths
    convs = (
        nn.Conv2d(in_channels, first, 11, 4, padding=2),
        nn.Conv2d(first, second, 5, padding=2, groups=groups),
        nn.Conv2d(second, third, 3, padding=1),
        nn.Conv2d(third, fourth, 3, padding=1, groups=groups),
        nn.Conv2d(fourth, fifth, 3, padding=1, groups=groups),
    )
    posts = (nn.MaxPool2d(pool_size, 2), nn.MaxPool2d(pool_size, 2), None, None, last)
    blocks = {
        f"conv{number}": _convolution(conv, activation, response_norm and number <= 2, post)
        for number, (conv, post) in enumerate(zip(convs, posts, strict=True), start=1)
    }
    blocks["fc6"] = _fully_connected(fifth * GRID**2, hidden, activation, dropout)
    blocks["fc7"] = _fully_connected(hidden, hidden, activation, dropout)
    least = 1
    for _ in range(3):
        least = 2 * (least - 1) + pool_size
    network = Network(
        nn.Identity(),
        blocks,
        named(fc=nn.Linear(hidden, num_classes)),
        input_size=InputSize(4 * (least - 1) + 11 - 2 * 2),
    )
    _initialise(network)
    return network


def _initialise(network: Network) -> None:
    """Section 5: weights N(0, 0.01); biases 1 in convolutions 2, 4, 5 and hidden layers, else 0."""
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for name in ones:
        for key, parameter in network.block(name).named_parameters():
            if key.endswith("bias"):
                nn.init.ones_(parameter)


def alexnet_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    width: int = 32,
    first_kernel: int = 5,
    groups: int = 1,
    response_norm: bool = False,
    pool_size: int = 3,
    activation: str = "relu",
    dropout: float = 0.0,
    image_size: int = 32,
) -> Network:
    """Three 5x5 convolutions of width, width and 2 width channels, each with pooling, and a linear classifier.

    first_kernel: pixels of the first convolution's side instead, odd. groups: of convolutions 2 and 3. response_norm:
    after convolutions 1 and 2. pool_size: 3 overlaps, 2 does not; both halve the resolution. activation: relu, tanh or
    sigmoid. dropout: probability before the classifier. image_size: of the square input, at least 8 pixels. Weights
    start as `layers.keep_variance` has them: with N(0, 0.01) every activation would need its own. Raises ValueError for
    a size, kernel, pool size, grouping or activation that is not possible.
    """
    check_choice("pool_size", pool_size, POOL_SIZES)
    if first_kernel < 1 or first_kernel % 2 == 0:
        raise ValueError(f"first_kernel must be an odd number of pixels, got {first_kernel}")
    if groups < 1 or width % groups:
        raise ValueError(f"width must be divisible by groups, got {width} and {groups}")
    if image_size < 8:
        raise ValueError(f"image_size must be at least 8 pixels, got {image_size}")
    channels = (in_channels, width, width, 2 * width)
    blocks = {}
    for number in (1, 2, 3):
        # Rounded up, so that windows of 2 and of 3 give maps of one size.
        pool = nn.MaxPool2d(pool_size, 2, ceil_mode=pool_size == 3)
        post = pool if number < 3 else named(pool=pool, flatten=nn.Flatten())
        size, grouped = (first_kernel, 1) if number == 1 else (5, groups)
        conv = nn.Conv2d(channels[number - 1], channels[number], size, padding=size // 2, groups=grouped)
        blocks[f"conv{number}"] = _convolution(conv, activation, response_norm and number < 3, post)
    head = named(dropout=nn.Dropout(dropout), fc=nn.Linear(2 * width * (image_size // 8) ** 2, num_classes))
    network = Network(nn.Identity(), blocks, head, input_size=InputSize(image_size, 0))
    keep_variance(network, activation)
    return network


PAPER = "Krizhevsky et al. 2012, NIPS"
ARCHITECTURES = {
    "alexnet": Architecture(alexnet, PAPER, KRIZHEVSKY2012, image_size=224, num_classes=1000),
    "alexnet_cifar": Architecture(alexnet_cifar, PAPER, KRIZHEVSKY2012_CIFAR),
}
