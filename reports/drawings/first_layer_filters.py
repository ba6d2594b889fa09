"""Figures of `first_layer_filters`: how well Gabor functions fit, and colours by stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes

from ablations.harness.store.records import Records
from reports.charts.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, Drawn, panels, save


def draw(
    records: Records, folder: Path, names: Mapping[str, str], kernels: Mapping[str, str], edge: float, coloured: str
) -> list[Drawn]:
    """Of every kernel the share that a Gabor function explains, and its colour; nothing for what was not measured.

    names: arm -> what to call it. kernels: which kernels -> what to call them. edge: from where one counts as an edge.
    coloured: the kernels whose colours are shown.
    """
    return [*_edges(records, folder, names, kernels, edge), *_colours(records.where(when=coloured), folder, names)]


def _edges(
    records: Records, folder: Path, names: Mapping[str, str], kernels: Mapping[str, str], edge: float
) -> list[Drawn]:
    """For each arm the share of kernels that are explained up to any fraction, all seeds together."""
    fits = records.where(probe="kernel", metric="gabor/explained")
    if not fits:
        return []
    figure, axes = panels(len(fits.arms), 2.2, "kernels (%)", sharex=True)
    for ax, arm in zip(axes, fits.arms, strict=True):
        for (when, label), colour in zip(kernels.items(), (BLUE, ORANGE, FAINT, GREEN), strict=True):
            values = sorted(fits.where(arm, when=when).values())
            if values:
                shares = [100 * (i + 1) / len(values) for i in range(len(values))]
                ax.step(values, shares, color=colour, label=label)
        ax.axvline(edge, color=INK, lw=1, ls=(0, (4, 3)))
        ax.set_title(names.get(arm, arm))
        ax.set_xlim(0, 1)
    axes[-1].set_xlabel("explained by a Gabor function, up to")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caption = (
        f"All kernels of the first layer of all seeds; to the right of the dashed line ({edge}) a kernel counts as an "
        "edge. Random sums of patches are as smooth as the images, and nothing was learned in them."
    )
    return [save(figure, folder, "edges", "How well Gabor functions fit", caption)]


def _colours(records: Records, folder: Path, names: Mapping[str, str]) -> list[Drawn]:
    """For each arm and seed every kernel's colour saturation, coloured by stream; nothing for grey images."""
    rows = records.where(metric="saturation")
    if not rows:
        return []
    figure, axes = panels(len(rows.arms), 2.2, "colour saturation of what was learned", sharex=True)
    for ax, arm in zip(axes, rows.arms, strict=True):
        _streams(ax, rows, arm)
        ax.set_title(names.get(arm, arm))
        ax.set_ylim(0, 1)
    axes[-1].set_xlabel("seed")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    caption = (
        "One dot is a kernel, a bar the mean of its half; 0 is grey. Without streams the halves are those of the "
        "kernels' numbers and mean nothing."
    )
    return [save(figure, folder, "colours", "Colours by stream", caption)]


def _streams(ax: Axes, rows: Records, arm: str) -> None:
    for stream, (colour, shift) in {"0": (BLUE, -0.18), "1": (RED, 0.18)}.items():
        for seed, values in rows.by_seed(arm, stream=stream).items():
            label = f"{'first' if stream == '0' else 'second'} half" if seed == rows.seeds(arm)[0] else None
            ax.scatter([seed + shift] * len(values), values, s=8, color=colour, alpha=0.5, linewidths=0, label=label)
            ax.plot([seed + shift - 0.13, seed + shift + 0.13], [mean(values)] * 2, color=INK, lw=2)
    ax.set_xticks(rows.seeds())
