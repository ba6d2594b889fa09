"""Runs that are stuck: they end near guessing while their siblings do not. Told, and what is judged without them too.

The rule, fixed before any run: a run's last validation error is at least NEAR of the largest that any run of its arm
had in training, which is about that of guessing, while the median of the other seeds is at most FAR of it.
"""

from __future__ import annotations

import math
from statistics import median

from ablations.harness.store.records import Records

NEAR, FAR = 0.9, 0.5
SIBLINGS = 2  # fewer say nothing about what is usual


def stuck(records: Records) -> list[tuple[str, int]]:
    """Arms and seeds of the runs that are stuck, in the order of the records; none for data without validation."""
    found = []
    for arm in records.arms:
        ends, largest = _last_errors(records, arm)
        for seed, end in ends.items():
            others = [value for other, value in ends.items() if other != seed]
            if len(others) >= SIBLINGS and end >= NEAR * largest and median(others) <= FAR * largest:
                found.append((arm, seed))
    return found


def _last_errors(records: Records, arm: str) -> tuple[dict[int, float], float]:
    """The last validation error of each seed, and the largest error of all epochs of all seeds."""
    rows = [
        row
        for row in records.where(arm, probe="epoch")
        if row.metric.startswith("val/") and row.metric.endswith("_error") and "top5" not in row.metric
        if math.isfinite(row.value)
    ]
    rows.sort(key=lambda row: int(row.fields["epoch"]))
    return {row.seed: row.value for row in rows}, max((row.value for row in rows), default=0.0)
