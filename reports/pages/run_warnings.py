"""Warnings of runs that may have failed in training though they ended, from the records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


def _lost(records: Records) -> Iterator[str]:
    """Runs whose training loss ended more than RISE above the least that they had reached."""
    for arm, losses in _over_epochs(records, "train/loss"):
        rises = {seed: found[-1] - min(found) for seed, found in losses.items()}
        if high := {seed: rise for seed, rise in rises.items() if rise > RISE}:
            yield (
                f"Arm {arm}, {_seeds(high, len(rises))}: the training loss ended above the least that it had reached "
                f"(by {_values(high)}); the run may have lost what it had learned."
            )


def _transformers(records: Records) -> Iterator[str]:
    """Failures that some seed showed more often than BOUND in its last epoch."""
    for metric, failure in FAILURES.items():
        for arm, shares in _over_epochs(records, metric):
            if high := {seed: found[-1] for seed, found in shares.items() if found[-1] > BOUND}:
                yield (
                    f"Arm {arm}, {_seeds(high, len(shares))}: in the last epoch of training {failure} "
                    f"for more than {number(BOUND)} % of the transformed samples ({_values(high, ' %')})."
                )


def _over_epochs(records: Records, metric: str) -> Iterator[tuple[str, dict[int, list[float]]]]:
    """Each arm that has the metric, and its values by seed in the order of the epochs."""
    found = Records(sorted(records.where(probe="epoch", metric=metric), key=lambda row: int(row.fields["epoch"])))
    for arm in records.arms:
        if values := found.by_seed(arm):
            yield arm, values


def _seeds(shown: Mapping[int, float], count: int) -> str:
    return f"seed{'s' if len(shown) > 1 else ''} {', '.join(map(str, shown))} of {count}"


def _values(shown: Mapping[int, float], unit: str = "") -> str:
    return ", ".join(f"{number(value)}{unit}" for value in shown.values())
