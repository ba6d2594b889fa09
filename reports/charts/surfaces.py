"""Loss surfaces as Li et al. 2018 (arXiv:1712.09913) draw them: contours, slices, a trajectory, a map of curvature.

All panels of a figure share axes and colours, because two surfaces on scales of their own cannot be compared; the
policies that decide how a surface looks are printed below it. 3-D views are in charts.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ablations.probes.landscape.surface_file import Array, Surface
from reports.charts.curves import looks
from reports.charts.style import FAINT, INK, RED, Drawn, legend, number, panels, save
from reports.charts.surface_view import Panel, View, holes, levels, notes, policies, span, view_of

HATCH: dict[str, Any] = {"hatch": "//////", "facecolor": "#F3F3F3", "edgecolor": FAINT, "linewidth": 0}
AXES = ("alpha", "beta")
STANDARD_ERROR = "train/loss_standard_error"


def contours(
    surfaces: Sequence[Panel], metric: str, folder: Path, name: str, title: str, caption: str, label: str = ""
) -> Drawn:
    """2-D surfaces below each other to `folder`/figures/`name`.png, on the same axes, levels and colours.

    label: of the colours, the metric's name if empty. A cross marks the centre; what has no finite value is hatched.
    Raises ValueError as `view_of`.
    """
    view = view_of(surfaces, metric, 2)
    figure, axes = panels(len(surfaces), 3.3, sharex=True, sharey=True)
    for ax, (panel, surface) in zip(axes, surfaces, strict=True):
        filled = _contour_panel(ax, surface, metric, view)
        ax.set_title(panel)
        ax.set_ylabel(AXES[1])
    axes[-1].set(xlabel=AXES[0], xlim=span(surfaces, 0), ylim=span(surfaces, 1))
    _colour_bar(figure, filled, axes, label or metric, view)
    _keys(figure, surfaces, metric)
    return _finish(figure, surfaces, metric, folder, name, title, caption)


def slices(
    surfaces: Sequence[Panel], metric: str, folder: Path, name: str, title: str, caption: str, label: str = ""
) -> Drawn:
    """1-D surfaces as lines in one panel to `folder`/figures/`name`.png, with a band of one standard error.

    A surface without one has none. Raises ValueError as `view_of`.
    """
    view = view_of(surfaces, metric, 1)
    look = looks([panel for panel, _ in surfaces])
    figure, (ax,) = panels(1, 3.0)
    banded = False
    for panel, surface in surfaces:
        (alpha,) = surface.axes
        values = np.where(np.isfinite(surface.values[metric]), surface.values[metric], np.nan)
        ax.plot(alpha, values, lw=1.5, **look[panel])
        if STANDARD_ERROR in surface.values:
            banded = True
            error = surface.values[STANDARD_ERROR]
            low = np.maximum(values - error, view.low / 2) if view.logarithmic else values - error
            ax.fill_between(alpha, low, values + error, color=look[panel]["color"], alpha=0.22, lw=0)
        half = 0.5 * float(np.diff(alpha).min())
        for (place,) in holes(surface, metric):
            ax.axvspan(place - half, place + half, zorder=0, **{**HATCH, "edgecolor": look[panel]["color"]})
    ax.axvline(0.0, color=FAINT, lw=1, ls=(0, (4, 3)), zorder=0)
    ax.set(xlabel=AXES[0], ylabel=label or metric, xlim=span(surfaces, 0))
    if view.logarithmic:
        ax.set_yscale("log")
    keys: list[Patch | Line2D] = [Line2D([], [], label=panel, lw=1.5, **look[panel]) for panel, _ in surfaces]
    keys += [Patch(label="no finite value", **HATCH)] if any(len(holes(s, metric)) for _, s in surfaces) else []
    legend(figure, keys)
    if banded:
        caption = f"{caption} Bands are one standard error of the mean over images.".strip()
    return _finish(figure, surfaces, metric, folder, name, title, caption)


def trajectory(
    surface: Surface,
    metric: str,
    points: Array,
    epochs: Sequence[int],
    folder: Path,
    name: str,
    title: str,
    caption: str,
    label: str = "",
    axis_labels: tuple[str, str] = AXES,
) -> Drawn:
    """The path of training over the contours of a 2-D surface to `folder`/figures/`name`.png.

    points: (T, 2), the coordinates of the network after each of the T `epochs`, the first to the last.
    Raises ValueError for another shape, a point that is not finite, or as `view_of`.
    """
    points = np.asarray(points, float)
    if points.shape != (len(epochs), 2) or not len(epochs) or not np.isfinite(points).all():
        raise ValueError(
            f"a trajectory needs one finite point of 2 for each epoch: {points.shape}, {len(epochs)} epochs"
        )
    shown = [("surface", surface)]
    view = view_of(shown, metric, 2)
    figure, (ax,) = panels(1, 3.9)
    filled = _contour_panel(ax, surface, metric, view, centre=False)
    ax.plot(*points.T, color="white", lw=3.2, zorder=4)
    ax.plot(*points.T, color=RED, lw=1.6, marker="o", ms=3, zorder=5)
    for at, marker in ((0, "s"), (-1, "*")):
        ax.plot(*points[at], marker, color=RED, mec="white", ms=9 if at else 6, zorder=6)
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": INK, "bbox": box, "zorder": 7}
    for at in np.unique(np.linspace(0, len(epochs) - 1, 5).astype(int)):
        ax.annotate(str(epochs[at]), points[at], (5, 5), **look)
    limits = []
    for axis, (low, high) in enumerate((span(shown, 0), span(shown, 1))):
        ends = [low, high, points[:, axis].min(), points[:, axis].max()]
        room = 0.03 * (max(ends) - min(ends)) if min(ends) < low or max(ends) > high else 0.0
        limits.append((min(ends) - room, max(ends) + room))
    ax.set(xlabel=axis_labels[0], ylabel=axis_labels[1], xlim=limits[0], ylim=limits[1])
    _colour_bar(figure, filled, [ax], label or metric, view)
    keys = [
        Line2D([], [], color=RED, marker="s", ls="", ms=6, label=f"epoch {epochs[0]}"),
        Line2D([], [], color=RED, marker="*", ls="", ms=9, label=f"epoch {epochs[-1]}"),
    ]
    _keys(figure, shown, metric, keys)
    caption = f"{caption} Numbers along the path are epochs.".strip()
    return _finish(figure, shown, metric, folder, name, title, caption)


def heat_map(
    maps: Mapping[str, Array], axes: tuple[Array, Array], folder: Path, name: str, title: str, caption: str
) -> Drawn:
    """Maps of |lambda_min / lambda_max| below each other to `folder`/figures/`name`.png, on one scale from 0.

    maps: name -> array (len(axes[0]), len(axes[1])); 0 is convex. The scale ends at the largest ratio, at 1 at the
    latest: what is above 1 is drawn as 1, what is not finite is hatched, and the caption counts both.
    Raises ValueError for another shape, a negative ratio, or without a map.
    """
    if not maps:
        raise ValueError("a heat map needs at least one array")
    said = []
    for panel, ratios in maps.items():
        if ratios.shape != (len(axes[0]), len(axes[1])):
            raise ValueError(
                f"map {panel!r} has the shape {ratios.shape}; its axes ask for {len(axes[0]), len(axes[1])}"
            )
        if np.nanmin(ratios, initial=0.0) < 0:
            raise ValueError(f"map {panel!r} holds {np.nanmin(ratios):g}; a ratio of absolute values is 0 or more")
        for count, words in (
            (int(np.sum(~np.isfinite(ratios))), "without a finite value (hatched)"),
            (int(np.sum(np.isfinite(ratios) & (ratios > 1))), "above 1"),
        ):
            said += [f"{panel}: {count} of {ratios.size} points {words}."] if count else []
    highest = max((float(each[np.isfinite(each)].max(initial=0.0)) for each in maps.values()), default=1.0)
    figure, drawn = panels(len(maps), 3.0, sharex=True, sharey=True)
    colours = mpl.colormaps["magma"]
    for ax, (panel, ratios) in zip(drawn, maps.items(), strict=True):
        ax.grid(visible=False)
        ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, zorder=0, **HATCH))
        shown = np.ma.masked_invalid(ratios.T)
        top = min(1.0, highest) or 1.0
        mesh = ax.pcolormesh(*axes, shown, shading="nearest", cmap=colours, vmin=0, vmax=top, zorder=1)
        ax.set(title=panel, ylabel=AXES[1], aspect="equal")
    drawn[-1].set_xlabel(AXES[0])
    above = any(np.any(ratios[np.isfinite(ratios)] > 1) for ratios in maps.values())
    figure.colorbar(
        mesh, ax=drawn, label="|lambda_min / lambda_max|", extend="max" if above else "neither", aspect=20 * len(maps)
    )
    return save(figure, folder, name, title, " ".join([caption, *said]).strip())


def _contour_panel(ax: Axes, surface: Surface, metric: str, view: View, centre: bool = True) -> Any:
    """Filled contours and thin lines, hatched where there is no value; gives what a colour bar is made from."""
    values = np.ma.masked_invalid(surface.values[metric].T)
    heights = levels(view)
    ax.grid(visible=False)
    ax.set_aspect("auto")
    (left, *_, right), (low, *_, high) = surface.axes
    ax.add_patch(Rectangle((left, low), right - left, high - low, zorder=0, **HATCH))
    norm = BoundaryNorm(heights, mpl.colormaps["viridis"].N)
    filled = ax.contourf(*surface.axes, values, heights, norm=norm, cmap="viridis", zorder=1)
    if not values.mask.all():
        ax.contour(*surface.axes, values, heights, colors="white", linewidths=0.5, alpha=0.7, zorder=2)
    if centre and surface.centre is not None:
        ax.plot(0, 0, "+", color="white", ms=11, mew=3.4, zorder=3)
        ax.plot(0, 0, "+", color=INK, ms=10, mew=1.6, zorder=3)
    return filled


def _colour_bar(figure: Figure, filled: Any, axes: Sequence[Axes], label: str, view: View) -> None:
    """One bar for all panels."""
    bar = figure.colorbar(
        filled, ax=axes, aspect=22 * len(axes), label=f"{label} (logarithmic)" if view.logarithmic else label
    )
    heights = levels(view)
    ticks = heights[:: 1 + (len(heights) - 1) // (12 * len(axes))]
    bar.set_ticks(ticks, labels=[number(height) for height in ticks])
    bar.minorticks_off()


def _keys(figure: Figure, surfaces: Sequence[Panel], metric: str, keys: Sequence[Line2D] = ()) -> None:
    """The legend: `keys`, the centre if there are none, and hatching where a panel has holes or open points."""
    shown: list[Patch | Line2D] = list(keys)
    if not keys and any(surface.centre is not None for _, surface in surfaces):
        shown.append(Line2D([], [], color=INK, marker="+", ls="", ms=9, mew=1.6, label="centre"))
    if any(not np.isfinite(surface.values[metric]).all() for _, surface in surfaces):
        shown.append(Patch(label="no finite value", **HATCH))
    if shown:
        legend(figure, shown)


def _finish(
    figure: Figure, surfaces: Sequence[Panel], metric: str, folder: Path, name: str, title: str, caption: str
) -> Drawn:
    """Prints the policies below the figure, writes it and adds to the caption what was not computed."""
    printed = textwrap.fill(policies(surfaces), 78)
    if printed:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.14 * (1 + printed.count("\n")))
        figure.supxlabel(printed, size=7.5, x=0.01, ha="left", color="#555555")
    return save(figure, folder, name, title, f"{caption} {notes(surfaces, metric, 'hatched')}".strip())
