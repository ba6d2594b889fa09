"""The kernels that look at the image: how edge-like, how colourful, in which orientation, and on which stream.

Krizhevsky, Sutskever & Hinton 2012 (NIPS), section 6.1 and figure 3, show such kernels; the measurements are ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ablations.probes.filters.gabor import LEAST_SIZE, Gabor, fit_gabor
from modules.blocks.spatial_transformer import SpatialTransformer

Array = NDArray[np.float64]


class Kernel(NamedTuple):
    """Measurements of one kernel.

    number: its place among the output channels. stream: which half of them it belongs to, 0 or 1. gabor: None for
    kernels below 5 x 5. saturation: share of its energy (sum of squares) that is not grey, 0..1, 2/3 for noise; None
    unless it reads three channels. orientation: of the stripes by the structure tensor of the weights' gradient,
    degrees in [0, 180) from the horizontal towards the bottom. coherence: 0..1, how far the gradient keeps to one
    direction.
    """

    number: int
    stream: int
    gabor: Gabor | None
    saturation: float | None
    orientation: float
    coherence: float


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """The network's convolutions in the order of definition, without those that only say where to look."""
    inside = {
        part
        for module in network.modules()
        if isinstance(module, SpatialTransformer)
        for part in module.localisation.modules()
    }
    return [module for module in network.modules() if isinstance(module, nn.Conv2d) and module not in inside]


def first_kernels(network: nn.Module) -> Tensor:
    """The first convolution's weights, (K, C, k, k); raises ValueError if there is none or its kernels are no squares.

    Kernels of 1 x 1 see no structure and are refused too.
    """
    found = convolutions(network)
    if not found:
        raise ValueError("the network has no convolution")
    weights = found[0].weight.detach()
    if weights.shape[2] != weights.shape[3] or weights.shape[2] < 2:
        raise ValueError(f"the first convolution has kernels of {weights.shape[2]} x {weights.shape[3]}")
    return weights


def has_streams(network: nn.Module) -> bool:
    """Whether the second convolution works in two groups, each of which sees one half of the first kernels."""
    return len(found := convolutions(network)) > 1 and found[1].groups == 2


def measure(weights: Tensor) -> list[Kernel]:
    """Measures every kernel of weights (K, C, k, k), in their order."""
    return [_measured(index, kernel, len(weights)) for index, kernel in enumerate(weights.double().cpu().numpy())]


def ordered(kernels: list[Kernel]) -> list[Kernel]:
    """From grey to colourful in four steps, within a step by orientation."""
    return sorted(kernels, key=lambda kernel: (int(4 * (kernel.saturation or 0.0)), kernel.orientation))


def main_component(kernel: Array) -> Array:
    """The spatial pattern that explains most of a kernel (C, k, k), up to its colour: (k, k)."""
    colours, strengths, patterns = np.linalg.svd(kernel.reshape(len(kernel), -1), full_matrices=False)
    sign = 1.0 if colours[:, 0].sum() >= 0 else -1.0
    pattern: Array = (sign * strengths[0] * patterns[0]).reshape(kernel.shape[1:])
    return pattern


def saturation(kernel: Array) -> float | None:
    """The share of energy off the grey axis of a kernel (3, k, k); None for another number of channels or all zeros."""
    energy = float((kernel**2).sum())
    if len(kernel) != 3 or energy == 0.0:
        return None
    return 1.0 - 3.0 * float((kernel.mean(axis=0) ** 2).sum()) / energy


def gradient_orientation(pattern: Array) -> tuple[float, float]:
    """Orientation in degrees and coherence of a pattern (k, k), see `Kernel`; both 0 where nothing changes."""
    down, right = np.gradient(pattern)
    xx, yy, xy = float((right**2).sum()), float((down**2).sum()), float((right * down).sum())
    if xx + yy == 0.0:
        return 0.0, 0.0
    across = 0.5 * math.atan2(2 * xy, xx - yy)
    return (math.degrees(across) + 90.0) % 180.0, math.hypot(xx - yy, 2 * xy) / (xx + yy)


def _measured(number: int, kernel: Array, count: int) -> Kernel:
    pattern = main_component(kernel)
    gabor = fit_gabor(pattern) if len(pattern) >= LEAST_SIZE else None
    return Kernel(number, 2 * number // count, gabor, saturation(kernel), *gradient_orientation(pattern))
