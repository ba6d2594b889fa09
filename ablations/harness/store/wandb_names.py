"""What W&B's runs are called and hold: shared by what logs them and by the report that finds them again."""

from __future__ import annotations

import math
from pathlib import PurePath

from ablations.harness.store.files import CHART
from ablations.harness.store.records import Records

PROJECT = "cnn-ablations"
STEP = "trainer/global_step"
TRAIN, PROBE, SUMMARY = "train", "probe", "summary"  # W&B's job types
STEP_LOSS_KEY, DIVERGED_KEY = "train/loss_step", "diverged/step"
VERDICTS_KEY, RUNS_KEY, PAGE_KEY = "tables/verdicts", "tables/runs", "report"  # of the summary run, beside figures


def figure_key(file: str) -> str:
    """The key under which a file of figures/ is logged; raises ValueError for no picture, chart or table."""
    path = PurePath(file)
    for suffix, what in ((".png", "figures"), (".gif", "figures"), (CHART, "charts"), (".csv", "tables")):
        if path.name.endswith(suffix):
            return f"{what}/{path.name.removesuffix(suffix)}"
    raise ValueError(f"{path.name} is none of .png, .gif, {CHART} and .csv")


def means(records: Records) -> dict[str, float]:
    """<probe>/<metric> -> mean over all points and runs with a finite value; none for a metric without one."""
    values: dict[str, list[float]] = {}
    for row in records:
        if math.isfinite(row.value):
            values.setdefault(f"{row.probe}/{row.metric}", []).append(row.value)
    return {name: math.fsum(found) / len(found) for name, found in values.items()}
