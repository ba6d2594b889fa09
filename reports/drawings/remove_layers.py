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
from reports.charts.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    RED,
    Drawn,
    legend,
    panels,
    percent_axis,
    save,
    style,
    whole_ticks,
)

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


def draw(records: Records, folder: str | Path, intact_label: str = "intact network") -> list[Drawn]:
    """Write every figure that the records allow to `folder`/figures; `folder` is the ablation's.

    A figure without records is left out; a value that is not finite is a gap, and the caption says so.
    Raises OSError if a file cannot be written.
    """
    records = records.where(metric=METRIC)
    drawn = []
    for name, probe, title, paint in FIGURES:
        arms = records.where(probe=probe).arms
        if not arms:
            continue
        with style():
            figure, caption = paint(records, arms, intact_label)
            save(figure, Path(folder) / "figures" / name)
        shown = [row for row in records if row.arm in arms and row.probe in (probe, "delete", "intact")]
        drawn.append(Drawn(f"figures/{name}", title, caption + _gaps(shown)))
    return drawn + _charts(records, Path(folder))


def _charts(records: Records, folder: Path) -> list[Drawn]:
    """The deletions once more as interactive charts, all arms in one panel."""
    drawn = []
    for name, probe, field, title, x_label, values in (
        ("single_deletion", "delete", "position", "Deleting each block in turn", "index of the dropped block", "seeds"),
        ("random_deletion", "delete_random", "k", "Deleting several blocks", "number of blocks deleted", "draws"),
    ):
        found = records.where(probe=probe)
        series = {
            arm: {float(x): [row.value for row in rows] for x, rows in _grouped(found.where(arm=arm), field)}
            for arm in found.arms
        }
        drawn += lines({ERROR: series}, x_label, folder, name, title, "Test error at test time.", values=values)
    return drawn


def _delete_each(records: Records, arms: Sequence[str], intact_label: str) -> tuple[Figure, str]:
    """The paper's Fig. 3: a bar of test error for every block that is dropped on its own, a panel per arm."""
    figure, axes = panels(len(arms), 1.35, ERROR, sharey=True)
    changing = False
    for ax, arm in zip(axes, arms, strict=True):
        _intact(ax, records, arm)
        rows = records.where(arm=arm, probe="delete")
        for position, group in _grouped(rows, "position"):
            reshapes = group[0].fields["changes_shape"] == "yes"
            changing |= reshapes
            ax.bar(position, _mean(group), **_bar(reshapes))
            _dots(ax, group, position, 0.6)
        percent_axis(ax)
        whole_ticks(ax, [int(row.fields["position"]) for row in rows])
        ax.set_title(arm)
    axes[-1].set_xlabel("index of the dropped block")
    bars = [Patch(label="block keeps the shape", **_bar(False))]
    bars += [Patch(label="block changes the shape", **_bar(True))] if changing else []
    legend(figure, [*bars, _seed_key(), _intact_key(intact_label)])
    return (
        figure,
        "Test error after dropping one block at test time, as in Fig. 3 of the paper; bars are means over seeds.",
    )


def _delete_random(records: Records, arms: Sequence[str], intact_label: str) -> tuple[Figure, str]:
    """The paper's Fig. 5a: boxes of test error over the number of blocks that are deleted together."""
    figure, axes = panels(len(arms), 2.1, ERROR, sharey=True)
    for ax, arm in zip(axes, arms, strict=True):
        _intact(ax, records, arm)
        rows = records.where(arm=arm, probe="delete_random")
        groups = _grouped(rows, "k")
        boxes, places = [_finite(group) for _, group in groups], [k for k, _ in groups]
        ax.boxplot(boxes, positions=places, widths=0.6, **BOX)
        for seed in rows.seeds():
            means = [(k, _mean([row for row in group if row.seed == seed])) for k, group in groups]
            ax.plot(
                *zip(*means, strict=True), color=RED, linewidth=0.7, alpha=0.6, marker="o", markersize=1.8, zorder=3
            )
        percent_axis(ax)
        whole_ticks(ax, places)
        ax.set_title(arm)
    axes[-1].set_xlabel("number of blocks deleted")
    box = Patch(**BOX_FILL, label="all draws of all seeds")
    mean = Line2D([], [], color=RED, linewidth=0.9, marker="o", markersize=2.5, label="mean of one seed")
    legend(figure, [box, mean, _intact_key(intact_label)])
    return figure, (
        "Test error after deleting k random blocks, as in Fig. 5a of the paper. A box spans the quartiles, its line is "
        "the median, its whiskers reach 1.5 times its height."
    )


def _reorder(records: Records, arms: Sequence[str], intact_label: str) -> tuple[Figure, str]:
    """The paper's Fig. 5b: test error against Kendall's tau between the new order of blocks and the trained one."""
    figure, axes = panels(len(arms), 2.1, ERROR, sharey=True, sharex=True)
    for ax, arm in zip(axes, arms, strict=True):
        _intact(ax, records, arm)
        rows = records.where(arm=arm, probe="reorder")
        seeds = rows.seeds()
        for index, seed in enumerate(seeds):
            mine = rows.where(seed=seed)
            colour = mpl.colormaps["viridis"](0.9 * index / max(1, len(seeds) - 1))
            ax.plot(_taus(mine), mine.values(), ".", color=colour, markersize=4.5, alpha=0.55, markeredgewidth=0)
        ax.plot(*_binned_median(rows), color=INK, linewidth=1.6, marker="o", markersize=3, zorder=3)
        percent_axis(ax)
        ax.set_title(arm)
    low = min(_taus(records.where(probe="reorder")))
    axes[0].set_xlim(1.0 + 0.03 * (1 - low) + 1e-3, low - 0.03 * (1 - low) - 1e-3)  # from the trained order downwards
    axes[-1].set_xlabel("Kendall's tau to the trained order")
    dot = Line2D([], [], color=FAINT, marker=".", linestyle="", markersize=6, label="one draw")
    median = Line2D([], [], color=INK, linewidth=1.6, marker="o", markersize=3, label="median in bins of tau")
    legend(figure, [dot, median, _intact_key(intact_label)])
    return figure, (
        "Test error after swapping random pairs of blocks of the same shape, as in Fig. 5b of the paper. The colour of "
        "a dot is its seed, from dark for the first to light for the last."
    )


def _control(records: Records, arms: Sequence[str], intact_label: str) -> tuple[Figure, str]:
    """Not in the paper: the branch deleted against the shortcut deleted, for every block with both."""
    figure, axes = panels(len(arms), 1.6, ERROR, sharey=True)
    probes = (("delete", -0.2, "#7FB8D9", "branch deleted"), ("delete_shortcut", 0.2, "#EDA985", "shortcut deleted"))
    changing = False
    for ax, arm in zip(axes, arms, strict=True):
        _intact(ax, records, arm)
        positions = [position for position, _ in _grouped(records.where(arm=arm, probe="delete_shortcut"), "position")]
        for probe, offset, colour, _ in probes:
            for position, group in _grouped(records.where(arm=arm, probe=probe), "position"):
                if position not in positions:
                    continue
                if group[0].fields["changes_shape"] == "yes":
                    changing = True
                    ax.axvspan(position - 0.5, position + 0.5, color="#FBEFD2", zorder=0, linewidth=0)
                ax.bar(position + offset, _mean(group), width=0.38, color=colour)
                _dots(ax, group, position + offset, 0.24)
        percent_axis(ax)
        whole_ticks(ax, positions)
        ax.set_title(arm)
    axes[-1].set_xlabel("index of the block")
    keys = [Patch(color=colour, label=label) for *_, colour, label in probes]
    keys += [Patch(color="#FBEFD2", label="block changes the shape")] if changing else []
    legend(figure, [*keys, _seed_key(), _intact_key(intact_label)])
    return (
        figure,
        "The control: one block loses its residual branch, or its shortcut instead. Bars are means over seeds.",
    )


def _summary(records: Records, arms: Sequence[str], intact_label: str) -> tuple[Figure, str]:
    """The distribution of the error after a single deletion over blocks and seeds, a row per arm."""
    figure, (ax,) = panels(1, 0.35 + 0.55 * len(arms))
    changing = False
    for row, arm in enumerate(arms):
        rows = records.where(arm=arm, probe="delete")
        ax.boxplot(
            [_finite(rows)], positions=[row - 0.25], widths=0.18, orientation="horizontal", showfliers=False, **BOX
        )
        for reshapes, colour in ((False, BLUE), (True, ORANGE)):
            some = rows.where(changes_shape=reshapes)
            changing |= reshapes and len(some) > 0
            ax.plot(
                some.values(),
                _jitter(some, row + 0.13, 0.46),
                ".",
                color=colour,
                markersize=4.5,
                alpha=0.55,
                markeredgewidth=0,
            )
        before = _finite(records.where(arm=arm, probe="intact"))
        if before:
            ax.plot([statistics.fmean(before)] * 2, [row - 0.4, row + 0.4], color=RED, linewidth=1.6, zorder=4)
    ax.set(xlim=(-2, 102), ylim=(len(arms) - 0.5, -0.5), xlabel="test error after deleting one block (%)")
    ax.set_yticks(range(len(arms)), arms)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    keys = [_dot_key(BLUE, "block keeps the shape")]
    keys += [_dot_key(ORANGE, "block changes the shape")] if changing else []
    legend(figure, [*keys, Line2D([], [], color=RED, linewidth=1.8, label=intact_label)])
    return (
        figure,
        "Every block of every seed deleted on its own: one dot each, above them median and quartiles.",
    )


Painter = Callable[[Records, Sequence[str], str], tuple[Figure, str]]
# File, the probe whose records it needs, title, how it is drawn; in the order of the report.
FIGURES: tuple[tuple[str, str, str, Painter], ...] = (
    ("single_deletion_summary.png", "delete", "Deleting one block: all arms at a glance", _summary),
    ("single_deletion.png", "delete", "Deleting each block in turn", _delete_each),
    ("random_deletion.png", "delete_random", "Deleting several blocks", _delete_random),
    ("reordering.png", "reorder", "Reordering the blocks", _reorder),
    ("shortcut_control.png", "delete_shortcut", "Control: deleting the shortcut instead", _control),
)


def _grouped(rows: Records, field: str) -> list[tuple[int, list[Record]]]:
    """The records by the whole number in a field of their point, ascending."""
    groups: dict[int, list[Record]] = {}
    for row in rows:
        groups.setdefault(int(row.fields[field]), []).append(row)
    return sorted(groups.items())


def _finite(rows: Iterable[Record]) -> list[float]:
    return [row.value for row in rows if math.isfinite(row.value)]


def _mean(rows: Iterable[Record]) -> float:
    """The mean of the finite values, NaN without one, which matplotlib leaves blank."""
    values = _finite(rows)
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


def _dots(ax: Axes, rows: Sequence[Record], position: float, width: float) -> None:
    ax.plot(
        _jitter(rows, position, width),
        [row.value for row in rows],
        "o",
        color=INK,
        markersize=1.7,
        alpha=0.8,
        markeredgewidth=0,
    )


def _intact(ax: Axes, records: Records, arm: str) -> None:
    """The unharmed error: its mean as a line, its range over seeds as a band."""
    values = _finite(records.where(arm=arm, probe="intact"))
    if values:
        ax.axhspan(min(values), max(values), color=FAINT, alpha=0.25, linewidth=0, zorder=1)
        ax.axhline(statistics.fmean(values), color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=2)


def _bar(reshapes: bool) -> dict[str, Any]:
    if reshapes:
        return {"facecolor": "#F6D58F", "edgecolor": "#9A6A00", "hatch": "////", "linewidth": 0.6}
    return {"facecolor": "#7FB8D9", "edgecolor": BLUE, "linewidth": 0.6}


def _dot_key(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker=".", linestyle="", markersize=7, label=label)


def _seed_key() -> Line2D:
    return Line2D([], [], color=INK, marker="o", linestyle="", markersize=2.5, label="one seed")


def _intact_key(label: str) -> Line2D:
    return Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 2)), label=f"{label} (band: all seeds)")


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
