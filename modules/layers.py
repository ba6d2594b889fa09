"""Layers that several families share: sequences written as words, the classifier head, initialisation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn


def sequence(words: str, channels: int, convs: Sequence[nn.Conv2d] = ()) -> nn.Sequential:
    """Builds `conv`, `bn` and `relu` in the order of the words, e.g. "bn relu conv bn relu conv".

    channels: channels of the input, in (N, channels, H, W). convs: the convolutions in the order of the words.
    Every layer is its own module with its own name (conv1, bn1, relu1, conv2, ...), none works in place, so that hooks
    and attributions see each activation.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
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
    return nn.Sequential(layers)


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution padded so that stride 1 keeps the resolution."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)


def pooled_head(channels: int, num_classes: int, before: str = "") -> nn.Sequential:
    """[before] - global average pooling - linear: (N, channels, H, W) to (N, num_classes)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in sequence(before, channels).named_children():
        layers[name] = layer
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


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
