"""Networks that neither timm nor torchvision has, written the way a tutorial would, for comparison with ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(depth: int, width: int) -> nn.Module:
    hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10),
    )  # fmt: skip


def nin() -> nn.Module:
    def unit(*sizes: int, kernel: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for a, b, k in zip(sizes, sizes[1:], (kernel, 1, 1), strict=False):
            layers += [nn.Conv2d(a, b, k, padding=k // 2), nn.ReLU()]
        return layers

    return nn.Sequential(
        *unit(3, 192, 160, 96, kernel=5), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(0.5),
        *unit(96, 192, 192, 192, kernel=5), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(0.5),
        *unit(192, 192, 192, 10, kernel=3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class Highway(nn.Module):
    """Fully connected layers with a transform gate."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(784, width)
        self.transforms = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        for transform, gate in zip(self.transforms, self.gates, strict=True):
            h, t = torch.relu(transform(x)), torch.sigmoid(gate(x))
            x = h * t + x * (1 - t)
        return self.last(x)


class Residual(nn.Module):
    """Basic block with a padded shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        self.stride, self.extra = stride, channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return torch.relu(x + y)


def resnet_cifar(depth: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for stage in range(3):
        for index in range((depth - 2) // 6):
            layers.append(Residual(channels, 16 * 2**stage, 2 if stage and not index else 1))
            channels = 16 * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def double(a: int, b: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, 3), nn.ReLU(), nn.Conv2d(b, b, 3), nn.ReLU())


class UNet(nn.Module):
    """Valid convolutions, cropped skips."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(double(a, b) for a, b in zip((1, *widths), widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.merge = nn.ModuleList(double(2 * w, w) for w in widths[-2::-1])
        self.head = nn.Conv2d(64, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for step in self.down[:-1]:
            x = step(x)
            skips.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = up(x)
            edge = (skip.shape[-1] - x.shape[-1]) // 2
            x = merge(torch.cat([skip[:, :, edge : edge + x.shape[-2], edge : edge + x.shape[-1]], x], 1))
        return self.head(x)


class Transformed(nn.Module):
    """An affine spatial transformer in front of a trunk."""

    def __init__(self, localisation: nn.Module, trunk: nn.Module) -> None:
        super().__init__()
        self.localisation, self.trunk = localisation, trunk

    def forward(self, x: Tensor) -> Tensor:
        theta = self.localisation(x).view(-1, 2, 3)
        grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
        return self.trunk(nn.functional.grid_sample(x, grid, align_corners=False))
