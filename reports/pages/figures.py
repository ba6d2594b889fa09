"""The figures of a finished ablation, drawn anew from its files."""

from __future__ import annotations

import json
from pathlib import Path

from ablations.harness.store.files import write_json
from ablations.harness.store.records import read_records
from reports.charts.declared import draw_all

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
