"""Tables of a report: CSV files beside the figures, which the page shows as they stand."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ablations.harness.store.files import atomic_write_text
from reports.charts.style import Drawn, number


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


def medians(values: Sequence[float]) -> str:
    """The median of the seeds' values with their range where they differ, and how many are not finite; "" for none."""
    finite = [value for value in values if math.isfinite(value)]
    words = []
    if finite:
        low, high = number(min(finite)), number(max(finite))
        words.append(number(median(finite)) + (f" ({low} to {high})" if low != high else ""))
    if len(finite) < len(values):
        words.append(f"{len(values) - len(finite)} diverged")
    return ", ".join(words)
