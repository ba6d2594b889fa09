"""The figures of Huang et al. 2016 (arXiv:1603.09382) in the paper's axes, and the table of its sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median

from ablations.harness.store.records import Records
from reports.charts.curves import draw_against, draw_curves
from reports.charts.style import Drawn
from reports.charts.tables import write_table

ERROR, GRADIENT = "test/top1_error", "gradient/mean_absolute"
SHOWN = ("constant", "linear_0.5", "uniform_0.5", "per_sample_0.5")  # in curves; more lines could not be told apart


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Writes every figure that the records allow to `folder`/figures; raises OSError if a file cannot be written."""
    return [*_sweep(records, folder), *_curves(records, folder), *_gradients(records, folder), *_table(records, folder)]


def _by_probability(records: Records) -> dict[str, dict[float, str]]:
    """Rule -> p_L -> arm; constant depth is p_L = 1 of both rules."""
    found: dict[str, dict[float, str]] = {}
    for arm in records.arms:
        rule, _, last = arm.rpartition("_")
        if rule in ("linear", "uniform"):
            found.setdefault(rule, {})[float(last)] = arm
    for arms in found.values():
        arms[1.0] = "constant"
    return found


def _epoch_seconds(records: Records, arm: str) -> list[float]:
    """Per seed the median seconds of an epoch."""
    return [median(values) for values in records.by_seed(arm=arm, probe="epoch", metric="seconds").values()]


def _sweep(records: Records, folder: Path) -> list[Drawn]:
    rules = _by_probability(records)
    errors = {
        rule: {last: records.where(arm, probe="test", metric=ERROR).values() for last, arm in arms.items()}
        for rule, arms in rules.items()
    }
    per_sample = records.where("per_sample_0.5", probe="test", metric=ERROR).values()
    if per_sample:
        errors["linear, drawn per image"] = {0.5: per_sample}
    constant = _finite(records.where("constant", probe="test", metric=ERROR).values())
    seconds = {rule: {last: _epoch_seconds(records, arm) for last, arm in arms.items()} for rule, arms in rules.items()}
    label = "survival probability of the last block, p_L"
    return [
        *draw_against(
            folder, "sweep", "Error against the survival probability", label, "test error in %", errors,
            {"constant depth": mean(constant)} if constant else {},
            "As in figure 8 of the paper; p_L = 1 is constant depth.",
        ),
        *draw_against(
            folder, "epoch_seconds", "Time of an epoch", label, "seconds per epoch", seconds, {},
            "Whole epochs with validation, on whatever else the machine did meanwhile; SD2 rests on steps that took "
            "turns instead.",
        ),
    ]  # fmt: skip


def _curves(records: Records, folder: Path) -> list[Drawn]:
    arms = [arm for arm in SHOWN if arm in records.arms]
    return [
        *draw_curves(
            records, folder, "training_loss", "Training loss", {"train/loss": "training loss"}, arms, logarithmic=True
        ),
        *draw_curves(
            records, folder, "validation_error", "Validation error", {"val/top1_error": "validation error in %"}, arms
        ),
    ]


def _gradients(records: Records, folder: Path) -> list[Drawn]:
    rows = records.where(probe="gradient", metric=GRADIENT)
    series: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        series.setdefault(row.arm, {}).setdefault(float(row.fields["epoch"]), []).append(row.value)
    return draw_against(
        folder, "first_gradient", "Gradient of the first convolution of block 1", "epoch", "mean |gradient|", series,
        caption="As in figure 7 of the paper, before the first epoch and after evenly spread ones.", logarithmic=True,
    )  # fmt: skip


def _table(records: Records, folder: Path) -> list[Drawn]:
    """One row per arm: what it errs, what it costs, and its gain over constant depth."""
    constant = records.by_seed("constant", "test", ERROR)
    rows = []
    for arm in records.arms:
        errors = records.by_seed(arm, "test", ERROR)
        gains = _finite(constant[seed][0] - errors[seed][0] for seed in errors if seed in constant)
        share = records.where(arm, probe="survival").values()
        rows.append(
            [
                arm,
                share[0] if share else None,
                _mean(value for values in errors.values() for value in values),
                _mean(records.where(arm, probe="test", metric="test/loss").values()),
                _mean(gains),
                _mean(_epoch_seconds(records, arm)),
            ]
        )
    columns = ("arm", "branches run, %", "test error, %", "test loss", "gain over constant, % points", "s per epoch")
    if not rows:
        return []
    caption = (
        "Means over seeds whose value is finite. The paper, 110 layers on CIFAR-10: 6.41 % at constant depth, 5.25 %"
    )
    return [write_table(folder, "arms", "All arms", f"{caption} with linear_0.5.", columns, rows)]


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Iterable[float]) -> float | None:
    found = _finite(values)
    return mean(found) if found else None
