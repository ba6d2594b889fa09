"""Interactive charts: plotly figures as JSON files, which the page draws in the reader's browser.

A figure is written as plain lists and numbers, so that the same data gives the same bytes under every version of
plotly, and no chart needs plotly before the page is made. `plotly.io.read_json` opens the files too.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ablations.harness.store.files import CHART, atomic_write_text
from reports.charts.style import COLOURS, Drawn, number
from reports.charts.surface_view import Panel, View, levels, notes, policies, span, view_of

DASHES = ("solid", "dash", "dot", "dashdot")
BAND_OPACITY = 0.18
MOST_MARKERS = 40  # a line of more points is drawn without them
GAP = 0.06  # between panels, as a share of the chart's height

Series = Mapping[str, Mapping[float, Sequence[float]]]
"""Name of a line -> x -> one value per seed."""


def lines(
    panels: Mapping[str, Series],
    x_label: str,
    folder: Path,
    name: str,
    title: str,
    caption: str,
    logarithmic: bool = False,
    values: str = "seeds",
) -> list[Drawn]:
    """Lines through means, with bands from the lowest to the highest value, to `folder`/figures/`name`.plotly.json.

    panels: label of a vertical axis -> its lines; panels lie below each other and share x and the legend. values: what
    the values at one x are, in plural. What is not finite is left out; draws nothing without a value.
    Raises OSError if the file cannot be written.
    """
    named = list(dict.fromkeys(label for series in panels.values() for label in series))
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": _text(x_label)}, "anchor": _axis("y", len(panels))},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
    }
    height = (1 - GAP * (len(panels) - 1)) / max(1, len(panels))
    in_legend: set[str] = set()
    for row, (label, series) in enumerate(panels.items()):
        top = 1 - row * (height + GAP)
        layout[_axis("yaxis", row + 1)] = {
            "title": {"text": _text(label)},
            "domain": [round(max(0.0, top - height), 4), round(top, 4)],
            "type": "log" if logarithmic else "linear",
        }
        for line, points in series.items():
            found = _line(points)
            if not found["x"]:
                continue
            index = named.index(line)
            look = {"color": COLOURS[index % len(COLOURS)]}
            dash = DASHES[index // len(COLOURS) % len(DASHES)]
            shared = {"type": "scatter", "yaxis": _axis("y", row + 1), "legendgroup": _text(line), "name": _text(line)}
            if found["low"] != found["high"]:
                traces.append({**shared, **_band(found, look["color"])})
            traces.append(
                {
                    **shared, "mode": "lines+markers" if len(found["x"]) <= MOST_MARKERS else "lines",
                    "x": found["x"], "y": found["mean"], "text": [f"{each} {values}" for each in found["text"]],
                    "hovertemplate": "%{y:.4g} (%{text})", "line": {**look, "dash": dash, "width": 2},
                    "marker": {**look, "size": 5}, "showlegend": line not in in_legend,
                }
            )  # fmt: skip
            in_legend.add(line)
    if not traces:
        return []
    caption = f"{caption} Lines are means over {values}, bands reach from the lowest to the highest.".strip()
    drawn = (y for series in panels.values() for points in series.values() for y in points.values())
    lost = sum(not math.isfinite(value) for each in drawn for value in each)
    if lost:
        caption += f" {lost} values that are not finite are left out."
    return [_write({"data": traces, "layout": layout}, folder, name, title, caption)]


def surface_3d(
    panels: Sequence[Panel], metric: str, folder: Path, name: str, title: str, caption: str, label: str = ""
) -> Drawn:
    """2-D surfaces in 3-D views beside each other, the same axes and colours, to `folder`/figures/`name`.plotly.json.

    label: of the height, the metric's name if empty; logarithmic where the range of the values asks for it. A point
    without a finite value is a hole. A browser draws about 15 such views on one page. Raises ValueError as `view_of`,
    OSError if the file cannot be written.
    """
    view = view_of(panels, metric, 2)
    label = label or metric
    heights = levels(view)
    every = 1 + (len(heights) - 1) // 8
    ticks = {
        "tickvals": [_height(each, view) for each in heights[::every]],
        "ticktext": [*map(number, heights[::every])],
    }
    bottom, top = (_height(each, view) or 0.0 for each in (heights[0], heights[-1]))
    bottom = _rounded(bottom - 0.04 * (top - bottom))  # a surface that lies in the floor would flicker
    in_full = _text(label + (" (logarithmic)" if view.logarithmic else ""))
    layout: dict[str, Any] = {"annotations": [], "margin": {"l": 0, "r": 0, "t": 30, "b": 0}}
    contour = {"show": view.low < view.high, "usecolormap": True, "width": 1}
    traces = []
    for column, (panel, surface) in enumerate(panels):
        rows = surface.values[metric].T.tolist()  # plotly wants a row for each beta
        traces.append(
            {
                "type": "surface", "name": _text(panel), "scene": _axis("scene", column + 1),
                "x": _short(surface.axes[0]), "y": _short(surface.axes[1]),
                "z": [[_height(value, view) for value in row] for row in rows],
                "text": [
                    [
                        f"alpha {number(alpha)}; beta {number(beta)}; "
                        f"{_text(label)} {number(value)}"
                        for alpha, value in zip(surface.axes[0], row, strict=True)
                    ]
                    for beta, row in zip(surface.axes[1], rows, strict=True)
                ],
                "hoverinfo": "text+name",  # in a hovertemplate, plotly.js 4.1 takes the text of the transposed point
                "coloraxis": "coloraxis", "contours": {"z": contour},
            }
        )  # fmt: skip
        left, right = column / len(panels), (column + 1) / len(panels)
        layout[_axis("scene", column + 1)] = {
            "domain": {"x": [round(left, 4), round(right, 4)], "y": [0, 1]},
            "aspectmode": "manual",
            "aspectratio": {"x": 1, "y": 1, "z": 0.8},
            "camera": {"eye": {"x": 1.4, "y": 1.4, "z": 0.95}, "center": {"x": 0, "y": 0, "z": -0.18}},
            "xaxis": {"title": {"text": "alpha"}, "range": _short(span(panels, 0))},
            "yaxis": {"title": {"text": "beta"}, "range": _short(span(panels, 1))},
            "zaxis": {"title": {"text": _text(label)}, **ticks, "range": [bottom, top]},
        }
        layout["annotations"].append(
            {
                "text": _text(panel), "showarrow": False, "xref": "paper", "yref": "paper",
                "x": round((left + right) / 2, 4), "y": 1, "yanchor": "bottom",
            }
        )  # fmt: skip
    above = max(view.high, view.low + 1e-12)  # colours need a range, however narrow
    layout["coloraxis"] = {
        "colorscale": "Viridis", "cmin": _height(view.low, view), "cmax": _height(above, view),
        "colorbar": {
            **ticks, "orientation": "h", "y": -0.02, "yanchor": "top", "thickness": 12,
            "title": {"text": in_full, "side": "top"},
        },
    }  # fmt: skip
    told = [policies(panels), notes(panels, metric, "missing from the surface")]
    caption = " ".join([caption, *(f"{each.rstrip('.')}." for each in told if each)]).strip()
    return _write({"data": traces, "layout": layout}, folder, name, title, caption)


def _line(points: Mapping[float, Sequence[float]]) -> dict[str, list[Any]]:
    """Ascending x with mean, lowest and highest finite value, and the words for the last two."""
    found: dict[str, list[Any]] = {"x": [], "mean": [], "low": [], "high": [], "text": []}
    for x in sorted(points):
        finite = [value for value in points[x] if math.isfinite(value)]
        if finite:
            low, high = min(finite), max(finite)
            found["x"].append(x)
            for key, value in (("mean", fmean(finite)), ("low", low), ("high", high)):
                found[key].append(_rounded(value))
            found["text"].append(f"{number(low)} to {number(high)}, {len(finite)}")
    return found


def _band(found: Mapping[str, list[Any]], colour: str) -> dict[str, Any]:
    """The area between the lowest and the highest values: along the one and back along the other."""
    return {
        "mode": "lines", "hoverinfo": "skip", "showlegend": False, "fill": "toself", "line": {"width": 0},
        "x": found["x"] + found["x"][::-1], "y": found["high"] + found["low"][::-1],
        "fillcolor": colour, "opacity": BAND_OPACITY,
    }  # fmt: skip


def _height(value: float, view: View) -> float | None:
    """Where a value lies on the vertical axis; None, a hole, if it is not finite."""
    if not math.isfinite(value):
        return None
    return _rounded(math.log10(value) if view.logarithmic else value)


def _short(values: Sequence[float] | np.ndarray) -> list[float]:
    return [_rounded(float(value)) for value in values]


def _rounded(value: float) -> float:
    """Six significant digits: more than a screen shows, and a third of the file."""
    return float(f"{value:.6g}")


def _axis(name: str, count: int) -> str:
    """The count-th axis or scene as plotly calls it."""
    return name if count == 1 else f"{name}{count}"


def _text(words: str) -> str:
    """Words that plotly shows as they stand, although it reads some tags of HTML."""
    return html.escape(words, quote=False)


def _write(figure: dict[str, Any], folder: Path, name: str, title: str, caption: str) -> Drawn:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    text = json.dumps(figure, allow_nan=False, separators=(",", ":")) + "\n"
    atomic_write_text(folder / "figures" / f"{name}{CHART}", text)
    return Drawn(f"figures/{name}{CHART}", title, caption)
