"""Strips of seeds with a name in front: a small comparison in which every seed is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes

from ablations.harness.declare.chart import Strips
from ablations.harness.judging.statistics import t_interval
from ablations.harness.store.records import Records
from reports.charts.style import BLUE, FAINT, INK, Drawn, panels, save
from reports.charts.values import by_seed, left_out


def draw_strips(chart: Strips, records: Records, folder: Path) -> list[Drawn]:
    """A row for each arm from the top, on one axis, which starts at 0 or has decades; nothing without a row.

    A row without a value is left out. A mean stands in words beside its row.
    """
    values = {arm: list(by_seed(chart.quantity, records, arm).values()) for arm in chart.rows.values() or records.arms}
    named = chart.rows or {arm: arm for arm, found in values.items() if found}
    shown = {name: values[arm] for name, arm in named.items() if values[arm]}
    if not shown:
        return []
    papers = {name: chart.published.get(name, ()) for name in shown}
    largest = max(value for found in (*shown.values(), *papers.values()) for value in found) or 1.0
    highs = [t_interval(found)[2] for found in shown.values()]
    top = max([largest, *(min(high, 1.3 * largest) for high in highs if math.isfinite(high))])
    least = min((value for found in shown.values() for value in found if value > 0), default=top)
    left, right = (0.8 * least, 1.25 * top) if chart.logarithmic else (-0.02 * top, 1.04 * top)
    figure, (ax,) = panels(1, 0.55 * len(shown))
    for place, (name, found) in enumerate(shown.items()):
        _row(ax, place, found, max(left, 0.0), right)
        if paper := papers[name]:
            ax.plot(paper, [place + 0.27] * len(paper), "x-", color=FAINT, ms=5, mew=1.4, lw=1)
        ax.text(1.02, place, f"{fmean(found):.3g}", va="center", transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(shown)), list(shown))
    ax.set_ylim(len(shown) - 0.45, -0.55)
    if chart.logarithmic:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlim(left, right)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x")
    ax.set_xlabel(chart.label)
    caption = chart.caption + left_out(chart.quantity, records, list(named.values()))
    words = "A dot is a seed, the bar the 95 % interval of their mean, which stands at the right."
    return [save(figure, folder, chart.name, chart.title, f"{caption} {words}".strip())]


def _row(ax: Axes, place: int, found: Sequence[float], least: float, right: float) -> None:
    ax.scatter(found, [place] * len(found), s=26, color=BLUE, alpha=0.75, linewidths=0, zorder=3)
    mean, low, high = t_interval(found)
    if len(found) > 1:
        ax.plot([max(low, least), high], [place - 0.22] * 2, color=INK, lw=1.6, zorder=2)
        if high > right:  # the axis ends before the interval does
            ax.plot(right, place - 0.22, ">", color=INK, ms=5, clip_on=False)
    ax.plot([mean, mean], [place - 0.3, place - 0.14], color=INK, lw=2, zorder=3)
