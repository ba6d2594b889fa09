"""Training loss and validation error in one panel, as in figures 3 and 6 of He et al. 2016."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.harness.store.records import Records
from reports.charts.curves import by_epoch, curves
from reports.charts.style import BLUE, GREEN, INK, ORANGE, PURPLE, RED, WIDTH, Drawn, save, style

LOSS, ERROR = "train/loss", "val/top1_error"
COLOURS = (ORANGE, BLUE, GREEN, RED, PURPLE)
NUM_COLUMNS = 3  # of a panel's legend, in a narrow figure


def draw_loss_and_error(
    records: Records,
    folder: Path,
    name: str,
    title: str,
    panels: Mapping[str, Mapping[str, str]],
    caption: str = "",
) -> list[Drawn]:
    """Curves over the epochs to `folder`/figures/`name`.png, a panel (title -> arm -> its label) for each comparison.

    Dashed against the left, logarithmic axis: training loss; solid against the right axis: validation error in %. The
    first arm of a panel is black. Thick lines are means over the seeds that reached an epoch, thin ones single seeds.
    Arms without records are left out, and panels without another arm than their first; draws nothing without a panel.
    """
    found = {metric: curves(records, metric) for metric in (LOSS, ERROR)}
    shown = {
        panel: {arm: label for arm, label in arms.items() if arm in found[LOSS]}
        for panel, arms in panels.items()
        if any(arm in found[LOSS] for arm in list(arms)[1:])
    }
    if not shown:
        return []
    diverged = {(row.arm, row.seed) for row in records.where(probe="diverged")}
    with style():
        lines = sum(1 + math.ceil(len(arms) / NUM_COLUMNS) for arms in shown.values())  # of all legends
        figure = Figure(figsize=(WIDTH, 0.4 + 1.9 * len(shown) + 0.19 * lines), layout="constrained")
        for ax, (panel, arms) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown.items(), strict=True):
            other: Axes = ax.twinx()
            looks = dict(zip(arms, _colours(len(arms)), strict=True))
            for arm, colour in looks.items():
                _curve(ax, found[LOSS].get(arm, {}), arm, diverged, color=colour, linestyle=(0, (3, 1.5)))
                _curve(other, found[ERROR].get(arm, {}), arm, diverged, color=colour, linestyle="-")
            ax.set_yscale("log")
            ax.grid(False)
            other.grid(False)
            other.spines["right"].set_visible(True)
            ax.set_ylabel("training loss")
            other.set_ylabel("validation error (%)")
            keys = [Line2D([], [], color=looks[arm], lw=1.8, label=label) for arm, label in arms.items()]
            place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderpad": 0.2}
            ax.legend(handles=keys, title=panel, alignment="left", ncols=NUM_COLUMNS, **place)
        ax.set_xlabel("epoch")
        save(figure, folder / "figures" / f"{name}.png")
    caption += " Dashed, left axis: training loss; solid, right axis: validation error."
    caption += " Thick lines are means over seeds, thin ones single seeds."
    if any(arm in arms for arm, _ in diverged for arms in shown.values()):
        caption += " A cross ends a run whose loss was not a number any more."
    return [Drawn(f"figures/{name}.png", title, caption.strip())]


def _colours(count: int) -> list[Any]:
    """Black, then colours that are told apart; a scale of colours where there are more than a few."""
    if count <= 1 + len(COLOURS):
        return [INK, *COLOURS][:count]
    scale = mpl.colormaps["viridis"]
    return [INK, *(scale(0.95 * index / (count - 2)) for index in range(count - 1))]


def _curve(
    ax: Axes, seeds: Mapping[int, Mapping[int, float]], arm: str, diverged: set[tuple[str, int]], **look: Any
) -> None:
    """One arm's curves (seed -> epoch -> value) and their mean."""
    for seed, curve in seeds.items():
        ax.plot(list(curve), list(curve.values()), lw=0.4, alpha=0.35, **look)
        if (arm, seed) in diverged:
            ax.plot(list(curve)[-1], list(curve.values())[-1], "x", ms=6, color=look["color"])
    reached = by_epoch(seeds)
    ax.plot(list(reached), [mean(values) for values in reached.values()], lw=1.6, **look)
