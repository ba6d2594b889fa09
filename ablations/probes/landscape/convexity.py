"""How far a surface is from convex, as a reader would see it in the picture, and as the Hessian says at its points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
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


def share_negative(values: Array, axes: tuple[Array, ...], below: float = math.inf) -> float:
    """Share in % of the inner points where the surface curves downwards in some direction; holes are left out.

    below: points as high as this or higher are left out too: a network that is worse than guessing is of no interest,
    and far away the loss levels off everywhere. NaN if no point is left.
    """
    curvature = least_curvature(values, axes)
    known = curvature[np.isfinite(curvature) & (values[1:-1, 1:-1] < below)]
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


def median_ratio(records: Records, arms: Sequence[str], convex: bool) -> dict[int, float]:
    """Seed -> median ratio over the points of all maps of the arms that look convex, or over those that do not."""
    ratios: dict[int, list[float]] = {}
    for each in (each for arm in arms for each in map_points(records, arm)):
        if math.isfinite(each.in_plane) and math.isfinite(each.ratio) and (each.in_plane > 0) is convex:
            ratios.setdefault(each.seed, []).append(each.ratio)
    return {seed: median(found) for seed, found in ratios.items()}


def earlier_like(records: Records, arm: str, other: str) -> dict[int, tuple[int, float]]:
    """Seed -> of the earlier states of an arm that `Earlier` asked, the one whose loss is nearest to another arm's end.

    As its epoch and its share that is not convex. A seed without losses above 0 has none.
    """
    ends = {row.seed: row.value for row in records.where(other, probe="centre", metric="train/loss")}
    states: dict[int, list[tuple[float, int]]] = {}
    for row in records.where(arm, probe="earlier", metric="train/loss"):
        if row.value > 0 < ends.get(row.seed, 0.0):
            distance = abs(math.log(row.value / ends[row.seed]))
            states.setdefault(row.seed, []).append((distance, int(row.fields["epoch"])))
    nearest = {seed: min(found)[1] for seed, found in states.items()}
    shares = records.where(arm, probe="earlier", metric="share_nonconvex")
    return {seed: (epoch, shares.where(seed=seed, epoch=epoch)[0].value) for seed, epoch in sorted(nearest.items())}


def share_at_loss_of(records: Records, arm: str, other: str) -> dict[int, float]:
    """Seed -> share in % that was not convex around an arm when it fitted as another one does at its end."""
    return {seed: share for seed, (_, share) in earlier_like(records, arm, other).items()}
