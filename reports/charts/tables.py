"""Tables of a report: CSV files beside the figures, which the page shows as they stand."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev

from ablations.harness.declare.chart import ArmTable
from ablations.harness.declare.measure import Quantity
from ablations.harness.store.files import atomic_write_text
from ablations.harness.store.records import Records
from reports.charts.style import Drawn, number
from reports.charts.values import argument, finite


def write_table(
    folder: Path, name: str, title: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> Drawn:
    """Writes `folder`/figures/`name`.csv; numbers as reports print them, None as an empty cell.

    Raises ValueError if a row has another length than the columns, OSError if the file cannot be written.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"table {name}: {len(row)} cells under {len(columns)} columns: {row}")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    atomic_write_text(folder / "figures" / f"{name}.csv", text.getvalue())
    return Drawn(f"figures/{name}.csv", title, caption)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def _medians(values: Sequence[float]) -> str:
    """The median of the seeds' values with their range where they differ, and how many are not finite; "" for none."""
    found, words = finite(values), []
    if found:
        low, high = number(min(found)), number(max(found))
        words.append(number(median(found)) + (f" ({low} to {high})" if low != high else ""))
    if len(found) < len(values):
        words.append(f"{len(values) - len(found)} diverged")
    return ", ".join(words)


def draw_arm_table(chart: ArmTable, records: Records, folder: Path) -> list[Drawn]:
    """A table with a row for each arm; draws nothing without a row."""

    def cell(column: Quantity | str | Mapping[str, str | float], arm: str, place: Mapping[str, str]) -> object:
        if isinstance(column, str):
            return argument(folder, arm, column)
        if not isinstance(column, Quantity):
            return column.get(arm)
        found = list(column(arm, **place).by_seed(records).values())
        if chart.medians:
            return _medians(found)
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
