"""The way of training that most questions share on a laptop, said once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import Scale

if TYPE_CHECKING:
    from modules.training.recipe import Recipe

SLOW_START: Mapping[str, object] = {"warmup_steps": 400, "warmup_rate": 0.01}
"""Of every CIFAR network in He et al. 2016, arXiv:1603.05027, appendix; from 110 layers on in He et al. 2015."""


def laptop_recipe(
    at: Scale, epochs: int, base: Recipe | Mapping[str, object] | None = None, **changes: Mapping[str, object]
) -> dict[str, Any]:
    """What differs from a network's default recipe, where a laptop trains for minutes: a rate that falls linearly to 0.

    epochs: of a laptop on the digits, in batches of 64; where the calibration is that of CIFAR-10 there is one epoch of
    it in batches of 128. base, changes: as `Scale.recipe` takes them; the changes win.
    """
    usual: dict[str, dict[str, object]] = {
        "laptop": {
            "schedule": "linear", "nesterov": True, "batch_size": 64, "warmup_steps": 40, "warmup_rate": None,
            "epochs": at.epochs(epochs, 64),
        },
        "cifar": {"batch_size": 128, "warmup_steps": 60, "epochs": at.epochs(1), "precision": FAST_TRAINING},
        "smoke": {"epochs": 1},
    }  # fmt: skip
    words = dict.fromkeys([*changes, *usual])
    return at.recipe(base, **{word: {**usual.get(word, {}), **changes.get(word, {})} for word in words})
