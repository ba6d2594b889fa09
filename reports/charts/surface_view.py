"""What every picture of loss surfaces says: the range that panels share, holes, interpolated points, policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ablations.harness.store.records import as_text
from ablations.probes.landscape.surface_file import INTERPOLATED, OPEN, Array, Surface

Panel = tuple[str, Surface]
"""The name of a network, or of another arm, and its surface."""

LOGARITHMIC_FROM = 20.0  # the ratio of highest to lowest value from which heights and levels are logarithmic
# Key in `Surface.facts` -> what a figure calls it.
POLICIES = {
    "normalise": "normalisation",
    "vectors": "biases and batch norm",
    "batch_norm": "batch-norm statistics",
    "images": "images",
    "precision": "precision",
    "direction_seeds": "seeds of directions",
}


class View(NamedTuple):
    """The finite values of all panels: their range, and whether it asks for a logarithmic scale."""

    low: float
    high: float
    logarithmic: bool


def view_of(panels: Sequence[Panel], metric: str, dimensions: int) -> View:
    """The range of a metric over all panels; 0 to 1 if no value is finite.

    Raises ValueError without a panel, or for a surface of other dimensions or without the metric.
    """
    if not panels:
        raise ValueError("a picture of loss surfaces needs at least one surface")
    values = []
    for label, surface in panels:
        if len(surface.axes) != dimensions:
            raise ValueError(f"surface {label!r} has {len(surface.axes)} axes; this picture needs {dimensions}")
        if metric not in surface.values:
            raise ValueError(f"surface {label!r} has no metric {metric!r}; it has {', '.join(surface.values)}")
        values.append(surface.values[metric][np.isfinite(surface.values[metric])])
    finite = np.concatenate(values)
    if not finite.size:
        return View(0.0, 1.0, False)
    low, high = float(finite.min()), float(finite.max())
    return View(low, high, low > 0 and high / low >= LOGARITHMIC_FROM)


def span(panels: Sequence[Panel], axis: int) -> tuple[float, float]:
    """From the lowest to the highest coordinate that any panel has along an axis."""
    return min(s.axes[axis][0] for _, s in panels), max(s.axes[axis][-1] for _, s in panels)


def holes(surface: Surface, metric: str) -> Array:
    """Coordinates (N, dimensions) of the points that were computed and have no finite value."""
    where = np.argwhere((surface.state != OPEN) & ~np.isfinite(surface.values[metric]))
    columns = [axis[where[:, number]] for number, axis in enumerate(surface.axes)]
    return np.stack(columns, axis=1)


def notes(panels: Sequence[Panel], metric: str, shown: str) -> str:
    """The sentences on points that were not computed; `shown` says how holes look, such as "hatched"."""
    said = []
    for label, surface in panels:
        counts = {
            f"have no finite value ({shown})": len(holes(surface, metric)),
            "are interpolated between computed neighbours": int(np.sum(surface.state == INTERPOLATED)),
            f"are not computed yet ({shown})": surface.open,
        }
        parts = [f"{count} {words}" for words, count in counts.items() if count]
        if parts:
            said.append(f"{label}: of {surface.state.size} points {', '.join(parts)}.")
    return " ".join(said)


def policies(panels: Sequence[Panel]) -> str:
    """How the surfaces were computed, from their facts: first what they share, then what each has of its own."""
    told = [{key: _said(surface.facts[key]) for key in POLICIES if key in surface.facts} for _, surface in panels]
    shared = [key for key in POLICIES if all(key in facts and facts[key] == told[0][key] for facts in told)]
    parts = ["; ".join(f"{POLICIES[key]}: {told[0][key]}" for key in shared)]
    for (label, _), facts in zip(panels, told, strict=True):
        own = "; ".join(f"{POLICIES[key]}: {value}" for key, value in facts.items() if key not in shared)
        parts.append(f"{label} - {own}" if own else "")
    return ". ".join(part for part in parts if part)


def levels(view: View) -> list[float]:
    """Ascending heights of contours: below the lowest value, above the highest, and round numbers between.

    Logarithmic: several in every power of ten, fewer over a wide range, so that there are about 20 at most.
    """
    low, high = view.low, view.high
    if view.logarithmic:
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
            found = [factor * 10.0**power for power in powers for factor in factors]
            if sum(low < level < high for level in found) <= 20:
                break
    else:
        width = (high - low) or abs(low) or 1.0
        step = 10.0 ** math.floor(math.log10(width / 12))
        step *= next(factor for factor in (1, 2, 5, 10) if width / (factor * step) <= 12)
        found = [step * count for count in range(math.floor(low / step) - 1, math.ceil(high / step) + 2)]
    first = max(i for i, level in enumerate(found) if level <= low)
    last = min(i for i, level in enumerate(found) if level > high)
    return found[first : last + 1]


def _said(fact: object) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{key} {as_text(value)}" for key, value in fact.items())
    return ", ".join(map(as_text, fact)) if isinstance(fact, list | tuple) else as_text(fact)
