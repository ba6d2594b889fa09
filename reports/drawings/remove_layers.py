"""The figures of Veit et al. 2016 (arXiv:1605.06431) in the paper's axes, drawn from the records of lesions alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablations.harness.store.records import Record, Records
from reports.charts.interactive import lines
from reports.charts.style import BLUE, FAINT, INK, ORANGE, RED, Drawn, legend, panels, percent_axis, save, whole_ticks
from reports.charts.values import finite

METRIC = "test/top1_error"
ERROR = "test error (%)"
NUM_BINS = 12  # of Kendall's tau, for the median line
BOX_FILL: dict[str, Any] = {"facecolor": "#D6E6F2", "edgecolor": BLUE}
BOX: dict[str, Any] = {
    "manage_ticks": False,
    "patch_artist": True,
    "showcaps": False,
    "boxprops": BOX_FILL,
    "whiskerprops": {"color": BLUE},
    "medianprops": {"color": INK, "linewidth": 1.4},
    "flierprops": {"marker": ".", "markersize": 3, "markeredgecolor": FAINT},
}
BAR: dict[str, Any] = {"facecolor": "#7FB8D9", "edgecolor": BLUE, "linewidth": 0.6}
BAR_RESHAPING: dict[str, Any] = {"facecolor": "#F6D58F", "edgecolor": "#9A6A00", "hatch": "////", "linewidth": 0.6}
BARE, SHADE = "#EDA985", "#FBEFD2"
SMALL_DOT: dict[str, Any] = {"color": INK, "markersize": 1.7, "alpha": 0.8, "markeredgewidth": 0}
DOT: dict[str, Any] = {"markersize": 4.5, "alpha": 0.55, "markeredgewidth": 0}
INTACT_LINE: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 2))}

Paint = Callable[[Axes, Records], None]
Keys = list[Patch | Line2D]


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Writes every figure that the records allow to `folder`/figures, and the deletions as interactive charts.

    A value that is not finite is a gap, and the caption says so. Raises OSError if a file cannot be written.
    """
    records = records.where(metric=METRIC)
    drawn = []
    for name, probe, title, paint, caption in FIGURES:
        arms = records.where(probe=probe).arms
        if not arms:
            continue
        shown = [row for row in records if row.arm in arms and row.probe in (probe, "delete", "intact")]
        drawn.append(save(paint(records, arms), folder, name, title, caption + _gaps(shown)))
    for name, probe, title, over, x_label, values in CHARTS:
        found = records.where(probe=probe)
        series = {
            arm: {float(x): rows.values() for x, rows in found.where(arm).over(over).items()} for arm in found.arms
        }
        drawn += lines({ERROR: series}, x_label, folder, name, title, "Test error at test time.", values=values)
    return drawn


def single_deletion(records: Records, arms: Sequence[str]) -> Figure:
    """Fig. 3: a bar of test error for every block that is dropped on its own."""

    def paint(ax: Axes, rows: Records) -> None:
        rows = rows.where(probe="delete")
        positions = rows.over("position")
        for position, group in positions.items():
            ax.bar(position, _mean(group), **(BAR_RESHAPING if _reshapes(group) else BAR))
            ax.plot(_jitter(group, position, 0.6), group.values(), "o", **SMALL_DOT)
        whole_ticks(ax, list(positions))

    keys: Keys = [Patch(label="block keeps the shape", **BAR)]
    if _reshapes(records.where(probe="delete")):
        keys.append(Patch(label="block changes the shape", **BAR_RESHAPING))
    return _by_arm(records, arms, paint, 1.35, "index of the dropped block", [*keys, _seed_key()])


def shortcut_control(records: Records, arms: Sequence[str]) -> Figure:
    """Not in the paper: the branch deleted against the shortcut deleted, for every block with both."""
    sides = (("delete", -0.2, BAR["facecolor"]), ("delete_shortcut", 0.2, BARE))

    def paint(ax: Axes, rows: Records) -> None:
        both = rows.where(probe="delete_shortcut").over("position")
        for probe, offset, colour in sides:
            for position, group in rows.where(probe=probe).over("position").items():
                if position not in both:
                    continue
                if _reshapes(group):
                    ax.axvspan(position - 0.5, position + 0.5, color=SHADE, zorder=0, linewidth=0)
                ax.bar(position + offset, _mean(group), width=0.38, color=colour)
                ax.plot(_jitter(group, position + offset, 0.24), group.values(), "o", **SMALL_DOT)
        whole_ticks(ax, list(both))

    keys: Keys = [Patch(color=BAR["facecolor"], label="branch deleted"), Patch(color=BARE, label="shortcut deleted")]
    if _reshapes(records.where(probe="delete_shortcut")):
        keys.append(Patch(color=SHADE, label="block changes the shape"))
    return _by_arm(records, arms, paint, 1.6, "index of the block", [*keys, _seed_key()])


def random_deletion(records: Records, arms: Sequence[str]) -> Figure:
    """Fig. 5a: boxes of test error over the number of blocks that are deleted together."""
    look: dict[str, Any] = {"color": RED, "marker": "o"}

    def paint(ax: Axes, rows: Records) -> None:
        rows = rows.where(probe="delete_random")
        groups = rows.over("k")
        places = list(groups)
        ax.boxplot([finite(group.values()) for group in groups.values()], positions=places, widths=0.6, **BOX)
        for seed in rows.seeds():
            means = [_mean(group.where(seed=seed)) for group in groups.values()]
            ax.plot(places, means, linewidth=0.7, alpha=0.6, markersize=1.8, zorder=3, **look)
        whole_ticks(ax, places)

    keys: Keys = [
        Patch(**BOX_FILL, label="all draws of all seeds"),
        Line2D([], [], linewidth=0.9, markersize=2.5, label="mean of one seed", **look),
    ]
    return _by_arm(records, arms, paint, 2.1, "number of blocks deleted", keys)


def reordering(records: Records, arms: Sequence[str]) -> Figure:
    """Fig. 5b: test error against Kendall's tau between the new order of blocks and the trained one."""
    look: dict[str, Any] = {"color": INK, "linewidth": 1.6, "marker": "o", "markersize": 3}
    low = min(_taus(records.where(probe="reorder")))

    def paint(ax: Axes, rows: Records) -> None:
        rows = rows.where(probe="reorder")
        seeds = rows.seeds()
        for index, seed in enumerate(seeds):
            mine = rows.where(seed=seed)
            colour = mpl.colormaps["viridis"](0.9 * index / max(1, len(seeds) - 1))
            ax.plot(_taus(mine), mine.values(), ".", color=colour, **DOT)
        ax.plot(*_binned_median(rows), zorder=3, **look)
        ax.set_xlim(1.0 + 0.03 * (1 - low) + 1e-3, low - 0.03 * (1 - low) - 1e-3)  # from the trained order downwards

    keys: Keys = [
        Line2D([], [], color=FAINT, marker=".", linestyle="", markersize=6, label="one draw"),
        Line2D([], [], label="median in bins of tau", **look),
    ]
    return _by_arm(records, arms, paint, 2.1, "Kendall's tau to the trained order", keys, sharex=True)


def summary(records: Records, arms: Sequence[str]) -> Figure:
    """The distribution of the error after a single deletion over blocks and seeds, a row per arm."""
    figure, (ax,) = panels(1, 0.35 + 0.55 * len(arms))
    keys = [Line2D([], [], color=BLUE, marker=".", linestyle="", markersize=7, label="block keeps the shape")]
    if _reshapes(records.where(probe="delete")):
        keys.append(Line2D([], [], color=ORANGE, marker=".", ls="", ms=7, label="block changes the shape"))
    for place, arm in enumerate(arms):
        rows = records.where(arm=arm, probe="delete")
        where: dict[str, Any] = {"positions": [place - 0.25], "widths": 0.18, "orientation": "horizontal"}
        ax.boxplot([finite(rows.values())], showfliers=False, **where, **BOX)
        for reshapes, colour in ((False, BLUE), (True, ORANGE)):
            some = rows.where(changes_shape=reshapes)
            ax.plot(some.values(), _jitter(some, place + 0.13, 0.46), ".", color=colour, **DOT)
        if before := finite(records.where(arm, probe="intact").values()):
            ax.plot([statistics.fmean(before)] * 2, [place - 0.4, place + 0.4], color=RED, linewidth=1.6, zorder=4)
    ax.set(xlim=(-2, 102), ylim=(len(arms) - 0.5, -0.5), xlabel="test error after deleting one block (%)")
    ax.set_yticks(range(len(arms)), arms)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    legend(figure, [*keys, Line2D([], [], color=RED, linewidth=1.8, label="intact network")])
    return figure


# File, the probe whose records it needs, title, how it is drawn, caption; in the order of the report.
FIGURES = (
    ("single_deletion_summary", "delete", "Deleting one block: all arms at a glance", summary,
     "Every block of every seed deleted on its own: one dot each, above them median and quartiles."),
    ("single_deletion", "delete", "Deleting each block in turn", single_deletion,
     "Test error after dropping one block at test time, as in Fig. 3 of the paper; bars are means over seeds."),
    ("random_deletion", "delete_random", "Deleting several blocks", random_deletion,
     "Test error after deleting k random blocks, as in Fig. 5a of the paper. A box spans the quartiles, its line is "
     "the median, its whiskers reach 1.5 times its height."),
    ("reordering", "reorder", "Reordering the blocks", reordering,
     "Test error after swapping random pairs of blocks of the same shape, as in Fig. 5b of the paper. The colour of "
     "a dot is its seed, from dark for the first to light for the last."),
    ("shortcut_control", "delete_shortcut", "Control: deleting the shortcut instead", shortcut_control,
     "The control: one block loses its residual branch, or its shortcut instead. Bars are means over seeds."),
)  # fmt: skip
# The same, as what the horizontal axis is, in records and in words, and what the values at one place are.
CHARTS = (
    ("single_deletion", "delete", "Deleting each block in turn", "position", "index of the dropped block", "seeds"),
    ("random_deletion", "delete_random", "Deleting several blocks", "k", "number of blocks deleted", "draws"),
)


def _by_arm(
    records: Records, arms: Sequence[str], paint: Paint, height: float, x_label: str, keys: Keys, **shared: bool
) -> Figure:
    """A panel of errors for each arm, with the unharmed one: its mean as a line, its range over seeds as a band."""
    figure, axes = panels(len(arms), height, ERROR, sharey=True, **shared)
    for ax, arm in zip(axes, arms, strict=True):
        rows = records.where(arm)
        if before := finite(rows.where(probe="intact").values()):
            ax.axhspan(min(before), max(before), color=FAINT, alpha=0.25, linewidth=0, zorder=1)
            ax.axhline(statistics.fmean(before), zorder=2, **INTACT_LINE)
        paint(ax, rows)
        percent_axis(ax)
        ax.set_title(arm)
    axes[-1].set_xlabel(x_label)
    legend(figure, [*keys, Line2D([], [], label="intact network (band: all seeds)", **INTACT_LINE)])
    return figure


def _reshapes(rows: Iterable[Record]) -> bool:
    return any(row.fields["changes_shape"] == "yes" for row in rows)


def _mean(rows: Records) -> float:
    """The mean of the finite values, NaN without one, which matplotlib leaves blank."""
    values = finite(rows.values())
    return statistics.fmean(values) if values else math.nan


def _taus(rows: Iterable[Record]) -> list[float]:
    return [float(row.fields["tau"]) for row in rows]


def _binned_median(rows: Records) -> tuple[list[float], list[float]]:
    """Median tau and median error (%) of NUM_BINS bins of equal width in tau, empty ones left out."""
    points = [point for point in zip(_taus(rows), rows.values(), strict=True) if math.isfinite(point[1])]
    low = min((tau for tau, _ in points), default=1.0)
    bins: dict[int, list[tuple[float, float]]] = {}
    for tau, error in points:
        bins.setdefault(min(NUM_BINS - 1, int((1 - tau) / (1 - low or 1.0) * NUM_BINS)), []).append((tau, error))
    medians = [[statistics.median(axis) for axis in zip(*bins[index], strict=True)] for index in sorted(bins)]
    return [tau for tau, _ in medians], [error for _, error in medians]


def _jitter(rows: Sequence[Record], centre: float, width: float) -> list[float]:
    """Places side by side within `width` around `centre`, one for each seed, the same at every drawing."""
    order = {seed: index for index, seed in enumerate(sorted({row.seed for row in rows}))}
    return [centre + width * ((order[row.seed] + 0.5) / len(order) - 0.5) for row in rows]


def _seed_key() -> Line2D:
    return Line2D([], [], color=INK, marker="o", linestyle="", markersize=2.5, label="one seed")


def _gaps(rows: Iterable[Record]) -> str:
    """The sentence on what is not finite, "" if everything is."""
    lost: dict[str, set[int]] = {}
    for row in rows:
        if not math.isfinite(row.value):
            lost.setdefault(row.arm, set()).add(row.seed)
    if not lost:
        return ""
    named = "; ".join(f"{arm} seed {', '.join(map(str, sorted(seeds)))}" for arm, seeds in lost.items())
    return f" Values that are not finite (diverged) are gaps, and means leave them out: {named}."
