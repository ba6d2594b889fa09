"""How well one kernel is an edge detector: the least-squares fit of a Gabor function.

g(x, y) = offset + exp(-r^2 / (2 sigma^2)) * (a cos(2 pi u / wavelength) + b sin(2 pi u / wavelength)), with r the
distance from the fitted centre and u the position across the stripes. The envelope is round, because a kernel of
5 x 5 has 25 weights for the 8 numbers of this form already: noise alone is fitted by two thirds, so that a fit means
something only beside that of untrained kernels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SIZE = 5  # pixels; 3 x 3 has hardly more weights than the function has numbers


class Gabor(NamedTuple):
    """The fitted function; all but `explained` are NaN for a constant kernel.

    explained: share of the variance about the mean, 0..1. orientation: of the stripes, in degrees in [0, 180), counted
    from the horizontal towards the bottom. wavelength, sigma: in pixels.
    """

    explained: float
    orientation: float
    wavelength: float
    sigma: float


def fit_gabor(kernel: Array) -> Gabor:
    """The best of a grid of starts, refined by scipy's least squares: (k, k) with k of at least 5.

    Raises ValueError for a smaller kernel and one that is not square.
    """
    from scipy.optimize import least_squares

    size = len(kernel)
    if kernel.shape != (size, size) or size < LEAST_SIZE:
        raise ValueError(f"a Gabor fit takes square kernels of at least {LEAST_SIZE} pixels, got {kernel.shape}")
    y = kernel.astype(np.float64).ravel()
    total = float(((y - y.mean()) ** 2).sum())
    if total <= 1e-12 * float((y**2).sum()):
        return Gabor(0.0, math.nan, math.nan, math.nan)
    starts, bases = _starts(size)
    best = starts[int(((bases.transpose(0, 2, 1) @ y) ** 2).sum(axis=1).argmax())]
    half = (size - 1) / 2
    bounds = ([-half, -half, 0.4, -np.inf, 2.0], [half, half, float(size), np.inf, 2.0 * size])
    scaled = y / math.sqrt(total)
    found = least_squares(lambda p: _residual(p, scaled, size), best, bounds=bounds, max_nfev=60)
    _, _, sigma, angle, wavelength = (float(value) for value in found.x)
    # The stripes run at a right angle to the direction in which they change.
    return Gabor(1.0 - 2.0 * float(found.cost), (math.degrees(angle) + 90.0) % 180.0, wavelength, sigma)


def _columns(parameters: Array, size: int) -> Array:
    """The three functions that are weighed linearly, as columns: (..., 5) to (..., size * size, 3)."""
    along = np.arange(size) - (size - 1) / 2
    y, x = (grid.ravel() for grid in np.meshgrid(along, along, indexing="ij"))
    cx, cy, sigma, angle, wavelength = (parameters[..., i, None] for i in range(5))
    dx, dy = x - cx, y - cy
    envelope = np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    phase = 2 * np.pi * (dx * np.cos(angle) + dy * np.sin(angle)) / wavelength
    return np.stack([np.ones_like(phase), envelope * np.cos(phase), envelope * np.sin(phase)], axis=-1)


def _residual(parameters: Array, y: Array, size: int) -> Array:
    """What is left once offset, a and b are the best for these parameters."""
    columns = _columns(parameters, size)
    residual: Array = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return residual


@lru_cache(maxsize=8)
def _starts(size: int) -> tuple[Array, Array]:
    """Parameters all over their range (S, 5), and orthonormal bases of what they can make (S, size * size, 3)."""
    centres = np.array([-0.25, 0.0, 0.25]) * (size - 1)
    angles = np.arange(8) * np.pi / 8
    wavelengths = np.array([2.5, 4.0, size, 1.8 * size])
    sigmas = np.array([0.2, 0.4]) * size
    grid = np.meshgrid(centres, centres, sigmas, angles, wavelengths, indexing="ij")
    parameters = np.stack([axis.ravel() for axis in grid], axis=-1)
    return parameters, np.linalg.qr(_columns(parameters, size))[0]
