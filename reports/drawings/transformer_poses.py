"""Whether spatial transformers find the true pose of digits, and in which pose digits leave them.

Both poses are those of `ablations.probes.transformers.poses` and of the truth of `datamodules.made.distorted_digits`,
hence comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ablations.harness.store.records import Records
from reports.charts.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, Drawn, legend, panels, save, style
from reports.charts.tables import write_table
from reports.drawings.transformer_errors import left_out, name_of, values
from reports.drawings.transformer_pictures import Kept

Array = NDArray[Any]
UNITS = {"angle": "angle (degrees)", "scale": "scale", "shift": "shift (half image widths)"}
REMOVED = {"angle": (BLUE, "angle"), "scale": (ORANGE, "scale"), "shift": (GREEN, "place")}
LOWEST = -100.0  # % of variation removed, below which the axis ends
ROOM = 60  # points in a scatter above which they become fainter


def draw_poses(records: Records, folder: Path, arm: str) -> list[Drawn]:
    """Found against true angle, scale and shift of the test images of one arm's first seed, a panel each."""
    file = Kept(folder, arm, records.seeds(arm)).file(
        "poses.npz", *(f"{which}_{what}" for which in ("true", "found") for what in UNITS)
    )
    if file is None:
        return []
    poses = {what: (file[f"true_{what}"], file[f"found_{what}"]) for what in UNITS}
    shown = [what for what, (true, _) in poses.items() if np.ptp(true) > 0]
    if not shown:
        return []
    with style():
        figure, axes = panels(len(shown), 2.4)
        for ax, what in zip(axes, shown, strict=True):
            true, found = poses[what]
            faint = 0.35 if len(true) > ROOM else 0.8
            for column, colour in enumerate((BLUE, ORANGE)[: true[0].size]):
                x, y = (each.reshape(len(true), -1)[:, column] for each in (true, found))
                label = ("along x", "along y")[column] if what == "shift" else None
                ax.scatter(x, y, s=9, color=colour, alpha=faint, linewidths=0, label=label)
            # A window of twice the size shows the digit half as large, which a network may well prefer.
            slope = float((true * found).sum() / (true * true).sum()) if what == "scale" else 1.0
            ends = np.array([true.min(), true.max()])
            ax.plot(ends, slope * ends, color=INK, lw=1, ls=(0, (4, 3)))
            ax.set(xlabel=f"true {UNITS[what]}", ylabel=f"found {what}")
            correlation = values(records, arm, "pose", f"{what}/correlation")
            if correlation:
                seeds = "one seed" if len(correlation) == 1 else f"{len(correlation)} seeds"
                ax.set_title(f"correlation {fmean(correlation.values()):.2f}, mean of {seeds}")
            if what == "shift":
                ax.legend(loc="upper left", markerscale=2)
        save(figure, folder / "figures" / "poses.png")
    caption = (
        f"{name_of(arm)} on test digits turned, scaled and moved; a dot is an image, of one seed. The dashed line "
        "would undo the distortion; of the scale only the proportion counts, because the size of what leaves is free."
    )
    return [Drawn("figures/poses.png", "True and found poses", caption)]


def draw_remaining(records: Records, folder: Path, arms: Mapping[str, str]) -> list[Drawn]:
    """Histograms of the angle that a test digit has left when it leaves the transformer (arm -> its panel's title).

    Digits that came more than a right angle from upright have a colour of their own.
    """
    files = {arm: Kept(folder, arm, records.seeds(arm)).file("poses.npz", "true_angle", "left") for arm in arms}
    found = {arm: file for arm, file in files.items() if file is not None and np.ptp(file["true_angle"]) > 0}
    if not found:
        return []
    bins = list(range(-180, 181, 15))
    with style():
        figure, axes = panels(len(found), 1.8, "test images (%)", sharex=True)
        for ax, (arm, file) in zip(axes, found.items(), strict=True):
            left, turned = file["left"], np.abs(file["true_angle"]) > 90
            weights = np.full(len(left), 100 / len(left))
            ax.hist([left[~turned], left[turned]], bins, weights=[weights[~turned], weights[turned]], stacked=True,
                    color=[BLUE, RED], label=["came upright, within 90 degrees", "came upside down"])  # fmt: skip
            ax.axvline(0, color=FAINT, lw=1, ls=(0, (4, 3)))
            ax.set_title(f"{arms[arm]}{_numbers(records, arm)}")
        axes[-1].set(xlabel="angle of the digit as it leaves (degrees)", xticks=range(-180, 181, 90), xlim=(-180, 180))
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper left", ncols=1)
        save(figure, folder / "figures" / "remaining.png")
    caption = (
        "The angle at which test digits leave the transformer, the true one minus the one found, of one seed; numbers "
        "are means over seeds. Where angles are undone all digits of a class leave at one "
        "angle, whichever it is; 0 is how they stand in the data set."
    )
    missing = left_out(records, arms)
    return [Drawn("figures/remaining.png", "The pose in which digits leave the transformer", caption + missing)]


def _numbers(records: Records, arm: str) -> str:
    """What the records tell beside a histogram, on lines of their own."""
    lines = ""
    removed = values(records, arm, "pose", "angle/removed")
    if removed:
        lines += f"\n{round(fmean(removed.values()))} % of the variation removed within a class"
    for label in sorted({row.fields["label"] for row in records.where(arm, probe="class", metric="kept_upside_down")}):
        kept = values(records, arm, "class", "kept_upside_down", label=label)
        if kept:
            lines += f"\n{round(fmean(kept.values()))} % of class {label} leave upside down"
    return lines


def draw_removed(records: Records, folder: Path, arms: Mapping[str, str]) -> list[Drawn]:
    """How much of the variation of angle, scale and place each arm takes away, every seed (arm -> its row's name)."""
    found = {
        arm: each
        for arm in arms
        if any((each := {what: values(records, arm, "pose", f"{what}/removed") for what in REMOVED}).values())
    }
    if not found:
        return []
    low = min(value for parts in found.values() for each in parts.values() for value in each.values())
    with style():
        figure, (ax,) = panels(1, 0.6 * len(found))
        for row, parts in enumerate(found.values()):
            for place, (what, (colour, _)) in enumerate(REMOVED.items()):
                if parts[what]:
                    _dots(ax, row + 0.27 * (place - 1), list(parts[what].values()), colour)
        ax.axvline(0, color=INK, lw=0.8)
        ax.set_yticks(range(len(found)), [arms[arm] for arm in found])
        ax.set_ylim(len(found) - 0.45, -0.55)
        ax.set_xlim(max(LOWEST, min(0.0, low)) - 3, 103)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x")
        ax.set_xlabel("variation within a class removed (%)")
        legend(figure, [Line2D([], [], ls="", marker="o", ms=5, color=c, label=name) for c, name in REMOVED.values()])
        save(figure, folder / "figures" / "removed.png")
    beyond = f" An arrow stands for seeds below {LOWEST:.0f} %; a mean below it has no bar." if low < LOWEST else ""
    caption = (
        "How much of what was done to test digits, turned, scaled and moved, is gone behind the transformer: 100 where "
        "all digits of a class leave alike, 0 where they leave as they came, less where they leave more different. "
        f"Dots are seeds, bars their means.{beyond}"
    )
    missing = left_out(records, arms, "pose", "angle/removed")
    return [Drawn("figures/removed.png", "What the transformer takes away", caption + missing)]


def _dots(ax: Axes, y: float, found: Sequence[float], colour: str) -> None:
    """Seeds and their mean; an arrow at the axis' end for what lies below it."""
    inside, mean = [value for value in found if value >= LOWEST], fmean(found)
    ax.scatter(inside, [y] * len(inside), s=18, color=colour, alpha=0.7, linewidths=0, zorder=3)
    if len(inside) < len(found):
        ax.plot(LOWEST, y, "<", color=colour, ms=5, zorder=3)
    if mean >= LOWEST:
        ax.plot([mean, mean], [y - 0.12, y + 0.12], color=INK, lw=2, zorder=4)


def write_poses(records: Records, folder: Path) -> list[Drawn]:
    """Correlations of true and found poses, and what is taken away, of every arm that has them, means over seeds."""
    metrics = [f"{what}/{how}" for how in ("correlation", "removed") for what in UNITS]
    rows: list[list[object]] = []
    for arm in records.where(probe="pose").arms:
        found = [values(records, arm, "pose", metric) for metric in metrics]
        if any(found):
            rows.append([arm, *(fmean(each.values()) if each else None for each in found)])
    if not rows:
        return []
    columns = ["arm", *(name for _, name in REMOVED.values())]
    columns += [f"{name} removed, %" for _, name in REMOVED.values()]
    caption = (
        "Correlation of the true with the found angle, scale and place over test images, and the share of their "
        "variation within a class that is gone behind the transformer (circular variance of angles, variance of log "
        "scales and of places); means over seeds, empty where nothing varies. Angles beyond 135 degrees come round and "
        "have no correlation."
    )
    return [write_table(folder, "poses", "Found poses in numbers", caption, columns, rows)]
