"""Highway networks: Srivastava et al. 2015, arXiv:1507.06228 (in short 1505.00387).

    y = H(u) * T(u) + u * C(u),    T = sigmoid(W u + b),    C = 1 - T

As a residual block the shortcut is the identity and the branch T(u) * (H(u) - u): a deleted block is one whose gate is
shut, the lesion of section 4. `carry="separate"` gives the shortcut a gate C of its own. In every branch `transform` is
the layer of H, `gate` that of T; `gate_activation` gives T itself.

Fully connected networks (section 3.1): one plain layer, `depth` - 1 highway layers of 50 units, a classifier. Their
plain twins, of 71 units, are in `modules.families.mlp`.
Convolutional MNIST networks (table 1): one plain and 8 highway 3x3 layers of 16 or 32 maps, a classifier. With
3 x 3 maps before it, these have the published 39k and 151k parameters; where the three 2x2 pools stand, after every
third layer, is ours.
CIFAR networks (table 2): only depth and rounded parameters are known to us. Ours follow Fitnet 4: three stages with 2x2
max pooling between them, all maps of a stage alike so that its layers can be highway layers; the first of a stage,
which changes the number of maps, is plain. Highway19 (B, about 2.3M) has 5, 6 and 6 3x3 layers and, in the place of
Fitnet's fully connected layer, a 1x1 layer; highway32 (C, about 1.25M) has 31 layers, 3x3 and 1x1 in turn. Their head
averages over the last map, as the paper's network for table 3 does.

Where the paper is silent: weights start from `layers.keep_variance`, those of gates from Glorot uniform, biases at 0;
the bias of a separate carry gate starts at the opposite of the transform gate's, so that both forms start alike. No
dropout. The gates' bias: the paper has -2 (MNIST, 50 layers), -4 (CIFAR-100) and a search in [-1, -10]. Here open gates
shrink the signal of every layer, so the deeper networks need the more closed ones: -2 for the 10 layers of
`highway_conv`, -4 elsewhere. On 16-pixel digits, 300 steps train 10, 50 and 100 layers from -4; from -2 only 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

from torch import Tensor, nn

from modules.architecture import Architecture
from modules.blocks.block import Block
from modules.blocks.layers import activation_layer, check_choice, conv, keep_variance, named, plain_block, pooled_head
from modules.blocks.network import InputSize, Network
from modules.training.recipe import HE2015_CIFAR, Recipe

Carry = Literal["coupled", "separate"]
Layer = Callable[[], nn.Conv2d | nn.Linear]

HIGHWAY_MNIST = Recipe(
    epochs=100,
    weight_decay=0.0,
    schedule="exponential",
    augmentation="none",
    source="Srivastava et al. 2015, 1507.06228, section 3.1: momentum, exponential fall; there the best of 100 random "
    "runs, the numbers are ours",
)
HIGHWAY_CONV_MNIST = replace(
    HIGHWAY_MNIST,
    epochs=50,
    learning_rate=0.03,
    source="Srivastava et al. 2015, 1507.06228, section 3.2 gives no numbers; these are ours",
)
HIGHWAY_CIFAR = replace(
    HE2015_CIFAR,
    learning_rate=0.05,
    warmup_steps=400,
    source="Srivastava et al. 2015, 1507.06228, section 3.3: momentum, steps tuned on a validation split; schedule of "
    "He et al. 2015, rate ours, below theirs because there is no batch norm",
)


class GatedTransform(nn.Module):
    """The branch of a highway layer: T(u) * (H(u) - u) where the gates are coupled, T(u) * H(u) where not."""

    def __init__(self, layer: Layer, activation: nn.Module, coupled: bool) -> None:
        super().__init__()
        self.transform = layer()
        self.activation = activation
        self.gate = layer()
        self.gate_activation = nn.Sigmoid()
        self.coupled = coupled

    def forward(self, u: Tensor) -> Tensor:
        transformed = self.activation(self.transform(u))
        if self.coupled:
            transformed = transformed - u
        return self.gate_activation(self.gate(u)) * transformed


class CarryGate(nn.Module):
    """The shortcut of a highway layer with a carry gate of its own: C(u) * u."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.gate = layer()
        self.gate_activation = nn.Sigmoid()

    def forward(self, u: Tensor) -> Tensor:
        return self.gate_activation(self.gate(u)) * u


def highway_block(layer: Layer, activation: str, carry: str, post: nn.Module | None = None) -> Block:
    """One highway layer that keeps the shape; `layer` makes a linear layer or convolution that does.

    Raises ValueError for an unknown activation or carry.
    """
    check_choice("carry", carry, get_args(Carry))
    shortcut = CarryGate(layer) if carry == "separate" else nn.Identity()
    return Block(GatedTransform(layer, activation_layer(activation), carry == "coupled"), shortcut, post=post)


def _initialise(network: Network, activation: str, gate_bias: float, transform_gain: float = 1.0) -> None:
    keep_variance(network, activation)
    layers = {name: each for name, each in network.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}
    for name, module in layers.items():
        if name.endswith(".transform"):
            module.weight.data.mul_(transform_gain)
        if name.endswith(".gate"):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.constant_(module.bias, -gate_bias if name.endswith("shortcut.gate") else gate_bias)


def highway_fc(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 10,
    width: int = 50,
    gate_bias: float = -4.0,
    activation: str = "relu",
    carry: Carry = "coupled",
    transform_gain: float = 1.0,
    image_size: int = 28,
) -> Network:
    """The fully connected highway network: `depth` layers of `width` units, the first plain, and a classifier.

    Blocks are named `hidden2` to `hidden<depth>`; the first layer is the stem. gate_bias: initial bias of the transform
    gates. activation: of H, relu, tanh or sigmoid. carry: coupled is C = 1 - T. transform_gain: factor on the initial
    weights of H. image_size: width and height of the input in pixels. Raises ValueError for an unknown activation or
    carry.
    """
    first = nn.Linear(in_channels * image_size**2, width)
    stem = named(flatten=nn.Flatten(), fc=first, activation=activation_layer(activation))
    layer = partial(nn.Linear, width, width)
    blocks = {f"hidden{index}": highway_block(layer, activation, carry) for index in range(2, depth + 1)}
    network = Network(stem, blocks, named(fc=nn.Linear(width, num_classes)), input_size=InputSize(image_size, 0))
    _initialise(network, activation, gate_bias, transform_gain)
    return network


def _convolutions(
    kernels: tuple[tuple[int, ...], ...],
    widths: tuple[int, ...],
    in_channels: int,
    pools: int,
    activation: str,
    carry: str,
    skip: bool,
) -> tuple[nn.Module, dict[str, Block]]:
    """First layer and blocks: one stage for each tuple of kernels, the first `pools` stages end in a pool."""
    first = conv(in_channels, widths[0], kernels[0][0], bias=True)
    stem = named(conv=first, activation=activation_layer(activation))
    blocks: dict[str, Block] = {}
    channels = widths[0]
    for stage, (kernels_here, width) in enumerate(zip(kernels, widths, strict=True), start=1):
        for index, kernel in enumerate(kernels_here, start=1):
            if stage == index == 1:
                continue
            post = nn.MaxPool2d(2) if index == len(kernels_here) and stage <= pools else None
            if skip and channels == width:
                block = highway_block(partial(conv, width, width, kernel, bias=True), activation, carry, post)
            else:
                convolution = conv(channels, width, kernel, bias=True)
                block = plain_block({"conv": convolution, "activation": activation_layer(activation)}, post)
            blocks[f"stage{stage}_layer{index}"] = block
            channels = width
    return stem, blocks


def highway_conv(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    width: int = 16,
    gate_bias: float = -2.0,
    activation: str = "relu",
    carry: Carry = "coupled",
    skip: bool = True,
    image_size: int = 28,
) -> Network:
    """The convolutional highway network for MNIST: 9 3x3 layers of `width` maps with three 2x2 pools, and a classifier.

    Blocks are named `stage1_layer2` to `stage3_layer3`. skip: False gives plain layers. image_size: in pixels, at least
    8; other arguments as `highway_fc`. Raises ValueError for a smaller image, an unknown activation or carry.
    """
    if image_size < 8:
        raise ValueError(f"image_size must be at least 8 pixels for three 2x2 pools, got {image_size}")
    stem, blocks = _convolutions(((3,) * 3,) * 3, (width,) * 3, in_channels, 3, activation, carry, skip)
    head = named(flatten=nn.Flatten(), fc=nn.Linear(width * (image_size // 8) ** 2, num_classes))
    network = Network(stem, blocks, head, input_size=InputSize(image_size, 0))
    _initialise(network, activation, gate_bias)
    return network


CIFAR_STAGES = {  # depth -> kernel sizes of each stage; with the classifier they make `depth` layers
    19: ((3,) * 5, (3,) * 6, (3,) * 6 + (1,)),
    32: ((3, 1) * 5, (3, 1) * 5 + (3,), (3, 1) * 5),
}


def highway_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 19,
    width: int = 16,
    gate_bias: float = -4.0,
    activation: str = "relu",
    carry: Carry = "coupled",
    skip: bool = True,
) -> Network:
    """The convolutional highway network for CIFAR: stages of 2, 5 and 8 times `width` maps, averaged, and a classifier.

    depth: 19 or 32. At least 4 x 4 pixels. Blocks are named `stage1_layer2` and so on; other arguments as
    `highway_conv`. Raises ValueError for another depth, an unknown activation or carry.
    """
    check_choice("depth", depth, tuple(CIFAR_STAGES))
    widths = (2 * width, 5 * width, 8 * width)
    stem, blocks = _convolutions(CIFAR_STAGES[depth], widths, in_channels, 2, activation, carry, skip)
    network = Network(stem, blocks, pooled_head(widths[-1], num_classes), input_size=InputSize(4))
    _initialise(network, activation, gate_bias)
    return network


PAPER = "Srivastava et al. 2015, 1507.06228"
ARCHITECTURES = {
    **{
        f"highway{depth}": Architecture(
            highway_fc, PAPER, HIGHWAY_MNIST, {"depth": depth}, image_size=28, in_channels=1
        )
        for depth in (10, 20, 50, 100)
    },
    **{
        f"highway_conv_w{width}": Architecture(
            highway_conv, PAPER, HIGHWAY_CONV_MNIST, {"width": width}, image_size=28, in_channels=1
        )
        for width in (16, 32)
    },
    "highway_cifar": Architecture(highway_cifar, PAPER, HIGHWAY_CIFAR),
    "highway19": Architecture(highway_cifar, PAPER, HIGHWAY_CIFAR, {"depth": 19}),
    "highway32": Architecture(highway_cifar, PAPER, HIGHWAY_CIFAR, {"depth": 32, "width": 12}),
}
