"""Declared charts, drawn from the files of a finished ablation: records.csv and what ablation.json says of charts."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from statistics import fmean
from typing import Any

from ablations.harness.declare import chart as declared
from ablations.harness.declare.chart import (
    Against,
    AgainstField,
    ArmTable,
    Chart,
    Curves,
    Drawing,
    LossAndError,
    Pairs,
    Strips,
)
from ablations.harness.declare.measure import Quantity
from ablations.harness.store.records import Records
from reports.charts.curves import draw_against, draw_curves
from reports.charts.loss_error import draw_loss_and_error
from reports.charts.named_strips import draw_strips
from reports.charts.paired_seeds import draw_pairs
from reports.charts.style import BLUE, Drawn
from reports.charts.tables import write_table


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
    series = {
        line: {float(place): values(chart.quantity, records, arm) for arm, place in arms.items()}
        for line, arms in chart.series.items()
    }
    references = {}
    for line, value in chart.references.items():
        found = finite(values(chart.quantity, records, value)) if isinstance(value, str) else [float(value)]
        if found:
            references[line] = fmean(found)
    return draw_against(
        folder, chart.name, chart.title, chart.x_label, chart.label, series, references, chart.caption,
        chart.logarithmic,
    )  # fmt: skip


@draw.register
def _(chart: AgainstField, records: Records, folder: Path) -> list[Drawn]:
    series: dict[str, dict[float, list[float]]] = {}
    found = records.where(None, None, chart.quantity.probe, chart.quantity.metric, **chart.quantity.where)
    for arm in chart.arms or found.arms:
        for row in found.where(arm):
            line = series.setdefault(chart.names.get(arm, arm), {})
            line.setdefault(float(row.fields[chart.over]), []).append(row.value)
    return draw_against(
        folder, chart.name, chart.title, chart.x_label, chart.label, series, caption=chart.caption,
        logarithmic=chart.logarithmic,
    )  # fmt: skip


@draw.register
def _(chart: Pairs, records: Records, folder: Path) -> list[Drawn]:
    drawn = draw_pairs(records, folder, chart.arms, chart.quantity.metric, chart.label, chart.names)
    return [each._replace(title=chart.title) for each in drawn] if chart.title else drawn


@draw.register
def _(chart: Strips, records: Records, folder: Path) -> list[Drawn]:
    rows = {
        name: (chart.quantity(arm).by_seed(records), BLUE, chart.published.get(name, ()))
        for name, arm in chart.rows.items()
    }
    return draw_strips(folder, chart.name, chart.title, chart.label, rows, chart.caption)


@draw.register
def _(chart: ArmTable, records: Records, folder: Path) -> list[Drawn]:
    arms = [arm for arm in (chart.arms or records.arms) if arm in records.arms]
    if not arms:
        return []
    rows = [
        [chart.names.get(arm, arm), *(_cell(column, records, arm) for column in chart.columns.values())] for arm in arms
    ]
    return [write_table(folder, chart.name, chart.title, chart.caption, ["arm", *chart.columns], rows)]


def _cell(column: Quantity | Mapping[str, str | float], records: Records, arm: str) -> object:
    if not isinstance(column, Quantity):
        return column.get(arm)
    found = finite(values(column, records, arm))
    return fmean(found) if found else None


def values(quantity: Quantity, records: Records, arm: str) -> list[float]:
    """One value for each seed of an arm, NaN for a run that diverged."""
    return list(quantity(arm).by_seed(records).values())


def finite(found: Sequence[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in found if math.isfinite(value)]
