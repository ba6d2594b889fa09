"""Training curves: lines through the means, with every seed shown; of one metric, or as in He et al. 2016."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.harness.declare.chart import Curves, LossAndError
from ablations.harness.store.records import Records
from reports.charts.interactive import lines
from reports.charts.style import BLUE, COLOURS, GREEN, INK, ORANGE, PURPLE, RED, WIDTH, Drawn, legend, panels, save

LOSS, ERROR = "train/loss", "val/top1_error"
FEW = (ORANGE, BLUE, GREEN, RED, PURPLE)  # of the arms that are compared with a first one
NUM_COLUMNS = 3  # of a panel's legend, in a narrow figure
LINES = ("-", "--", ":", "-.")
CROSS = " A cross ends a run whose loss was not a number any more."
Look = dict[str, Any]
"""Colour, style and width of a line, as matplotlib takes them."""


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A colour and a line style for each name; styles change where the colours repeat."""
    pairs = itertools.product(LINES, COLOURS)
    return {name: {"color": colour, "linestyle": line} for name, (line, colour) in zip(names, pairs, strict=False)}


def draw_curves(chart: Curves, records: Records, folder: Path) -> list[Drawn]:
    """Curves over the epochs of training, a panel for each metric, as a picture and as an interactive chart.

    Thick lines are means over the seeds that reached an epoch, thin ones single seeds; a run that diverged ends early,
    with a cross. Draws nothing without a value.
    """
    arms = [arm for arm in chart.arms or records.arms if arm in records.arms]
    found = {metric: curves(records, metric, arms) for metric in chart.metrics}
    shown = [arm for arm in arms if any(arm in by_arm for by_arm in found.values())]
    if not shown:
        return []
    look = looks(arms if chart.arms else shown)  # an arm without a curve keeps its colour, which other figures give it
    called = {arm: chart.names.get(arm, arm) for arm in shown}
    figure, axes = panels(len(chart.metrics), 2.2)
    for ax, (metric, label) in zip(axes, chart.metrics.items(), strict=True):
        for arm, seeds in found[metric].items():
            diverged = records.where(arm, probe="diverged").seeds()
            draw_arm(ax, seeds, diverged, {"lw": 0.5, "alpha": 0.5}, {"lw": 1.8}, **look[arm])
        ax.set_ylabel(label)
        if chart.logarithmic:
            ax.set_yscale("log")
    axes[-1].set_xlabel("epoch")
    legend(figure, [Line2D([], [], label=called[arm], lw=1.8, **look[arm]) for arm in shown])
    caption = "Thick lines are means over seeds, thin ones single seeds."
    if records.where(probe="diverged"):
        caption += CROSS
    series = {
        label: {called[arm]: by_epoch(seeds) for arm, seeds in found[metric].items()}
        for metric, label in chart.metrics.items()
    }
    interactive = lines(series, "epoch", folder, chart.name, chart.title, "", chart.logarithmic)
    return [save(figure, folder, chart.name, chart.title, caption), *interactive]


def draw_loss_and_error(chart: LossAndError, records: Records, folder: Path) -> list[Drawn]:
    """Training loss and validation error in one panel for each comparison, as in figures 3 and 6 of He et al. 2016.

    Dashed against the left, logarithmic axis: training loss; solid against the right axis: validation error in %. The
    first arm of a panel is black. Thick lines are means over the seeds that reached an epoch, thin ones single seeds.
    Arms without records are left out, and panels without another arm than their first; draws nothing without a panel.
    """
    found = {metric: curves(records, metric) for metric in (LOSS, ERROR)}
    shown = {
        panel: {arm: label for arm, label in arms.items() if arm in found[LOSS]}
        for panel, arms in chart.panels.items()
        if any(arm in found[LOSS] for arm in list(arms)[1:])
    }
    if not shown:
        return []
    diverged = records.where(probe="diverged")
    heads = sum(1 + math.ceil(len(arms) / NUM_COLUMNS) for arms in shown.values())  # of all legends
    figure = Figure(figsize=(WIDTH, 0.4 + 1.9 * len(shown) + 0.19 * heads), layout="constrained")
    for ax, (panel, arms) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown.items(), strict=True):
        other: Axes = ax.twinx()
        colours = dict(zip(arms, _colours(len(arms)), strict=True))
        for arm, colour in colours.items():
            for side, metric, line in ((ax, LOSS, (0, (3, 1.5))), (other, ERROR, "-")):
                seeds, thin = found[metric].get(arm, {}), {"lw": 0.4, "alpha": 0.35}
                draw_arm(side, seeds, diverged.seeds(arm), thin, {"lw": 1.6}, color=colour, linestyle=line)
        ax.set_yscale("log")
        ax.grid(False)
        other.grid(False)
        other.spines["right"].set_visible(True)
        ax.set_ylabel("training loss")
        other.set_ylabel("validation error (%)")
        keys = [Line2D([], [], color=colours[arm], lw=1.8, label=label) for arm, label in arms.items()]
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderpad": 0.2}
        ax.legend(handles=keys, title=panel, alignment="left", ncols=NUM_COLUMNS, **place)
    ax.set_xlabel("epoch")
    caption = f"{chart.caption} Dashed, left axis: training loss; solid, right axis: validation error."
    caption += " Thick lines are means over seeds, thin ones single seeds."
    if any(arm in arms for arm in diverged.arms for arms in shown.values()):
        caption += CROSS
    return [save(figure, folder, chart.name, chart.title, caption.strip())]


def draw_arm(
    ax: Axes, seeds: Mapping[int, Mapping[int, float]], diverged: Sequence[int], thin: Look, thick: Look, **look: Any
) -> None:
    """One arm's curves (seed -> epoch -> value), with a cross where a seed diverged, and their mean."""
    for seed, curve in seeds.items():
        ax.plot(list(curve), list(curve.values()), **thin, **look)
        if seed in diverged:
            ax.plot(list(curve)[-1], list(curve.values())[-1], "x", ms=6, color=look["color"])
    reached = by_epoch(seeds)
    ax.plot(list(reached), [mean(values) for values in reached.values()], **thick, **look)


def by_epoch(seeds: Mapping[int, Mapping[int, float]]) -> dict[float, list[float]]:
    """Epoch -> the values of the seeds that reached it."""
    epochs = sorted({epoch for curve in seeds.values() for epoch in curve})
    return {epoch: [curve[epoch] for curve in seeds.values() if epoch in curve] for epoch in epochs}


def curves(records: Records, metric: str, arms: Sequence[str] = ()) -> dict[str, dict[int, dict[int, float]]]:
    """Arm -> seed -> epoch -> finite value of a metric of the training curves."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for row in records.where(probe="epoch", metric=metric):
        if (not arms or row.arm in arms) and math.isfinite(row.value):
            found.setdefault(row.arm, {}).setdefault(row.seed, {})[int(row.fields["epoch"])] = row.value
    return {arm: found[arm] for arm in (arms or records.arms) if arm in found}


def _colours(count: int) -> list[Any]:
    """Black, then colours that are told apart; a scale of colours where there are more than a few."""
    if count <= 1 + len(FEW):
        return [INK, *FEW][:count]
    scale = mpl.colormaps["viridis"]
    return [INK, *(scale(0.95 * index / (count - 2)) for index in range(count - 1))]
