"""The order in which a surface is computed: a coarse grid first, then finer where straight lines do not suffice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from ablations.probes.landscape.surface_file import COMPUTED, INTERPOLATED, OPEN, Array, Surface

Index = tuple[int, ...]


def strides(shape: Sequence[int]) -> list[int]:
    """Distances between the points of each level, coarse to fine: powers of 2 that divide every axis; the last is 1."""
    found = [1]
    while all((steps - 1) % (2 * found[-1]) == 0 and (steps - 1) // (2 * found[-1]) >= 2 for steps in shape):
        found.append(2 * found[-1])
    return found[::-1]


def new_points(shape: Sequence[int], stride: int, coarser: int | None) -> list[Index]:
    """The points of the level `stride` that no coarser level has, row by row."""
    grids = [range(0, steps, stride) for steps in shape]
    return [
        index
        for index in itertools.product(*grids)
        if coarser is None or any(coordinate % coarser for coordinate in index)
    ]


def predicted(surface: Surface, values: Array, coarser: int, points: Sequence[Index]) -> Array:
    """What lines between the points of the coarser level say of other points."""
    coarse = tuple(slice(None, None, coarser) for _ in surface.axes)
    known = [np.arange(0, len(each), coarser) for each in surface.axes]
    found: Array = RegularGridInterpolator(known, values[coarse])(np.array(points, dtype=float))
    return found


def unneeded(
    surface: Surface, metric: str, points: Sequence[Index], level: Sequence[int], tolerance: float
) -> list[Index]:
    """The points in whose cell of the coarser level no corner was off by more than `tolerance`.

    level: the last three strides, coarse to fine, the last being that of `points`. How far a corner is off is the
    relative error of what lines between the level before had said of it; what is not finite is always off.
    """
    above, coarser, stride = level
    checked = [index for index in new_points(surface.state.shape, coarser, above) if surface.state[index] == COMPUTED]
    off: NDArray[np.bool_] = np.zeros(surface.state.shape, bool)
    if checked:
        where = tuple(np.transpose(checked))
        found = surface.values[metric][where]
        expected = predicted(surface, surface.values[metric], above, checked)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.abs(found - expected) / np.maximum(np.abs(found), np.abs(expected))
        off[where] = ~(error <= tolerance)
    return [index for index in points if not off[_around(index, stride)].any()]


def _around(index: Index, distance: int) -> tuple[slice, ...]:
    return tuple(slice(max(0, coordinate - distance), coordinate + distance + 1) for coordinate in index)


def interpolate(surface: Surface, points: Sequence[Index], coarser: int) -> None:
    """Gives the points the values that lines between the coarser level's points have there."""
    open_points = [index for index in points if surface.state[index] == OPEN]
    if not open_points:
        return
    where = tuple(np.transpose(open_points))
    for values in surface.values.values():
        values[where] = predicted(surface, values, coarser, open_points)
    surface.state[where] = INTERPOLATED
