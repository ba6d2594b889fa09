"""How far a surface is from convex, as a reader would see it in the picture, and as the Hessian says at its points."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablations.harness.store.records import Records
from ablations.probes.landscape.surface_file import Array


def least_curvature(values: Array, axes: tuple[Array, ...]) -> Array:
    """The smaller eigenvalue of the surface's own 2 x 2 Hessian at its inner points, by central differences.

    values: (n, m) on evenly spaced axes; the result is (n - 2, m - 2), NaN beside a hole.
    """
    first, second = (float(axis[1] - axis[0]) for axis in axes)
    inner = values[1:-1, 1:-1]
    with np.errstate(invalid="ignore", over="ignore"):
        along = (values[2:, 1:-1] - 2 * inner + values[:-2, 1:-1]) / first**2
        across = (values[1:-1, 2:] - 2 * inner + values[1:-1, :-2]) / second**2
        mixed = (values[2:, 2:] - values[2:, :-2] - values[:-2, 2:] + values[:-2, :-2]) / (4 * first * second)
        found: Array = (along + across) / 2 - np.hypot((along - across) / 2, mixed)
    return found


def share_negative(values: Array, axes: tuple[Array, ...]) -> float:
    """Share in % of the inner points where the surface curves downwards in some direction; holes are left out.

    NaN if no point is left.
    """
    curvature = least_curvature(values, axes)
    known = curvature[np.isfinite(curvature)]
    return 100.0 * float(np.mean(known < 0)) if len(known) else float("nan")


def excess_variation(values: Array) -> float:
    """How much more the surface goes up and down along its lines than valleys of the same ends and depth would.

    The total variation of a line over that of the way from its one end down to its lowest point and up to the other
    end, minus 1: 0 for every line without bumps. Mean over all lines along both axes; lines with a hole are left out.
    """
    lines: list[NDArray[np.float64]] = [values] if values.ndim == 1 else [*values, *values.T]
    found = []
    for line in lines:
        if np.isfinite(line).all():
            valley = line[0] + line[-1] - 2 * line.min()
            found.append(np.abs(np.diff(line)).sum() / valley - 1 if valley > 0 else 0.0)
    return float(np.mean(found)) if found else float("nan")


def mean_rise(values: Array, centre: int) -> float:
    """How much higher a line lies than its centre, averaged over its other points, in the units of the values."""
    return float(np.delete(values, centre).mean() - values[centre])


class MapPoint(NamedTuple):
    """A point of a plane: its least curvature there (in nats), and |lambda_min / lambda_max|; NaN if not known."""

    seed: int
    alpha: float
    beta: float
    in_plane: float
    ratio: float


def map_points(records: Records, arm: str) -> list[MapPoint]:
    """Every point at which `plane` sought the Hessian of an arm.

    What Lanczos had not settled of lambda_min counts as if it made it less convex.
    """
    values: dict[tuple[int, float, float], dict[str, float]] = {}
    for row in records.where(arm, probe="map"):
        there = row.seed, float(row.fields["alpha"]), float(row.fields["beta"])
        values.setdefault(there, {})[row.metric] = row.value
    found = []
    for there, point in values.items():
        least, largest = point["hessian/least"] - point["hessian/least_residual"], point["hessian/largest"]
        ratio = abs(least / largest) if largest else math.nan
        found.append(MapPoint(*there, point["curvature/least_in_plane"], ratio))
    return found
