"""The shared recipe at each budget; that it moves no run's hash is held by the golden values."""

import pytest

from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import Scale

DIGITS, CIFAR = ("digits", 16, 1_212, 450), ("cifar10", 32, 45_000, 10_000)
LINEAR = {"momentum": 0.5, "schedule": "linear", "nesterov": True, "warmup_rate": None}
LARGE = {**LINEAR, "batch_size": 128, "warmup_steps": 100, "epochs": 1, "precision": FAST_TRAINING}


@pytest.mark.parametrize(("budget", "data", "expected"), [
    ("paper", CIFAR, {"momentum": 0.5}),
    ("short", CIFAR, {"momentum": 0.5, "epochs": 6}),
    ("laptop", DIGITS, {**LINEAR, "batch_size": 64, "warmup_steps": 40, "epochs": 12}),
    ("laptop", CIFAR, LARGE),
    ("hour", DIGITS, {**LINEAR, "batch_size": 64, "warmup_steps": 40, "epochs": 40}),
    ("hour", CIFAR, {**LARGE, "epochs": 40}),
    ("smoke", CIFAR, {**LARGE, "decay": "weights"}),
])  # fmt: skip
def test_each_budget_changes_what_the_larger_ones_say(budget, data, expected):
    changes = {"short": {"epochs": 6}, "cifar": {"warmup_steps": 100}, "smoke": {"decay": "weights"}}
    changes["hour"] = {"epochs": 40}
    assert laptop_recipe(Scale(budget, *data), 12, {"momentum": 0.5}, **changes) == expected
