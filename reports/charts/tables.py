"""Tables of a report: CSV files beside the figures, which the page shows as they stand."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

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
