"""Declared charts, drawn from the files of a finished ablation: records.csv and what ablation.json says of charts."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from ablations.harness.declare import chart as declared
from ablations.harness.declare.chart import Animation, Chart, Drawing, Looks
from ablations.harness.store.files import write_json
from ablations.harness.store.records import Records, read_records
from reports.charts.against import draw_against_field, draw_against_number
from reports.charts.animation import animate
from reports.charts.curves import draw_curves, draw_loss_and_error
from reports.charts.named_strips import draw_strips
from reports.charts.paired_seeds import draw_pairs
from reports.charts.pictures import Kept, draw_looks
from reports.charts.style import Drawn, style
from reports.charts.tables import draw_arm_table

FAILED = "The figures: drawing them failed; the records are complete."


def redraw(folder: Path) -> None:
    """Draws every chart that ablation.json declares to `folder`/figures, and lists in ablation.json what was drawn.

    Raises whatever a drawing raises, after it is noted there that figures are missing; ValueError or OSError for files
    that cannot be read or written.
    """
    file = folder / "ablation.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    if "charts" not in said:
        raise ValueError(
            f"{file} declares no charts: an earlier version wrote it; repeat the command, which trains nothing"
        )
    said["not_done"] = [line for line in said["not_done"] if line != FAILED]
    try:
        drawn = draw_all(said["charts"], said["name"], read_records(folder), folder)
    except Exception:
        said["not_done"].append(FAILED)
        write_json(file, said)
        raise
    said["figures"] = [{**figure._asdict(), "file": f"figures/{Path(figure.file).name}"} for figure in drawn]
    write_json(file, said)


@style()
def draw_all(said: Sequence[Mapping[str, Any]], ablation: str, records: Records, folder: Path) -> list[Drawn]:
    """Every chart that the records allow, to `folder`/figures in the house style; said: `charts` of ablation.json.

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


for each in (
    draw_against_field, draw_against_number, draw_arm_table, draw_curves, draw_loss_and_error, draw_pairs, draw_strips
):  # fmt: skip
    draw.register(each)


@draw.register
def _(chart: Looks, records: Records, folder: Path) -> list[Drawn]:
    kept = [Kept(folder, arm, seeds, label) for arm, label in chart.arms.items() if (seeds := records.seeds(arm))]
    return draw_looks(folder, chart.name, chart.title, kept, chart.caption, chart.heading)


@draw.register
def _(chart: Animation, records: Records, folder: Path) -> list[Drawn]:
    return animate(Kept(folder, chart.arm, records.seeds(chart.arm), chart.label), chart.name, chart.title)
