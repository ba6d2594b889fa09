"""A quantity against a number that arms or points differ in: lines through the means, with every seed shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, mean

from matplotlib.lines import Line2D

from ablations.harness.declare.chart import Against, AgainstField
from ablations.harness.store.records import Records
from reports.charts.curves import looks
from reports.charts.style import FAINT, Drawn, legend, panels, save
from reports.charts.values import argument, by_seed, finite


def draw_against_number(chart: Against, records: Records, folder: Path) -> list[Drawn]:
    """A quantity of trained networks against what their arms differ in; draws nothing without a value."""
    series: dict[str, dict[float, list[float]]] = {}
    for line, arms in chart.series.items():
        for arm, place in arms.items():
            if not (found := chart.quantity(arm).by_seed(records)):
                continue
            if chart.across is None:
                places = [float(argument(folder, arm, place) if isinstance(place, str) else place)]
            else:
                places = list(by_seed(chart.across, records, arm).values())
            if places:
                series.setdefault(line, {}).setdefault(fmean(places), []).extend(found.values())
    return draw_against(chart, series, records, folder)


def draw_against_field(chart: AgainstField, records: Records, folder: Path) -> list[Drawn]:
    """A quantity against a field of its points; draws nothing without a value."""
    series: dict[str, dict[float, list[float]]] = {}
    found = records.where(None, None, chart.quantity.probe, chart.quantity.metric, **chart.quantity.where)
    for arm in chart.arms or found.arms:
        for row in found.where(arm):
            words = [arm, row.fields[chart.by]] if chart.by else [arm]
            line = series.setdefault(", ".join(chart.names.get(word, word) for word in words), {})
            line.setdefault(float(row.fields[chart.over]), []).append(row.value)
    return draw_against(chart, series, records, folder)


def draw_against(
    chart: Against | AgainstField, series: Mapping[str, Mapping[float, Sequence[float]]], records: Records, folder: Path
) -> list[Drawn]:
    """A line for each series (name -> x -> a value per seed) under the words of a chart: means, and dots for seeds.

    Values that are not finite are left out and counted in the caption. Draws nothing without a value.
    """
    kept = {
        label: good
        for label, line in series.items()
        if (good := {x: found for x, values in line.items() if (found := finite(values))})
    }
    if not kept:
        return []
    broken = sum(len(values) - len(finite(values)) for line in series.values() for values in line.values())
    references = _references(chart, records)
    look = looks(list(kept))
    figure, (ax,) = panels(1, 3.0)
    for label, line in kept.items():
        places = sorted(line)
        wide = min(12, 180 / len(places))
        ax.plot(places, [mean(line[x]) for x in places], lw=1.6, marker="_", ms=wide, **look[label])
        for x in places:
            ax.scatter([x] * len(line[x]), line[x], s=10, alpha=0.6, color=look[label]["color"], linewidths=0)
    for value in references.values():
        ax.axhline(value, color=FAINT, lw=1, ls=(0, (4, 3)))
    if all(float(x).is_integer() for line in kept.values() for x in line):
        ax.locator_params(axis="x", integer=True)
    ax.set_xlabel(chart.x_label)
    ax.set_ylabel(chart.label)
    if chart.logarithmic:
        ax.set_yscale("log")
    keys = [Line2D([], [], label=label, lw=1.6, **look[label]) for label in kept]
    keys += [Line2D([], [], label=label, color=FAINT, lw=1, ls=(0, (4, 3))) for label in references]
    legend(figure, keys)
    caption = f"{chart.caption} Dots are seeds, lines join their means.".strip()
    if broken:
        caption += f" {broken} runs without a finite value are left out."
    return [save(figure, folder, chart.name, chart.title, caption)]


def _references(chart: Against | AgainstField, records: Records) -> dict[str, float]:
    """Where the horizontal lines stand that the records know of."""
    found: dict[str, list[float]] = {}
    for line, value in chart.references.items():
        if isinstance(value, float | int):
            found[line] = [value]
        else:
            quantity, arms = (chart.quantity, (value,)) if isinstance(value, str) else (value, records.arms)
            found[line] = [each for arm in arms for each in by_seed(quantity, records, arm).values()]
    return {line: fmean(each) for line, each in found.items() if each}
