"""How long plans train: in optimiser steps, whatever the number of images.

A laptop or short plan names epochs of the data it was calibrated on, digits or CIFAR-10, and trains as many steps on
other data. A smoke plan is one epoch; the schedules of the papers are in epochs, as they are printed.
Plans of images that scripts make, and of birds, are lengths in steps themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ablations.harness.declare.ablation import Plan
from ablations.harness.training.trainer_options import train_batches

if TYPE_CHECKING:
    from ablations.harness.store.runs import Run
    from datamodules.images import ImageData

DIGITS, CIFAR = 1_212, 45_000  # training images of the two calibrations
LARGE = 28  # pixels from which images take the calibration of CIFAR-10
FEW = 5_000  # training images below which a laptop takes the networks and batches of the digits, whatever their size
LEAST_STEPS = 200  # fewer teach little, and are told


@dataclass(frozen=True)
class Scale:
    """A budget on data: what plans need to know of both, as numbers of images and pixels."""

    budget: str
    image_size: int
    num_train: int
    num_test: int

    @classmethod
    def of(cls, budget: str, data: ImageData) -> Scale:
        """The scale of a budget on data."""
        return cls(budget, data.image_size, len(data.train), len(data.test))

    @property
    def large(self) -> bool:
        """Whether images have so many pixels that a laptop takes fewer seeds, depths and draws."""
        return self.image_size >= LARGE

    @property
    def small(self) -> bool:
        """Whether the calibration is that of the digits: narrow networks, batches of 64."""
        is_few = self.budget in ("smoke", "laptop") and self.num_train < FEW
        return is_few or not self.large

    def epochs(self, number: int, batch_size: int = 128) -> int:
        """Epochs of this data with as many steps as so many epochs of the calibration's data, 1 or more.

        Few large images get LEAST_STEPS or more: what is enough for digits need not be for them.
        """
        steps = number * ((DIGITS if self.small else CIFAR) // batch_size)
        in_one = max(1, self.num_train // batch_size)
        found = max(1, round(steps / in_one))
        if self.small and self.large and found * in_one < LEAST_STEPS:
            found = -(-LEAST_STEPS // in_one)
        return found

    def batch_size(self, wanted: int) -> int:
        """The wanted size of a batch, halved until the training images fill one."""
        return fitting(wanted, self.num_train)

    def limit(self, most: int) -> int | None:
        """So many test images for a probe, None for all where there are no more."""
        return most if self.num_test > most else None


def fitting(batch_size: int, num_train: int) -> int:
    """The batch size, halved until the training images fill one."""
    while batch_size > max(1, num_train):
        batch_size //= 2
    return batch_size


def epochs_of(steps: int, batch_size: int, num_train: int) -> int:
    """Epochs of so many images that come nearest to a length in optimiser steps, 1 or more."""
    return max(1, round(steps * batch_size / num_train))


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


def batches(run: Run) -> int:
    """Batches that a run trains on, over all epochs; the last, incomplete one of an epoch is left out."""
    return run.recipe.epochs * _in_an_epoch(run)


def steps(run: Run) -> int:
    """Optimiser steps of a run, as Lightning counts them: an epoch ends with a step, however few batches are left."""
    return run.recipe.epochs * -(-_in_an_epoch(run) // (run.trainer.get("accumulate_grad_batches") or 1))


def _in_an_epoch(run: Run) -> int:
    return train_batches(run.trainer, int(run.data["num_train"]) // run.recipe.batch_size)


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
