"""Declared charts, drawn from the files of a finished ablation: records.csv and what ablation.json says of charts."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ablations.harness.declare import chart as declared
from ablations.harness.declare.chart import (
    Against,
    AgainstField,
    Animation,
    ArmTable,
    Chart,
    Curves,
    Drawing,
    Looks,
    LossAndError,
    Pairs,
    Strips,
)
from ablations.harness.declare.measure import Quantity
from ablations.harness.store.records import Records
from reports.charts.animation import animate
from reports.charts.curves import draw_against, draw_curves
from reports.charts.loss_error import draw_loss_and_error
from reports.charts.named_strips import draw_strips
from reports.charts.paired_seeds import draw_pairs
from reports.charts.pictures import Kept, draw_looks
from reports.charts.style import BLUE, Drawn
from reports.charts.tables import medians, write_table


def draw_all(said: Sequence[Mapping[str, Any]], ablation: str, records: Records, folder: Path) -> list[Drawn]:
    """Every chart that the records allow, to `folder`/figures; said: `charts` of ablation.json.

    Raises ValueError for a chart that is none, OSError if a file cannot be written.
    """
    drawn: list[Drawn] = []
    for each in said:
        chart = declared.read(each)
        if isinstance(chart, Drawing):
            name = chart.name or ablation
            drawn += importlib.import_module(f"reports.drawings.{name}").draw(records, folder, **chart.arguments)
        else:
            drawn += draw(chart, records, folder)
    return drawn


@singledispatch
def draw(chart: Chart, records: Records, folder: Path) -> list[Drawn]:
    """One chart; draws nothing without a value."""
    raise TypeError(f"no drawing for {chart}")


@draw.register
def _(chart: Curves, records: Records, folder: Path) -> list[Drawn]:
    arms = [arm for arm in chart.arms if arm in records.arms]
    if chart.arms and not arms:
        return []
    return draw_curves(records, folder, chart.name, chart.title, chart.metrics, arms, chart.logarithmic, chart.names)


@draw.register
def _(chart: LossAndError, records: Records, folder: Path) -> list[Drawn]:
    return draw_loss_and_error(records, folder, chart.name, chart.title, chart.panels, chart.caption)


@draw.register
def _(chart: Against, records: Records, folder: Path) -> list[Drawn]:
    series: dict[str, dict[float, list[float]]] = {}
    for line, arms in chart.series.items():
        for arm, place in arms.items():
            if not (found := values(chart.quantity, records, arm)):
                continue
            if chart.across is None:
                places = [float(_argument(folder, arm, place) if isinstance(place, str) else place)]
            else:
                places = finite(values(chart.across, records, arm))
            if places:
                series.setdefault(line, {}).setdefault(fmean(places), []).extend(found)
    return draw_against(
        folder, chart.name, chart.title, chart.x_label, chart.label, series, _references(chart, records), chart.caption,
        chart.logarithmic,
    )  # fmt: skip


@draw.register
def _(chart: AgainstField, records: Records, folder: Path) -> list[Drawn]:
    series: dict[str, dict[float, list[float]]] = {}
    found = records.where(None, None, chart.quantity.probe, chart.quantity.metric, **chart.quantity.where)
    for arm in chart.arms or found.arms:
        for row in found.where(arm):
            words = [arm, row.fields[chart.by]] if chart.by else [arm]
            line = series.setdefault(", ".join(chart.names.get(word, word) for word in words), {})
            line.setdefault(float(row.fields[chart.over]), []).append(row.value)
    return draw_against(
        folder, chart.name, chart.title, chart.x_label, chart.label, series, _references(chart, records), chart.caption,
        chart.logarithmic,
    )  # fmt: skip


def _references(chart: Against | AgainstField, records: Records) -> dict[str, float]:
    """Where the horizontal lines stand that the records know of."""
    found: dict[str, list[float]] = {}
    for line, value in chart.references.items():
        if isinstance(value, float | int):
            found[line] = [value]
        else:
            quantity, arms = (chart.quantity, (value,)) if isinstance(value, str) else (value, records.arms)
            found[line] = [each for arm in arms for each in finite(values(quantity, records, arm))]
    return {line: fmean(each) for line, each in found.items() if each}


@draw.register
def _(chart: Pairs, records: Records, folder: Path) -> list[Drawn]:
    arms = [arm for arm in chart.arms if arm in records.arms]
    return [
        each._replace(title=chart.title or each.title, caption=f"{each.caption} {chart.caption}".strip())
        for each in draw_pairs(records, folder, arms, chart.quantity.metric, chart.label, chart.names)
    ]


@draw.register
def _(chart: Strips, records: Records, folder: Path) -> list[Drawn]:
    named = chart.rows or {arm: arm for arm in records.arms if by_seed(chart.quantity, records, arm)}
    rows = {
        name: (by_seed(chart.quantity, records, arm), BLUE, chart.published.get(name, ()))
        for name, arm in named.items()
    }
    caption = chart.caption + left_out(chart.quantity, records, list(named.values()))
    return draw_strips(folder, chart.name, chart.title, chart.label, rows, caption, chart.logarithmic)


@draw.register
def _(chart: ArmTable, records: Records, folder: Path) -> list[Drawn]:
    def cell(column: Quantity | str | Mapping[str, str | float], arm: str, place: Mapping[str, str]) -> object:
        if isinstance(column, str):
            return _argument(folder, arm, column)
        if not isinstance(column, Quantity):
            return column.get(arm)
        found = list(column(arm, **place).by_seed(records).values())
        if chart.medians:
            return medians(found)
        found = finite(found)
        if chart.spread and len(found) > 1:
            return f"{fmean(found):.3g} +- {stdev(found):.2g}"
        return fmean(found) if found else None

    rows = [
        [
            chart.names.get(arm, arm),
            *(chart.names.get(value, value) for value in place.values()),
            *(cell(each, arm, place) for each in chart.columns.values()),
        ]
        for arm in chart.arms or records.arms
        if arm in records.arms
        for place in _places(chart, records, arm)
    ]
    columns = ["arm", *chart.by.values(), *chart.columns]
    kept = [place for place, column in enumerate(zip(*rows, strict=True)) if any(cell is not None for cell in column)]
    if chart.by and len(chart.arms) == 1:  # of which nothing but the fields tells the rows apart
        del kept[:1]
    columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    return [write_table(folder, chart.name, chart.title, chart.caption, columns, rows)] if rows else []


def _places(chart: ArmTable, records: Records, arm: str) -> list[dict[str, str]]:
    """The values of the fields by which an arm has rows, in the order in which they were measured; none for no row."""
    quantities = [column for column in chart.columns.values() if isinstance(column, Quantity)]
    if not chart.by and (not quantities or records.where(arm, probe="diverged")):
        return [{}]
    measured = (
        row
        for quantity in quantities
        for row in records.where(arm, None, quantity.probe, quantity.metric, **quantity.where)
    )
    found = dict.fromkeys(tuple(row.fields[name] for name in chart.by) for row in measured)
    return [dict(zip(chart.by, place, strict=True)) for place in found]


def _argument(folder: Path, arm: str, name: str) -> Any:
    """What an arm's network has for an argument, as ablation.json says."""
    arms = json.loads((folder / "ablation.json").read_text("utf-8"))["arms"]
    return next(each["arguments"].get(name) for each in arms if each["name"] == arm)


@draw.register
def _(chart: Looks, records: Records, folder: Path) -> list[Drawn]:
    kept = [Kept(folder, arm, records.seeds(arm), label) for arm, label in chart.arms.items()]
    return draw_looks(folder, chart.name, chart.title, kept, chart.caption, chart.heading)


@draw.register
def _(chart: Animation, records: Records, folder: Path) -> list[Drawn]:
    return animate(Kept(folder, chart.arm, records.seeds(chart.arm), chart.label), chart.name, chart.title)


def values(quantity: Quantity, records: Records, arm: str) -> list[float]:
    """One value for each seed of an arm, NaN for a run that diverged."""
    return list(quantity(arm).by_seed(records).values())


def finite(found: Sequence[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in found if math.isfinite(value)]


def by_seed(quantity: Quantity, records: Records, arm: str) -> dict[int, float]:
    """Seed -> the finite value of a quantity of an arm."""
    return {seed: value for seed, value in quantity(arm).by_seed(records).items() if math.isfinite(value)}


def left_out(quantity: Quantity, records: Records, arms: Sequence[str]) -> str:
    """A sentence for a caption, after a space: arms without a value, and seeds that others have; "" if none."""
    seeds = {seed for arm in arms for seed in records.seeds(arm)}
    found = []
    for arm in arms:
        missing = sorted(seeds - set(by_seed(quantity, records, arm)))
        if missing:
            found.append(arm if len(missing) == len(seeds) else f"{arm} seed {', '.join(map(str, missing))}")
    return f" Left out, without a value: {'; '.join(found)}." if found else ""
