"""Figures of `first_layer_filters`: Gabor fits, colours by stream, and what each layer answers to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes

from ablations.first_layer_filters import EDGE, LEARNED, PATCHES, STANDING, STREAMS, UNTRAINED, WHOLE
from ablations.harness.store.records import Records
from reports.charts.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, Drawn, panels, save, style
from reports.charts.tables import write_table

ARMS = {STREAMS: "two streams", WHOLE: "one stream"}
WHEN = {
    LEARNED: ("what was learned", BLUE),
    STANDING: ("the kernels as they stand", ORANGE),
    UNTRAINED: ("before training", FAINT),
    PATCHES: ("random sums of patches", GREEN),
}


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Every figure that the records allow."""
    arms = [arm for arm in records.arms if len(records.where(arm, probe="kernel"))]
    if not arms:
        return []
    return [
        *draw_edges(records, folder, arms),
        *draw_colours(records, folder, arms),
        *draw_extents(records, folder, arms),
        table(records, folder, arms),
    ]


def draw_edges(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """For each arm the share of kernels that a Gabor function explains up to any fraction, all seeds together."""
    metric = "gabor/explained"
    arms = [arm for arm in arms if len(records.where(arm, metric=metric))]
    if not arms:
        return []
    with style():
        figure, axes = panels(len(arms), 2.2, "kernels (%)", sharex=True)
        for ax, arm in zip(axes, arms, strict=True):
            for when, (label, colour) in WHEN.items():
                values = sorted(records.where(arm, metric=metric, when=when).values())
                if values:
                    shares = [100 * (i + 1) / len(values) for i in range(len(values))]
                    ax.step(values, shares, color=colour, label=label)
            ax.axvline(EDGE, color=INK, lw=1, ls=(0, (4, 3)))
            ax.set_title(ARMS.get(arm, arm))
            ax.set_xlim(0, 1)
        axes[-1].set_xlabel("explained by a Gabor function, up to")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        save(figure, folder / "figures" / "edges.png")
    caption = (
        f"All kernels of the first layer of all seeds; to the right of the dashed line ({EDGE}) a kernel counts as an "
        "edge. Random sums of patches are as smooth as the images, and nothing was learned in them."
    )
    return [Drawn("figures/edges.png", "How well Gabor functions fit", caption)]


def draw_colours(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """For each arm and seed every kernel's colour saturation, coloured by stream; nothing for grey images."""
    rows = records.where(metric="saturation", when=LEARNED)
    arms = [arm for arm in arms if arm in rows.arms]
    if not arms:
        return []
    with style():
        figure, axes = panels(len(arms), 2.2, "colour saturation of what was learned", sharex=True)
        for ax, arm in zip(axes, arms, strict=True):
            _streams(ax, rows, arm)
            ax.set_title(ARMS.get(arm, arm))
            ax.set_ylim(0, 1)
        axes[-1].set_xlabel("seed")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        save(figure, folder / "figures" / "colours.png")
    caption = (
        "One dot is a kernel, a bar the mean of its half; 0 is grey. Without streams the halves are those of the "
        "kernels' numbers and mean nothing."
    )
    return [Drawn("figures/colours.png", "Colours by stream", caption)]


def _streams(ax: Axes, rows: Records, arm: str) -> None:
    for stream, (colour, shift) in {"0": (BLUE, -0.18), "1": (RED, 0.18)}.items():
        for seed, values in rows.by_seed(arm, stream=stream).items():
            label = f"{'first' if stream == '0' else 'second'} half" if seed == rows.seeds(arm)[0] else None
            ax.scatter([seed + shift] * len(values), values, s=8, color=colour, alpha=0.5, linewidths=0, label=label)
            ax.plot([seed + shift - 0.13, seed + shift + 0.13], [mean(values)] * 2, color=INK, lw=2)
    ax.set_xticks(rows.seeds())


def draw_extents(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """For each arm the radius of what the central unit of every layer answers to, trained and untrained."""
    with style():
        figure, axes = panels(len(arms), 2.0, "radius (pixels)", sharex=True)
        for ax, arm in zip(axes, arms, strict=True):
            names: dict[int, str] = {}
            for when, colour, label in ((UNTRAINED, FAINT, "before training"), (STANDING, BLUE, "trained")):
                rows = records.where(arm, probe="layer", metric="extent", when=when)
                names |= {int(row.fields["depth"]): row.fields["layer"] for row in rows}
                for number, seed in enumerate(rows.seeds()):
                    own = rows.where(seed=seed)
                    depths = [int(row.fields["depth"]) for row in own]
                    ax.plot(depths, own.values(), "o-", ms=3, lw=1, color=colour, label=label if not number else None)
            ax.set_xticks(list(names), list(names.values()))
            ax.set_ylim(bottom=0)
            ax.set_title(ARMS.get(arm, arm))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        save(figure, folder / "figures" / "extents.png")
    caption = (
        "Root mean square distance of the squared gradient of a layer's central unit from its centre, on test images. "
        "That it grows is a matter of architecture: untrained networks show it too."
    )
    return [Drawn("figures/extents.png", "What part of the image a unit answers to", caption)]


def table(records: Records, folder: Path, arms: Sequence[str]) -> Drawn:
    """Means over kernels and seeds of every measurement."""
    rows = []
    for arm in arms:
        for when, (label, _) in WHEN.items():
            found = records.where(arm, probe="kernel", when=when)
            fits, colours = (found.where(metric=metric).values() for metric in ("gabor/explained", "saturation"))
            if not len(found):
                continue
            edges = 100 * mean(value >= EDGE for value in fits) if fits else None
            spread = math.sqrt(mean((c - mean(colours)) ** 2 for c in colours)) if colours else None
            rows.append([ARMS.get(arm, arm), label, mean(fits) if fits else None, edges,
                         mean(colours) if colours else None, spread])  # fmt: skip
    columns = ["arm", "kernels", "Gabor fit, mean", "edges, %", "colour saturation, mean", "its spread"]
    caption = (
        "Means over all kernels and seeds. Saturation is the share of a kernel's energy off the grey axis, 2/3 for "
        "noise; empty on grey images. The kernels themselves: python -m reports.filters --run RUN."
    )
    return write_table(folder, "kernels", "The first layer in numbers", caption, columns, rows)
