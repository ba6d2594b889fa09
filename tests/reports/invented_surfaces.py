"""Invented loss surfaces: a smooth bowl, a rough one, and one with holes and interpolated points."""

import numpy as np

from ablations.probes.landscape.surface_file import COMPUTED, INTERPOLATED, Surface, axis

FACTS = {
    "network": "0a1b2c", "normalise": "filter", "vectors": "fixed", "batch_norm": "keep", "images": 512,
    "precision": "float32", "direction_seeds": [3, 4],
}  # fmt: skip
LOSS = "train/loss"


def bowl(steps=(9, 7), span=(-1.0, 1.0), depth=0.5, **facts):
    """depth + 4 alpha^2 + beta^2, everywhere computed."""
    axes = [axis(span, steps[0]), axis((-1.0, 1.0), steps[1])]
    surface = Surface.blank(axes, [LOSS], {**FACTS, **facts})
    alpha, beta = np.meshgrid(*axes, indexing="ij")
    surface.values[LOSS][:] = depth + 4 * alpha**2 + beta**2
    surface.state[:] = COMPUTED
    return surface


def rough(steps=(9, 7)):
    """A bowl whose walls reach some hundreds, so that its range asks for a logarithmic scale."""
    surface = bowl(steps)
    alpha, beta = np.meshgrid(*surface.axes, indexing="ij")
    surface.values[LOSS] *= np.exp(2 * np.abs(alpha) + 2 * beta**2) * (1.5 + np.sin(9 * alpha) * np.cos(7 * beta))
    return surface


def holed():
    """`bowl` with an infinite point, one that is no number, and two that are interpolated."""
    surface = bowl()
    surface.values[LOSS][0, 1], surface.values[LOSS][2, 6] = np.inf, np.nan
    surface.state[5, :2] = INTERPOLATED
    return surface


def line(depth=0.5, error=0.1, broken=()):
    """A slice of 11 points with its standard error; broken: indices of points without a value."""
    surface = Surface.blank([axis((-1.0, 1.0), 11)], [LOSS, "train/loss_standard_error"], dict(FACTS))
    surface.values[LOSS][:] = depth + surface.axes[0] ** 2
    surface.values[LOSS][list(broken)] = np.nan
    surface.values["train/loss_standard_error"][:] = error
    surface.state[:] = COMPUTED
    return surface
