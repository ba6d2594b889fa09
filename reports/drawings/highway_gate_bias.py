"""Figure 2 of Srivastava et al. 2015 (arXiv:1507.06228): every gate of a trained highway network."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure

from ablations.harness.store.records import Records
from reports.charts.style import WIDTH, Drawn, save

# The columns of the figure: metric of a unit, title, colour map.
MAPS = (
    ("gate/bias", "gate bias", "viridis"),
    ("gate/mean", "mean gate T", "viridis"),
    ("gate/first", "gate T, one sample", "viridis"),
    ("output", "output, one sample", "RdBu_r"),
)


def draw(records: Records, folder: Path, arm: str) -> list[Drawn]:
    """Layer by unit of one trained network of an arm: gate bias, mean gate, gate and output for one sample.

    Draws nothing without one; raises OSError if the file cannot be written.
    """
    rows = records.where(arm=arm, probe="unit")
    if not rows:
        return []
    seed = rows.seeds()[0]
    rows = rows.where(seed=seed)
    layers = list(rows.over("layer"))
    units = 1 + max(int(row.fields["unit"]) for row in rows)
    grids = {metric: [[math.nan] * units for _ in layers] for metric, *_ in MAPS}
    for row in rows:
        grids[row.metric][int(row.fields["layer"]) - layers[0]][int(row.fields["unit"])] = row.value
    extent = (-0.5, units - 0.5, layers[-1] + 0.5, layers[0] - 0.5)
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
    caption = (
        f"Every unit of every layer of {arm}, seed {seed}, as in Fig. 2 of the paper; the first layer, which is "
        "plain, is left out. The sample is the first training image. Before training all biases are equal."
    )
    return [save(figure, folder, "units", "Gates and outputs of one trained network", caption)]
