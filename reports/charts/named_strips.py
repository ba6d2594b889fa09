"""Strips of seeds with a name in front: a small comparison in which every seed is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes

from ablations.harness.judging.statistics import t_interval
from reports.charts.style import FAINT, INK, Drawn, panels, save, style

# Of one row: seed -> value, the colour of its dots, and published numbers.
Row = tuple[Mapping[int, float], str, Sequence[float]]


def draw_strips(
    folder: Path,
    name: str,
    title: str,
    label: str,
    rows: Mapping[str, Row],
    caption: str = "",
    logarithmic: bool = False,
) -> list[Drawn]:
    """Rows (name -> values) from the top to `folder`/figures/`name`.png, on one axis, which starts at 0 or has decades.

    A row without a value is left out; nothing is drawn without a row. A mean stands in words beside its row.
    """
    shown = {text: row for text, row in rows.items() if row[0]}
    if not shown:
        return []
    largest = max(value for found, _, paper in shown.values() for value in (*found.values(), *paper)) or 1.0
    highs = [t_interval(list(found.values()))[2] for found, _, _ in shown.values()]
    top = max([largest, *(min(high, 1.3 * largest) for high in highs if math.isfinite(high))])
    least = min((value for found, _, _ in shown.values() for value in found.values() if value > 0), default=top)
    left, right = (0.8 * least, 1.25 * top) if logarithmic else (-0.02 * top, 1.04 * top)
    with style():
        figure, (ax,) = panels(1, 0.55 * len(shown))
        for place, (found, colour, paper) in enumerate(shown.values()):
            _row(ax, place, list(found.values()), colour, max(left, 0.0), right)
            if paper:
                ax.plot(paper, [place + 0.27] * len(paper), "x-", color=FAINT, ms=5, mew=1.4, lw=1)
            ax.text(1.02, place, f"{fmean(found.values()):.3g}", va="center", transform=ax.get_yaxis_transform())
        ax.set_yticks(range(len(shown)), list(shown))
        ax.set_ylim(len(shown) - 0.45, -0.55)
        if logarithmic:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlim(left, right)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x")
        ax.set_xlabel(label)
        save(figure, folder / "figures" / f"{name}.png")
    words = "A dot is a seed, the bar the 95 % interval of their mean, which stands at the right."
    return [Drawn(f"figures/{name}.png", title, f"{caption} {words}".strip())]


def _row(ax: Axes, place: int, found: Sequence[float], colour: str, least: float, right: float) -> None:
    ax.scatter(found, [place] * len(found), s=26, color=colour, alpha=0.75, linewidths=0, zorder=3)
    mean, low, high = t_interval(found)
    if len(found) > 1:
        ax.plot([max(low, least), high], [place - 0.22] * 2, color=INK, lw=1.6, zorder=2)
        if high > right:  # the axis ends before the interval does
            ax.plot(right, place - 0.22, ">", color=INK, ms=5, clip_on=False)
    ax.plot([mean, mean], [place - 0.3, place - 0.14], color=INK, lw=2, zorder=3)
