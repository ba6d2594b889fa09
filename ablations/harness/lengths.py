"""What plans become on few images: batches that the images fill, and what a user must know of lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ablations.harness.declare.ablation import Plan
from ablations.harness.declare.scale import LEAST_STEPS, fitting


def fitted(plan: Plan, num_train: int, usual: Callable[[str], int]) -> tuple[Plan, dict[str, tuple[int, int]]]:
    """The plan with batches that the training images fill, and what changed: arm -> (its recipe's batch, what fits).

    usual: network -> the batch size of its own recipe.
    """
    arms, changed = [], dict[str, tuple[int, int]]()
    for arm in plan.arms:
        wanted = arm.recipe.get("batch_size")
        wanted = wanted if isinstance(wanted, int) else usual(arm.network)
        fits = fitting(wanted, num_train)
        if fits < wanted:
            arm, changed[arm.name] = replace(arm, recipe={**arm.recipe, "batch_size": fits}), (wanted, fits)
        arms.append(arm)
    return replace(plan, arms=tuple(arms)), changed


def remarks(budget: str, num_train: int, smaller: Mapping[int, int], lengths: Mapping[str, int]) -> list[str]:
    """What a user must know of lengths, one sentence each.

    num_train: training images. smaller: batch size of a recipe -> what fits. lengths: arm -> optimiser steps.
    """
    found = [
        f"Batches of {fits} in place of {wanted}: there are {num_train} training images, and the learning rate is not "
        "scaled."
        for wanted, fits in smaller.items()
    ]
    short = {arm: number for arm, number in lengths.items() if number < LEAST_STEPS}
    if short and budget != "smoke":
        fewest, most = min(short.values()), max(short.values())
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        named = ", ".join(short) if len(short) < 4 else f"{len(short)} arms"
        found.append(
            f"Short training, {number} steps ({named}): below {LEAST_STEPS}, networks may have learned little."
        )
    return found
