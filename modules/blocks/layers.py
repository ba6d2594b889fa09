"""Layers that several families share: sequences written as words, the classifier head, initialisation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from modules.blocks.block import Block, shape_match

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def activation_layer(name: str) -> nn.Module:
    """A new module of that activation; raises ValueError for an unknown name."""
    check_choice("activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]()


class ResponseNorm(nn.Module):
    """Local response normalisation of AlexNet, section 3.3: x / (2 + 1e-4 * sum of x^2 over 5 maps)^0.75.

    Keeps the shape (N, C, H, W). The sum runs over a channel and two neighbours on each side. torch's LocalResponseNorm
    divides alpha by the number of maps, which the paper does not, and takes twice the time on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        squares = nn.functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
        total = squares[:, :channels]
        for first in range(1, 5):
            total = total + squares[:, first : first + channels]
        return x * torch.pow(2 + 1e-4 * total, -0.75)


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, each under its name."""
    return nn.Sequential(OrderedDict(layers))


def sequence(words: str, channels: int, convs: Sequence[nn.Conv2d] = ()) -> nn.Sequential:
    """Builds `conv`, `bn` and `relu` in the order of the words, e.g. "bn relu conv bn relu conv".

    channels: channels of the input, in (N, channels, H, W). convs: the convolutions in the order of the words.
    Every layer is its own module with its own name (conv1, bn1, relu1, conv2, ...), none works in place, so that hooks
    and attributions see each activation.
    """
    layers: dict[str, nn.Module] = {}
    count = {"conv": 0, "bn": 0, "relu": 0}
    remaining = iter(convs)
    for word in words.split():
        count[word] += 1
        layer: nn.Module
        if word == "conv":
            layer = next(remaining)
            channels = layer.out_channels
        else:
            layer = nn.BatchNorm2d(channels) if word == "bn" else nn.ReLU()
        layers[f"{word}{count[word]}"] = layer
    return named(**layers)


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution padded so that stride 1 keeps the resolution."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)


def plain_block(layers: Mapping[str, nn.Module], post: nn.Module | None = None) -> Block:
    """A `replace` block of layers, the first of which is a convolution or linear; the others keep the resolution.

    Its shortcut, used only when the block is deleted, gives the shape of the layers' output without parameters.
    post: pooling or flattening, which a deletion leaves in place.
    """
    weighted = [layer for layer in layers.values() if isinstance(layer, nn.Conv2d | nn.Linear)]
    first, last = weighted[0], weighted[-1]
    out_channels = last.out_channels if isinstance(last, nn.Conv2d) else last.out_features
    if isinstance(first, nn.Linear):
        shortcut = shape_match(first.in_features, out_channels)
    else:
        padding = first.padding[0]
        assert isinstance(padding, int)
        shortcut = shape_match(
            first.in_channels, out_channels, first.stride[0], kernel_size=first.kernel_size[0], padding=padding
        )
    changes_shape = not isinstance(shortcut, nn.Identity)
    return Block(named(**layers), shortcut, post=post, merge="replace", changes_shape=changes_shape)


def pooled_head(channels: int, num_classes: int, before: str = "") -> nn.Sequential:
    """[before] - global average pooling - linear: (N, channels, H, W) to (N, num_classes)."""
    first = dict(sequence(before, channels).named_children())
    return named(**first, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(channels, num_classes))


def initialise(network: nn.Module, linear_std: float | None = None) -> None:
    """He et al. (arXiv:1502.01852) normal initialisation by fan-out for convolutions; batch norm 1 and 0; biases 0.

    linear_std: standard deviation of the linear layers' weights; None keeps PyTorch's uniform +-1/sqrt(fan_in).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def keep_variance(network: nn.Module, activation: str) -> None:
    """Weights that keep the variance of a plain network's signal: He normal by fan-in for relu, else Glorot uniform.

    For convolutions and linear layers; biases become 0. Biases and weights of batch norm stay.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if activation == "relu":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raises ValueError naming the value and what is allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def check_least(name: str, value: object, least: int = 1) -> None:
    """Raises ValueError for anything but a whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_dropout(dropout: float, name: str = "dropout") -> None:
    """Raises ValueError for no probability, and for 1, which leaves nothing."""
    if not 0 <= dropout < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {dropout}")
