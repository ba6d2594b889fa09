"""Warnings of spatial transformers that may have failed in training, from the records alone."""

from __future__ import annotations

from ablations.harness.records import Records
from reports.figures import number

BOUND = 1.0  # % of the transformed samples of a run's last epoch, above which a failure is told
FAILURES = {
    "train/transformers_outside": "the sampled window lay wholly outside the image",
    "train/transformers_blank": "the output was blank (the transformer looks outside, at one point, or at nothing)",
    "train/transformers_folded": "the transform could not be undone (it folds, or shrinks the image to almost nothing)",
}


def transformer_warnings(records: Records) -> list[str]:
    """One sentence for each arm and failure that some seed showed more often than BOUND in its last epoch."""
    warnings = []
    for metric, failure in FAILURES.items():
        found = records.where(probe="epoch", metric=metric)
        for arm in found.arms:
            mine = found.where(arm=arm)
            last = {seed: max(mine.where(seed=seed), key=lambda row: int(row.fields["epoch"])) for seed in mine.seeds()}
            shares = {seed: row.value for seed, row in last.items() if row.value > BOUND}
            if shares:
                seeds = f"seed{'s' if len(shares) > 1 else ''} {', '.join(map(str, shares))} of {len(last)}"
                values = ", ".join(f"{number(share)} %" for share in shares.values())
                warnings.append(
                    f"Arm {arm}, {seeds}: in the last epoch of training {failure} "
                    f"for more than {number(BOUND)} % of the transformed samples ({values})."
                )
    return warnings
