"""Drawing primitives of every report: the house style, PNG files of the same bytes each time, and strips of seeds."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablations.harness.store.files import atomic_write_bytes

# Okabe and Ito's colours, told apart by readers with any colour vision.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
INK, FAINT = "#222222", "#8A8A8A"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK, FAINT)  # of lines, in this order
WIDTH = 4.6  # inches; a phone shows it 350 px wide, so that 10 points are 10 px there
STYLE: dict[str, Any] = {
    "figure.dpi": 160,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so the same on every computer
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
}

# Geometry of a strip of seeds, in units of its SVG's view box.
STRIP_WIDTH, STRIP_MARGIN, DOT, DOTS_BASE, DOTS_HEIGHT = 360.0, 14.0, 4.5, 50.0, 24.0


class Drawn(NamedTuple):
    """A figure as ablation.json lists it; file: relative to the ablation's folder."""

    file: str
    title: str
    caption: str


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this context to get the house style; the user's own settings are back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()  # otherwise a user's matplotlibrc would change the picture
        mpl.rcParams.update(STYLE)
        yield


def panels(count: int, height: float, label: str = "", **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels below each other, each `height` inches, and its axes from the top.

    label: of the vertical axes, once for all; shared: arguments of `Figure.subplots`. Call it inside `style`.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + count * height), layout="constrained")
    figure.supylabel(label, size=STYLE["axes.labelsize"])
    return figure, list(figure.subplots(count, 1, squeeze=False, **shared)[:, 0])


def percent_axis(ax: Axes) -> None:
    """The vertical axis of an error in percent, from 0 to 100 in every panel."""
    ax.set_ylim(0, 100)
    ax.set_yticks([0, 50, 100])


def whole_ticks(ax: Axes, positions: Sequence[int]) -> None:
    """Horizontal ticks on whole numbers among `positions`, few enough for the labels of a narrow figure."""
    ax.set_xlim(min(positions) - 0.7, max(positions) + 0.7)
    step = next((step for step in (1, 2, 5, 10, 20, 50) if len(set(positions)) / step <= 14), 100)
    ax.set_xticks([position for position in sorted(set(positions)) if position % step == 0])


def legend(figure: Figure, keys: Sequence[Patch | Line2D]) -> None:
    """A legend of two columns above the panels."""
    figure.legend(handles=keys, loc="outside upper left", ncols=2)


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same drawing gives the same bytes. Call it inside `style`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})  # which would hold matplotlib's version
    return stream.getvalue()


def save(figure: Figure, folder: Path, name: str, title: str, caption: str) -> Drawn:
    """Writes the figure to `folder`/figures/`name`.png; raises OSError as `atomic_write_bytes`."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / "figures" / f"{name}.png", as_png(figure))
    return Drawn(f"figures/{name}.png", title, caption)


def number(value: float) -> str:
    """A number as reports print it: four significant digits, large ones whole with commas between thousands."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


class Dot(NamedTuple):
    """A seed on a strip, in units of the view box, and what its tooltip says."""

    x: float
    y: float
    label: str


def strip(
    values: Mapping[str, float],
    low: float | None,
    high: float | None,
    threshold: float,
    upward: bool,
    exact: bool,
    unit: str,
) -> dict[str, Any] | None:
    """Where a strip's dots, interval, threshold and ticks lie in units of the view box; None without a value."""
    if not values:
        return None
    ends = [] if low is None or high is None else [low, high]
    shown = [*values.values(), *ends, threshold]
    span = (max(shown) - min(shown)) or abs(threshold) or 1.0
    left, right = min(shown) - 0.08 * span, max(shown) + 0.08 * span

    def x(value: float) -> float:
        return round(STRIP_MARGIN + (value - left) / (right - left) * (STRIP_WIDTH - 2 * STRIP_MARGIN), 1)

    rows: list[float] = []  # of each row of dots the x of its last dot: a dot that would touch it goes one row up
    placed: list[tuple[float, int, str]] = []
    for seed, value in sorted(values.items(), key=lambda item: item[1]):
        row = next((i for i, last in enumerate(rows) if x(value) - last >= 2 * DOT), len(rows))
        rows[row : row + 1] = [x(value)]
        placed.append((x(value), row, f"{'count' if exact else f'seed {seed}'}: {number(value)} {unit}".rstrip()))
    lift = min(2 * DOT, DOTS_HEIGHT / max(1, len(rows) - 1))  # many equal seeds overlap rather than leave the strip
    step = 10 ** math.floor(math.log10(span / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= 5)
    ticks = [step * i for i in range(math.ceil(left / step), math.floor(right / step) + 1)]
    return {
        "dots": [Dot(at, round(DOTS_BASE - row * lift, 1), label) for at, row, label in placed],
        "interval": None if exact or not ends else (x(ends[0]), x(ends[1])),
        "threshold": x(threshold),
        "side": (x(threshold), STRIP_WIDTH - x(threshold)) if upward else (0, x(threshold)),
        "anchor": "start" if x(threshold) < STRIP_WIDTH / 2 else "end",
        "ticks": [(x(tick), number(tick)) for tick in ticks],
    }
