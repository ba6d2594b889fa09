"""Warnings of runs that may have failed in training though they ended, from the records alone."""

from __future__ import annotations

from collections.abc import Mapping

from ablations.harness.store.records import Records
from reports.charts.style import number

BOUND = 1.0  # % of the transformed samples of a run's last epoch, above which a failure is told
FAILURES = {
    "train/transformers_outside": "the sampled window lay wholly outside the image",
    "train/transformers_blank": "the output was blank (the transformer looks outside, at one point, or at nothing)",
    "train/transformers_folded": "the transform could not be undone (it folds, or shrinks the image to almost nothing)",
}
RISE = 0.5  # of the training loss, above which a run is said to have lost what it had learned


def run_warnings(records: Records) -> list[str]:
    """One sentence for each arm and kind of failure, with the seeds that show it."""
    return [*_lost(records), *_transformers(records)]


def _lost(records: Records) -> list[str]:
    """Runs whose training loss ended more than RISE above the least that they had reached."""
    warnings = []
    found = records.where(probe="epoch", metric="train/loss")
    for arm in found.arms:
        mine = found.where(arm=arm)
        rises = {}
        for seed in mine.seeds():
            losses = [row.value for row in sorted(mine.where(seed=seed), key=lambda row: int(row.fields["epoch"]))]
            rises[seed] = losses[-1] - min(losses)
        high = {seed: rise for seed, rise in rises.items() if rise > RISE}
        if high:
            warnings.append(
                f"Arm {arm}, {_seeds(high, len(rises))}: the training loss ended above the least that it had reached "
                f"(by {_values(high)}); the run may have lost what it had learned."
            )
    return warnings


def _transformers(records: Records) -> list[str]:
    """Failures that some seed showed more often than BOUND in its last epoch."""
    warnings = []
    for metric, failure in FAILURES.items():
        found = records.where(probe="epoch", metric=metric)
        for arm in found.arms:
            mine = found.where(arm=arm)
            last = {seed: max(mine.where(seed=seed), key=lambda row: int(row.fields["epoch"])) for seed in mine.seeds()}
            shares = {seed: row.value for seed, row in last.items() if row.value > BOUND}
            if shares:
                warnings.append(
                    f"Arm {arm}, {_seeds(shares, len(last))}: in the last epoch of training {failure} "
                    f"for more than {number(BOUND)} % of the transformed samples ({_values(shares, ' %')})."
                )
    return warnings


def _seeds(shown: Mapping[int, float], count: int) -> str:
    return f"seed{'s' if len(shown) > 1 else ''} {', '.join(map(str, shown))} of {count}"


def _values(shown: Mapping[int, float], unit: str = "") -> str:
    return ", ".join(f"{number(value)}{unit}" for value in shown.values())
