"""The spectrum of a large symmetric matrix as far as random draws tell it, and the curve that a figure shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """The mean over random draws, its standard error, and each draw's value."""

    mean: float
    error: float
    draws: tuple[float, ...]


def summary(draws: Sequence[float]) -> Estimate:
    """Mean and standard error of two or more draws; of a single one the error is not known, nan."""
    error = float(np.std(draws, ddof=1)) / math.sqrt(len(draws)) if len(draws) > 1 else math.nan
    return Estimate(float(np.mean(draws)), error, tuple(draws))


class Density(NamedTuple):
    """A spectrum as a mixture of Gaussians: centres (m,), weights (m,) of sum 1, one standard deviation `width`."""

    centres: np.ndarray
    weights: np.ndarray
    width: float

    def at(self, points: np.ndarray) -> np.ndarray:
        """The density at each of the points (p,); it integrates to 1."""
        offsets = (points[:, None] - self.centres) / self.width
        found: np.ndarray = np.exp(-0.5 * offsets**2) @ self.weights / (self.width * math.sqrt(2 * math.pi))
        return found
