"""The figures of Srivastava et al. 2015 (arXiv:1507.06228) in the paper's axes, drawn from records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablations.harness.store.records import Records
from reports.charts.curves import curves, looks
from reports.charts.style import BLUE, FAINT, INK, WIDTH, Drawn, legend, panels, save, style
from reports.charts.tables import write_table

LOSS, TRAIN_ERROR = "train/loss", "train/top1_error"
# Figure 2 of the paper, its columns: metric of a unit, title, colour map.
MAPS = (
    ("gate/bias", "gate bias", "viridis"),
    ("gate/mean", "mean gate T", "viridis"),
    ("gate/first", "gate T, one sample", "viridis"),
    ("output", "output, one sample", "RdBu_r"),
)


def draw_optimisation(records: Records, folder: Path, families: Mapping[str, Mapping[int, str]]) -> list[Drawn]:
    """Figure 1: training loss over the epochs, a panel per family (name -> depth -> arm), a colour per depth."""
    found = curves(records, LOSS)
    shown = {name: {d: arm for d, arm in arms.items() if arm in found} for name, arms in families.items()}
    shown = {name: arms for name, arms in shown.items() if arms}
    if not shown:
        return []
    look = looks([str(depth) for depth in sorted({depth for arms in shown.values() for depth in arms})])
    diverged = {(row.arm, row.seed) for row in records.where(probe="diverged")}
    with style():
        figure, axes = panels(len(shown), 2.2, "training loss", sharex=True, sharey=True)
        for ax, (family, arms) in zip(axes, shown.items(), strict=True):
            for depth, arm in arms.items():
                paint = {**look[str(depth)], "linestyle": "-"}
                dot = "." if max(len(curve) for curve in found[arm].values()) == 1 else ""  # no line to be seen
                for seed, curve in found[arm].items():
                    ax.plot(list(curve), list(curve.values()), lw=0.5, alpha=0.5, marker=dot, ms=3, **paint)
                    if (arm, seed) in diverged:
                        ax.plot(max(curve), curve[max(curve)], "x", ms=6, color=paint["color"])
                epochs = sorted({epoch for curve in found[arm].values() for epoch in curve})
                # The mean of logarithms, because the axis is logarithmic: a single failure would hide the others.
                levels = [mean(math.log(c[e]) for c in found[arm].values() if c.get(e, 0) > 0) for e in epochs]
                ax.plot(epochs, [math.exp(level) for level in levels], lw=1.8, **paint)
            ax.set_title(family)
            ax.set_yscale("log")
        axes[-1].set_xlabel("epoch")
        keys = [Line2D([], [], label=f"{depth} layers", lw=1.8, color=look[depth]["color"]) for depth in look]
        legend(figure, keys)
        save(figure, folder / "figures" / "optimisation.png")
    caption = "Training loss as in Fig. 1 of the paper; thick lines are geometric means over seeds, thin ones seeds."
    if any((arm, seed) in diverged for arms in shown.values() for arm in arms.values() for seed in found[arm]):
        caption += " A cross ends a run whose loss was not a number any more."
    return [Drawn("figures/optimisation.png", "Training loss of plain and highway networks", caption)]


def draw_units(records: Records, folder: Path, arm: str) -> list[Drawn]:
    """Figure 2: layer by unit of one trained network: gate bias, mean gate, gate and output for one sample."""
    rows = records.where(arm=arm, probe="unit")
    if not rows:
        return []
    seed = rows.seeds()[0]
    rows = rows.where(seed=seed)
    layers = sorted({int(row.fields["layer"]) for row in rows})
    units = 1 + max(int(row.fields["unit"]) for row in rows)
    grids = {metric: [[math.nan] * units for _ in layers] for metric, *_ in MAPS}
    for row in rows:
        grids[row.metric][int(row.fields["layer"]) - layers[0]][int(row.fields["unit"])] = row.value
    extent = (-0.5, units - 0.5, layers[-1] + 0.5, layers[0] - 0.5)
    with style():
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey=True).flat
        for ax, (metric, title, colours) in zip(axes, MAPS, strict=True):
            values = rows.where(metric=metric).values()
            low, high = min(values), max(values)
            if metric != "gate/bias":  # gates begin at 0, outputs are centred on it
                high = max(abs(low), high)
                low = -high if metric == "output" else 0.0
            image = ax.imshow(grids[metric], cmap=colours, vmin=low, vmax=high, extent=extent, aspect="auto",
                              interpolation="nearest")  # fmt: skip
            ax.set_title(title)
            ax.grid(visible=False)
            figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, aspect=14, pad=0.04)
        figure.supxlabel("unit", size=10)
        figure.supylabel("layer", size=10)
        save(figure, folder / "figures" / "units.png")
    return [
        Drawn(
            "figures/units.png",
            "Gates and outputs of one trained network",
            f"Every unit of every layer of {arm}, seed {seed}, as in Fig. 2 of the paper; the first layer, which is "
            "plain, is left out. The sample is the first training image. Before training all biases are equal.",
        )
    ]


def draw_layers(records: Records, folder: Path, arm: str) -> list[Drawn]:
    """Mean gate bias and mean gate of every layer, before and after training, over all seeds."""
    rows = records.where(arm=arm, probe="layer")
    if not rows:
        return []
    with style():
        figure, axes = panels(2, 1.9, sharex=True)
        for ax, (metric, label) in zip(axes, (("gate/bias", "mean bias"), ("gate/mean", "mean gate T")), strict=True):
            for when, colour in (("before", FAINT), ("after", BLUE)):
                some = rows.where(metric=metric, when=when)
                for seed in some.seeds():
                    mine = some.where(seed=seed)
                    ax.plot([int(row.fields["layer"]) for row in mine], mine.values(), color=colour, lw=0.6, alpha=0.6)
                by_layer: dict[int, list[float]] = {}
                for row in some:
                    by_layer.setdefault(int(row.fields["layer"]), []).append(row.value)
                ax.plot(list(by_layer), [mean(values) for values in by_layer.values()], color=colour, lw=1.8)
            ax.set_ylabel(label)
            ax.ticklabel_format(axis="y", useOffset=False)
        axes[-1].set_xlabel("layer")
        keys = [Line2D([], [], label=f"{when} training", lw=1.8, color=c) for when, c in
                (("before", FAINT), ("after", BLUE))]  # fmt: skip
        legend(figure, keys)
        save(figure, folder / "figures" / "layers.png")
    caption = f"Means over the units of a layer of {arm}. Thick lines are means over seeds, thin ones single seeds."
    return [Drawn("figures/layers.png", "Gate bias and gate activity over depth", caption)]


def draw_lesions(records: Records, folder: Path, arm: str) -> list[Drawn]:
    """Figure 4: training error after the gates of one layer are shut, for every layer."""
    rows = records.where(arm=arm, probe="delete", metric=TRAIN_ERROR)
    if not rows:
        return []
    intact = records.where(arm=arm, probe="intact", metric=TRAIN_ERROR).values()
    by_layer: dict[int, list[float]] = {}
    for row in rows:
        by_layer.setdefault(int(row.fields["layer"]), []).append(row.value)
    with style():
        figure, (ax,) = panels(1, 2.4, "training error (%)")
        ax.bar(list(by_layer), [mean(values) for values in by_layer.values()], color="#7FB8D9", width=0.8)
        for layer, values in by_layer.items():
            ax.scatter([layer] * len(values), values, s=6, color=INK, alpha=0.6, linewidths=0, zorder=3)
        ax.axhline(mean(intact), color=FAINT, lw=1, ls=(0, (4, 3)))
        ax.set_ylim(0, min(100.0, 1.1 * max(rows.values()) + 0.5))  # often all but one layer are near the bottom
        ax.set_xlabel("layer whose gates are shut")
        keys: list[Patch | Line2D] = [
            Patch(color="#7FB8D9", label="mean over seeds"),
            Line2D([], [], color=INK, marker=".", ls="", label="one seed"),
            Line2D([], [], color=FAINT, lw=1, ls=(0, (4, 3)), label="intact network"),
        ]
        legend(figure, keys)
        save(figure, folder / "figures" / "lesions.png")
    caption = f"Error on the training set with T = 0 in one layer of {arm}, as in Fig. 4 of the paper."
    return [Drawn("figures/lesions.png", "Shutting one layer", caption)]


def write_gates(records: Records, folder: Path, arm: str, measures: Mapping[str, Mapping[int, float]]) -> list[Drawn]:
    """A table with a row per seed of the analysed arm: what its gates did, and the measures that claims rest on."""
    fell = records.by_seed(arm, "layer", "gate/fell")
    seeds = sorted({seed for found in measures.values() for seed in found} | set(fell))
    if not seeds:
        return []
    rows = [
        [seed, mean(fell[seed]) if seed in fell else None, *(found.get(seed) for found in measures.values())]
        for seed in seeds
    ]
    caption = f"Of {arm}, after training. The paper finds that most biases fall; damage is in % of the way to chance."
    columns = ["seed", "biases that fell in %", *measures]
    return [write_table(folder, "gates", "What the gates did", caption, columns, rows)]
