"""Training curves, and errors against a setting: lines through the means, with every seed shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ablations.harness.store.records import Records
from reports.charts.interactive import lines
from reports.charts.style import COLOURS, FAINT, Drawn, legend, panels, save, style

LINES = ("-", "--", ":", "-.")


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a line style for each name; styles change where the colours repeat."""
    pairs = itertools.product(LINES, COLOURS)
    return {name: {"color": colour, "linestyle": line} for name, (line, colour) in zip(names, pairs, strict=False)}


def draw_curves(
    records: Records,
    folder: Path,
    name: str,
    title: str,
    metrics: Mapping[str, str],
    arms: Sequence[str] = (),
    logarithmic: bool = False,
    names: Mapping[str, str] | None = None,
) -> list[Drawn]:
    """Curves over the epochs of training to `folder`/figures/`name`.png, a panel for each metric (metric -> its label).

    The same curves go to `name`.plotly.json as an interactive chart. Thick lines are means over the seeds that reached
    an epoch, thin ones single seeds; a run that diverged ends early, with a cross. Draws nothing without a value.
    names: what to call an arm, where not as the records do.
    """
    found = {metric: curves(records, metric, arms) for metric in metrics}
    shown = [arm for arm in (arms or records.arms) if any(arm in by_arm for by_arm in found.values())]
    if not shown:
        return []
    look = looks(arms or shown)  # an arm without a curve keeps its colour, which other figures give it
    called = {arm: (names or {}).get(arm, arm) for arm in shown}
    diverged = {(row.arm, row.seed) for row in records.where(probe="diverged")}
    with style():
        figure, axes = panels(len(metrics), 2.2)
        for ax, (metric, label) in zip(axes, metrics.items(), strict=True):
            for arm, seeds in found[metric].items():
                for seed, curve in seeds.items():
                    ax.plot(list(curve), list(curve.values()), lw=0.5, alpha=0.5, **look[arm])
                    if (arm, seed) in diverged and curve:
                        ax.plot(list(curve)[-1], list(curve.values())[-1], "x", ms=6, color=look[arm]["color"])
                reached = by_epoch(seeds)
                ax.plot(list(reached), [mean(values) for values in reached.values()], lw=1.8, **look[arm])
            ax.set_ylabel(label)
            if logarithmic:
                ax.set_yscale("log")
        axes[-1].set_xlabel("epoch")
        legend(figure, [Line2D([], [], label=called[arm], lw=1.8, **look[arm]) for arm in shown])
        save(figure, folder / "figures" / f"{name}.png")
    caption = "Thick lines are means over seeds, thin ones single seeds."
    if diverged:
        caption += " A cross ends a run whose loss was not a number any more."
    series = {
        label: {called[arm]: by_epoch(seeds) for arm, seeds in found[metric].items()}
        for metric, label in metrics.items()
    }
    chart = lines(series, "epoch", folder, name, title, "", logarithmic)
    return [Drawn(f"figures/{name}.png", title, caption), *chart]


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


def draw_against(
    folder: Path,
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Mapping[float, Sequence[float]]],
    references: Mapping[str, float] | None = None,
    caption: str = "",
    logarithmic: bool = False,
) -> list[Drawn]:
    """A line for each series (name -> x -> a value per seed) to `folder`/figures/`name`.png: means, and dots for seeds.

    references: name -> a horizontal line. Values that are not finite are left out and counted in the caption. Draws
    nothing without a value.
    """
    broken = sum(not math.isfinite(value) for line in series.values() for values in line.values() for value in values)
    finite = {
        label: {x: good for x, values in line.items() if (good := [v for v in values if math.isfinite(v)])}
        for label, line in series.items()
    }
    finite = {label: line for label, line in finite.items() if line}
    if not finite:
        return []
    look = looks(list(finite))
    with style():
        figure, (ax,) = panels(1, 3.0)
        for label, line in finite.items():
            places = sorted(line)
            wide = min(12, 180 / len(places))
            ax.plot(places, [mean(line[x]) for x in places], lw=1.6, marker="_", ms=wide, **look[label])
            for x in places:
                ax.scatter([x] * len(line[x]), line[x], s=10, alpha=0.6, color=look[label]["color"], linewidths=0)
        _references(ax, references or {})
        if all(float(x).is_integer() for line in finite.values() for x in line):
            ax.locator_params(axis="x", integer=True)
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        if logarithmic:
            ax.set_yscale("log")
        keys = [Line2D([], [], label=label, lw=1.6, **look[label]) for label in finite]
        keys += [Line2D([], [], label=label, color=FAINT, lw=1, ls=(0, (4, 3))) for label in references or {}]
        legend(figure, keys)
        save(figure, folder / "figures" / f"{name}.png")
    caption = f"{caption} Dots are seeds, lines join their means.".strip()
    if broken:
        caption += f" {broken} runs without a finite value are left out."
    return [Drawn(f"figures/{name}.png", title, caption)]


def _references(ax: Axes, references: Mapping[str, float]) -> None:
    for value in references.values():
        ax.axhline(value, color=FAINT, lw=1, ls=(0, (4, 3)))
