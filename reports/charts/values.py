"""The values that seeds and networks have in a chart, and what has none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ablations.harness.declare.measure import Quantity
from ablations.harness.store.records import Records


def finite(found: Iterable[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in found if math.isfinite(value)]


def means_over(records: Records, field: str) -> dict[int, float]:
    """A whole number in a field of the points -> mean of the finite values."""
    return {number: mean(found) for number, rows in records.over(field).items() if (found := finite(rows.values()))}


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


def argument(folder: Path, arm: str, name: str) -> Any:
    """What an arm's network has for an argument, as ablation.json says; None of a network from outside."""
    arms = json.loads((folder / "ablation.json").read_text("utf-8"))["arms"]
    return next((each["arguments"].get(name) for each in arms if each["name"] == arm), None)
