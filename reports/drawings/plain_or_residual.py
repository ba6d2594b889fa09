"""Figures 6 and 7 of He et al. 2015 (arXiv:1512.03385) in the paper's axes, and what its networks cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from matplotlib.lines import Line2D

from ablations.harness.store.records import Records
from reports.charts.curves import CROSS, by_epoch, curves, looks
from reports.charts.style import FAINT, Drawn, legend, panels, save
from reports.charts.tables import write_table
from reports.charts.values import means_over

FAMILIES = ("plain", "residual")
TOP = 1.15  # of the highest curve after the first third of training, where the axis ends


def draw(records: Records, folder: Path, published: Mapping[str, float]) -> list[Drawn]:
    """Every figure that the records allow; published: network -> multiply-adds in units of 1e9."""
    return _errors(records, folder) + _responses(records, folder) + _costs(records, folder, published)


def _depths(records: Records) -> list[int]:
    """The depths of the plain and residual arms, ascending."""
    named = [arm.split("_") for arm in records.arms]
    return sorted({int(words[1]) for words in named if len(words) == 2 and words[0] in FAMILIES})


def _errors(records: Records, folder: Path) -> list[Drawn]:
    """Figure 6: training (dashed) and validation error over training, plain networks above, residual ones below."""
    depths = _depths(records)
    found = {metric: curves(records, f"{metric}/top1_error") for metric in ("train", "val")}
    if not any(found.values()):
        return []
    look = looks([str(depth) for depth in depths])
    late = [
        value
        for by_arm in found.values()
        for arm, seeds in by_arm.items()
        for curve in seeds.values()
        for epoch, value in curve.items()
        if arm.split("_")[0] in FAMILIES and epoch > max(curve) / 3
    ]
    figure, axes = panels(2, 2.3, "error (%)", sharex=True, sharey=True)
    for ax, family in zip(axes, FAMILIES, strict=True):
        for depth in depths:
            arm, colour = f"{family}_{depth}", look[str(depth)]["color"]
            for metric, line, width in (("train", "--", 1.1), ("val", "-", 1.6)):
                reached = by_epoch(found[metric].get(arm, {}))
                means = [mean(values) for values in reached.values()]
                ax.plot(list(reached), means, line, lw=width, color=colour, marker="." if len(means) == 1 else "")
            for seed in records.where(arm=arm, probe="diverged").seeds():
                curve = found["train"].get(arm, {}).get(seed)
                if curve:
                    ax.plot(max(curve), curve[max(curve)], "x", ms=6, color=colour)
        ax.set_title(family)
    axes[0].set_ylim(0, min(100.0, TOP * max(late, default=100.0)))
    axes[-1].set_xlabel("epoch")
    keys = [Line2D([], [], color=look[str(d)]["color"], lw=1.6, label=f"{d} layers") for d in depths]
    keys += [Line2D([], [], color=FAINT, lw=1.1, ls="--", label="training error")]
    keys += [Line2D([], [], color=FAINT, lw=1.6, label="validation error")]
    legend(figure, keys)
    caption = (
        "Training error (dashed) and validation error (solid), means over seeds, as in figure 6 of the paper, whose "
        "solid lines are test error."
    )
    if records.where(probe="diverged"):
        caption += CROSS
    return [save(figure, folder, "errors", "Plain and residual networks in training", caption)]


def _responses(records: Records, folder: Path) -> list[Drawn]:
    """Figure 7: standard deviation of each layer's response, in the order of the layers and ranked."""
    rows = records.where(probe="response", metric="response/std")
    depths = _depths(rows)
    # The paper's depths, so that the lines can be told apart.
    depths = [depth for depth in depths if depth in (20, 56, 110)] or depths
    arms = [f"{family}_{depth}" for family in FAMILIES for depth in depths if f"{family}_{depth}" in rows.arms]
    if not arms:
        return []
    look = looks([str(depth) for depth in depths])
    figure, axes = panels(2, 2.3, "standard deviation")
    for arm in arms:
        family, depth = arm.split("_")
        by_layer = means_over(rows.where(arm), "layer")
        layers, means = list(by_layer), list(by_layer.values())
        line = {"color": look[depth]["color"], "ls": "--" if family == "plain" else "-", "lw": 1.4}
        axes[0].plot(layers, means, **line)
        axes[1].plot(range(1, len(means) + 1), sorted(means, reverse=True), **line)
    axes[0].set_xlabel("layer, in the network's order")
    axes[1].set_xlabel("layer, ranked by its response")
    keys = [Line2D([], [], color=look[str(d)]["color"], lw=1.4, label=f"{d} layers") for d in depths]
    keys += [Line2D([], [], color=FAINT, lw=1.4, ls="--", label="plain")]
    keys += [Line2D([], [], color=FAINT, lw=1.4, label="residual")]
    legend(figure, keys)
    caption = (
        "Standard deviation of each 3x3 layer's output after batch norm, before ReLU or addition, as in figure 7 of "
        "the paper: trained networks, test images, means over seeds."
    )
    return [save(figure, folder, "responses", "Layer responses", caption)]


def _costs(records: Records, folder: Path, published: Mapping[str, float]) -> list[Drawn]:
    """What networks and single blocks cost, beside the paper's numbers."""
    counted = {
        metric: {row.fields["network"]: row.value for row in records.where(probe="cost", metric=metric)}
        for metric in ("multiply_adds", "parameters")
    }
    whole = counted["multiply_adds"].get("vgg19")
    if whole is None:
        return []
    rows = [
        (name, round(counted["parameters"][name] / 1e6, 2), round(count / 1e9, 3), published.get(name),
         round(100.0 * count / whole, 1))
        for name, count in counted["multiply_adds"].items()
    ]  # fmt: skip
    caption = (
        "Counted for 224 x 224 images; single blocks between maps of 56 x 56. Shortcut A up to 34 layers unless named, "
        "B above, the stride on a bottleneck's first convolution, as published."
    )
    columns = ("network", "parameters, 1e6", "multiply-adds, 1e9", "paper", "% of VGG-19")
    return [write_table(folder, "costs", "What the ImageNet networks cost", caption, columns, rows)]
