"""The one W&B run that sums up an ablation: verdicts, runs, figures and tables, read from the files of its folder.

It keeps its identity: a repeated command replaces it when the files have changed, and does nothing when they have not.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.harness.runtime import say
from ablations.harness.store.files import CHART, PAGE, write_json
from ablations.harness.store.runs import WEIGHTS
from ablations.harness.store.wandb_names import PAGE_KEY, RUNS_KEY, SUMMARY, VERDICTS_KEY, figure_key
from ablations.harness.tracking.lineage import model
from ablations.harness.tracking.tracking import Tracker, remembered, tracker

VERDICT_COLUMNS = (
    "claim", "says", "verdict", "estimate", "low", "high", "unit", "scale", "why", "rule", "published", "notes_value",
    "source",
)  # fmt: skip
RUN_COLUMNS = ("arm", "seed", "run", "state", "test_error", "test_metric", "train_seconds", "images_per_second")


def log_summary(folder: Path, out: Path, mode: str, with_weights: bool = False) -> bool:
    """Logs the ablation's folder as one W&B run; True if it was logged now.

    with_weights: the trained networks too, as artifacts that it uses. What was logged is remembered below `out`/wandb.
    A failure is told in one line.
    """
    if mode == "disabled":
        return False
    try:
        return _log_summary(folder, out, mode, with_weights)
    except (OSError, ValueError) as error:  # of the files; those of W&B never come so far
        say(f"  W&B has no summary of {folder} ({type(error).__name__}: {error})")
        return False


def _log_summary(folder: Path, out: Path, mode: str, with_weights: bool) -> bool:
    ablation = json.loads((folder / "ablation.json").read_text())
    memory = out / "wandb" / f"summary-{ablation['name']}-{folder.name}.json"
    known = remembered(memory)
    if known.get("content") == _digest(folder, mode, with_weights):
        return False
    tracked = tracker(
        out, mode, run_id=known.get("run_id"), replaces="run_id" in known, name=f"{ablation['name']}/{folder.name}",
        inputs=_models(out, ablation) if with_weights else [], **_description(ablation),
    )  # fmt: skip
    if tracked is None:
        return False
    tracked.attempt(_log, tracked, folder, ablation)
    if not tracked.finish():
        return False
    memory.parent.mkdir(parents=True, exist_ok=True)
    write_json(memory, {"run_id": tracked.run_id, "content": _digest(folder, tracked.mode, with_weights)})
    return True


def _digest(folder: Path, mode: str, with_weights: bool) -> str:
    """Of everything that the run shows; not of the page and ablation.json, which name the command and the machine."""
    found = hashlib.sha256(f"{mode} {with_weights}".encode())
    for file in (folder / "records.csv", folder / "verdicts.json", *sorted((folder / "figures").glob("*"))):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _description(ablation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "group": ablation["name"],
        "job_type": SUMMARY,
        "tags": [ablation["data"], ablation["budget"], SUMMARY],
        "ablation": ablation["name"],
        "commit": ablation["environment"].get("commit", ""),
        **{key: ablation[key] for key in ("title", "question", "budget", "data", "seeds", "command", "environment")},
        "arms": {arm["name"]: arm for arm in ablation["arms"]},
    }


def _log(tracked: Tracker, folder: Path, ablation: Mapping[str, Any]) -> None:
    import wandb

    verdicts = json.loads((folder / "verdicts.json").read_text())
    cells = [{**each, **dict(zip(("low", "high"), each["interval"], strict=True))} for each in verdicts]
    judged = [[each[column] for column in VERDICT_COLUMNS] for each in cells]
    rows = [[run[key] for key in RUN_COLUMNS] for run in ablation["runs"]]
    shown: dict[str, Any] = {
        VERDICTS_KEY: wandb.Table(columns=list(VERDICT_COLUMNS), data=judged),
        RUNS_KEY: wandb.Table(columns=list(RUN_COLUMNS), data=rows),
    }
    for figure in ablation["figures"]:
        caption = f"{figure['title']}. {figure['caption']}"
        shown[figure_key(figure["file"])] = _figure(folder / figure["file"], caption)
    if (page := folder / PAGE).exists():
        shown[PAGE_KEY] = wandb.Html(page.open(encoding="utf-8"), inject=False)
    tracked.experiment.log(shown)
    for verdict in verdicts:
        tracked.experiment.summary[f"verdict/{verdict['claim']}"] = verdict["verdict"]
        tracked.experiment.summary[f"estimate/{verdict['claim']}"] = verdict["estimate"]


def _figure(file: Path, caption: str) -> Any:
    """A picture, animation, chart or table as W&B shows it."""
    import wandb

    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            columns, *rows = csv.reader(stream)
        return wandb.Table(columns=columns, data=rows)
    if file.name.endswith(CHART):
        from plotly.io import read_json

        return wandb.Plotly(read_json(file))
    if file.suffix == ".gif":
        return wandb.Video(str(file), caption=caption, format="gif")
    return wandb.Image(str(file), caption=caption)


def _models(out: Path, ablation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The networks of the ablation's runs that have weights, once each."""
    folders = dict.fromkeys(out / "trained" / run["run"] for run in ablation["runs"])
    return [model(folder) for folder in folders if (folder / WEIGHTS).exists()]
