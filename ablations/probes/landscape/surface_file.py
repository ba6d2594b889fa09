"""A loss surface as data: values on a grid along one or two directions, and the .npz file that keeps them."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ablations.harness.store.files import write_npz

Array = NDArray[np.float64]
# The policies by which surfaces differ, see `directions.random_direction` and `point_losses.Question`.
Normalise = Literal["filter", "layer", "weight", "none"]
Vectors = Literal["fixed", "moved"]
BatchNormPolicy = Literal["keep", "recompute", "batch"]
Precision = Literal["fp32", "bf16"]
OPEN, COMPUTED, INTERPOLATED = 0, 1, 2  # the states of a point


def axis(span: tuple[float, float], steps: int) -> Array:
    """Evenly spaced coordinates from one end of the span to the other; 0 is exactly 0 where it is one of them.

    Raises ValueError for fewer than two steps, or a span that is not finite and ascending.
    """
    start, stop = span
    if steps < 2:
        raise ValueError(f"an axis of {steps} points shows no surface; give 2 or more steps")
    if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
        raise ValueError(f"the span {start:g} to {stop:g} is not ascending; give two finite numbers, the lower first")
    values = np.linspace(start, stop, steps)
    values[np.abs(values) < 1e-9 * (stop - start)] = 0.0
    return values


@dataclass(frozen=True)
class Surface:
    """Values of metrics on a grid.

    axes: coordinates along each direction. values: metric, such as "train/loss", -> array of the grid's shape, NaN
    where a point is open. state: of each point OPEN, COMPUTED or INTERPOLATED (between computed neighbours). facts:
    plain values that say what was computed: hashes of network, directions and data, policies, seeds.
    """

    axes: tuple[Array, ...]
    values: dict[str, Array]
    state: NDArray[np.uint8]
    facts: dict[str, Any]

    @classmethod
    def blank(cls, axes: Sequence[Array], metrics: Iterable[str], facts: dict[str, Any]) -> Surface:
        """A surface all of whose points are open."""
        shape = tuple(len(each) for each in axes)
        values = {metric: np.full(shape, np.nan) for metric in metrics}
        return cls(tuple(axes), values, np.full(shape, OPEN, np.uint8), facts)

    @property
    def holes(self) -> int:
        """The number of computed points where some value is infinite or no number."""
        finite = np.all([np.isfinite(each) for each in self.values.values()], axis=0)
        return int(np.sum((self.state == COMPUTED) & ~finite))

    @property
    def computed(self) -> dict[str, Array]:
        """The values with NaN where they are not computed: lines between neighbours have kinks of their own."""
        return {metric: np.where(self.state == COMPUTED, values, np.nan) for metric, values in self.values.items()}

    @property
    def open(self) -> int:
        """The number of points that are neither computed nor interpolated."""
        return int(np.sum(self.state == OPEN))

    @property
    def centre(self) -> tuple[int, ...] | None:
        """The indices of the point where all coordinates are 0; None if the grid has none."""
        found = [np.flatnonzero(each == 0.0) for each in self.axes]
        return tuple(int(each[0]) for each in found) if all(len(each) for each in found) else None

    def save(self, path: str | Path) -> None:
        """Writes the file in one step; the same surface gives the same bytes."""
        arrays = {f"axis{number}": values for number, values in enumerate(self.axes)}
        arrays |= {f"values/{metric}": values for metric, values in self.values.items()}
        write_npz(path, state=self.state, facts=np.array(json.dumps(self.facts)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Surface:
        """Reads what `save` wrote; raises ValueError naming a damaged file, OSError without one."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                axes = tuple(stored[f"axis{number}"] for number in range(sum("axis" in key for key in stored.files)))
                values = {key.removeprefix("values/"): stored[key] for key in stored.files if key.startswith("values/")}
                found = cls(axes, values, stored["state"], json.loads(str(stored["facts"])))
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a surface file or is damaged: {error}") from error
        shape = tuple(len(each) for each in axes)
        if not axes or any(each.shape != shape for each in (found.state, *values.values())):
            raise ValueError(f"{path} is damaged: its arrays have other shapes than its axes, {shape}")
        return found


def resumed(path: Path, blank: Surface) -> Surface:
    """The surface that the file holds so far, or `blank` where there is no file.

    Raises ValueError naming the first fact in which the file differs from `blank`, such as the network's weights.
    """
    if not path.exists():
        return blank
    found = Surface.load(path)
    for fact, wanted in blank.facts.items():
        if found.facts.get(fact) != wanted:
            what = {"network": "other weights", "data": "other images", "directions": "other directions"}
            described = what.get(fact, f"{fact} = {found.facts.get(fact)} instead of {wanted}")
            raise ValueError(f"{path} holds a surface of {described}; give another file, or remove it")
    if [list(each) for each in found.axes] != [list(each) for each in blank.axes] or set(found.values) != set(
        blank.values
    ):
        raise ValueError(f"{path} holds a surface on other axes or of other metrics; give another file, or remove it")
    return found


def merged(surfaces: Sequence[Surface]) -> Surface:
    """One surface from the shares that several processes or machines computed of it.

    Raises ValueError if they are not shares of one surface.
    """
    first, *rest = surfaces
    for other in rest:
        if other.facts != first.facts or [list(a) for a in other.axes] != [list(a) for a in first.axes]:
            raise ValueError("these surfaces differ in their axes or facts; only shares of one surface can be merged")
        for metric, values in other.values.items():
            first.values[metric][other.state != OPEN] = values[other.state != OPEN]
        first.state[other.state != OPEN] = other.state[other.state != OPEN]
    return first
