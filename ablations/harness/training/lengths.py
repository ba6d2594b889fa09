"""How long a run trains, in batches and in optimiser steps."""

from __future__ import annotations

from ablations.harness.store.runs import Run
from ablations.harness.training.trainer_options import train_batches


def batches(run: Run) -> int:
    """Batches that a run trains on, over all epochs; the last, incomplete one of an epoch is left out."""
    return run.recipe.epochs * _in_an_epoch(run)


def steps(run: Run) -> int:
    """Optimiser steps of a run, as Lightning counts them: an epoch ends with a step, however few batches are left."""
    return run.recipe.epochs * -(-_in_an_epoch(run) // (run.trainer.get("accumulate_grad_batches") or 1))


def _in_an_epoch(run: Run) -> int:
    return train_batches(run.trainer, int(run.data["num_train"]) // run.recipe.batch_size)
