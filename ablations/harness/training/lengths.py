"""How long a run trains, in batches and in optimiser steps, and how often it is validated meanwhile."""

from __future__ import annotations

import math

from ablations.harness.store.runs import Run
from ablations.harness.training.trainer_options import train_batches

TRAINING_OVER_EVALUATING = 3  # what an image costs forwards and backwards, over forwards alone
VALIDATION_SHARE = 0.15  # of the cost of training, at most


def batches(run: Run) -> int:
    """Batches that a run trains on, over all epochs; the last, incomplete one of an epoch is left out."""
    return run.recipe.epochs * _in_an_epoch(run)


def steps(run: Run) -> int:
    """Optimiser steps of a run, as Lightning counts them: an epoch ends with a step, however few batches are left."""
    return run.recipe.epochs * -(-_in_an_epoch(run) // (run.trainer.get("accumulate_grad_batches") or 1))


def epochs_between_validations(run: Run) -> int:
    """1, or more where there are so few training images that validation would take a large part of the time.

    A number that divides the run's epochs if there is one nearby, so that the last epoch is validated. 1 for options of
    the trainer that say how often.
    """
    if {"check_val_every_n_epoch", "val_check_interval"} & run.trainer.keys():
        return 1
    share = run.data["num_val"] / (TRAINING_OVER_EVALUATING * run.data["num_train"])
    fewest = min(run.recipe.epochs, math.ceil(share / VALIDATION_SHARE)) or 1
    nearby = range(fewest, 2 * fewest + 1)
    return next((every for every in nearby if run.recipe.epochs % every == 0), fewest)


def _in_an_epoch(run: Run) -> int:
    return train_batches(run.trainer, int(run.data["num_train"]) // run.recipe.batch_size)
