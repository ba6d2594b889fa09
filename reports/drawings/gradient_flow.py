"""Gradient norms over the depth of networks and over training, and activations' derivatives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ablations.harness.declare.chart import AgainstField
from ablations.harness.declare.measure import Quantity
from ablations.harness.store.records import Records
from reports.charts.against import draw_against
from reports.charts.curves import looks
from reports.charts.style import FAINT, Drawn, legend, panels, save
from reports.charts.values import means_over

BALANCE = AgainstField(
    "balance", "Gradient at the first block over that at the last", Quantity("gradient/activation", probe="gradient"),
    "ratio of norms", "epoch", "epoch", references={"perfectly stable": 1.0}, logarithmic=True,
    caption="Above the line gradients grow on their way back through the network, below it they vanish.",
)  # fmt: skip
NORMS = {"gradient/activation": "by the block's output", "gradient/parameters": "by the block's weights"}


def draw(records: Records, folder: Path, lenets: Sequence[str]) -> list[Drawn]:
    """Every figure that the records allow, to `folder`/figures. lenets: the arms that compare activations."""
    deep = [arm for arm in records.where(probe="gradient").arms if arm not in lenets]
    drawn = []
    for metric, words in NORMS.items():
        short = metric.partition("/")[2]
        drawn += _norms(records, folder, f"gradient_by_{short}", f"Gradient of the loss {words}", metric, deep)
    drawn += _over_training(records, folder, deep)
    title = "LeNet-5: gradient of the loss by each layer's output"
    drawn += _norms(records, folder, "lenet_gradients", title, "gradient/activation", lenets)
    return drawn + _derivatives(records, folder, lenets)


def _ends(records: Records, field: str) -> tuple[Records, Records]:
    """The records at the least and at the greatest number in a field of the point, such as the first and last epoch."""
    found = list(records.over(field).values())
    return found[0], found[-1]


def _norms(records: Records, folder: Path, name: str, title: str, metric: str, arms: Sequence[str]) -> list[Drawn]:
    """Norm over the position in the network, of the untrained network above and of the trained one below."""
    rows = {arm: records.where(arm=arm, probe="gradient", metric=metric) for arm in arms}
    rows = {arm: found for arm, found in rows.items() if found}
    if not rows:
        return []
    # One colour for a family, one line style for a depth, whatever arms there are.
    families, depths = ([arm.split("_")[0] for arm in rows], [arm.partition("_")[2] for arm in rows])
    colours = looks(list(dict.fromkeys(families)))
    lines = dict(zip(dict.fromkeys(depths), ("--", "-", ":"), strict=False))
    look = {
        arm: {"color": colours[family]["color"], "ls": lines[depth] if len(lines) > 1 else "-"}
        for arm, family, depth in zip(rows, families, depths, strict=True)
    }
    figure, axes = panels(2, 2.2, "norm of the gradient", sharex=True)
    for arm, found in rows.items():
        for ax, snapshot in zip(axes, _ends(found, "epoch"), strict=True):
            by_position = means_over(snapshot, "position")
            last = max(by_position, default=1)
            _line(ax, {position / last: norm for position, norm in by_position.items()}, look[arm])
    for ax, words in zip(axes, ("untrained", "trained"), strict=True):
        ax.set_yscale("log")
        ax.set_title(words)
    axes[-1].set_xlabel("position: block / number of blocks")
    legend(figure, [Line2D([], [], label=arm, lw=1.6, **look[arm]) for arm in rows])
    caption = (
        "L2 norm of the gradient of a batch's mean loss at each block, on training images with batch statistics; "
        "means over seeds. A level line is a gradient that neither grows nor vanishes."
    )
    return [save(figure, folder, name, title, caption)]


def _line(ax: Axes, points: Mapping[float, float], look: dict[str, Any]) -> None:
    positive = {x: y for x, y in points.items() if y > 0}
    ax.plot(list(positive), list(positive.values()), lw=1.5, marker="." if len(positive) < 8 else "", **look)


def _over_training(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """First block's gradient over the last block's, over training."""
    series: dict[str, dict[float, list[float]]] = {}
    for arm in arms:
        for epoch, rows in records.where(arm, probe="gradient", metric="gradient/activation").over("epoch").items():
            for seed in rows.seeds():
                first, last = (found[-1].value for found in _ends(rows.where(seed=seed), "position"))
                ratio = first / last if last > 0 and first > 0 else math.nan
                series.setdefault(arm, {}).setdefault(float(epoch), []).append(ratio)
    return draw_against(BALANCE, series, records, folder)


def _derivatives(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """Histograms of the activations' derivatives, untrained (dashed) and trained, a panel for each activation."""
    found = records.where(probe="derivative_bin")
    shown = [arm for arm in arms if arm in found.arms]
    if not shown:
        return []
    figure, axes = panels(len(shown), 1.6, "share of units (%)", sharex=True, sharey=True)
    for ax, arm in zip(axes, shown, strict=True):
        rows = found.where(arm=arm)
        num_bins = int(rows[0].fields["bins"])
        for snapshot, line in zip(_ends(rows, "epoch"), ("--", "-"), strict=True):
            shares = means_over(snapshot, "bin")
            edges = [number / num_bins for number in range(num_bins + 1)]
            heights = [100.0 * shares.get(number, 0.0) for number in range(num_bins)]
            ax.stairs(heights, edges, color=looks(shown)[arm]["color"], ls=line, lw=1.5)
        ax.set_title(arm)
        ax.set_ylim(0, 100)
    axes[-1].set_xlabel("derivative of the activation")
    keys = [
        Line2D([], [], color=FAINT, ls=line, label=words) for line, words in (("--", "untrained"), ("-", "trained"))
    ]
    legend(figure, keys)
    caption = (
        "Derivatives at all inputs of LeNet-5's activations, means over its four layers and seeds. A sigmoid's cannot "
        "exceed 1/4; a ReLU's is 1 on active units and 0 on the others."
    )
    return [save(figure, folder, "derivatives", "Derivatives of sigmoid, tanh and ReLU", caption)]
