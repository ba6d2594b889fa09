"""The time that is announced: what steps were measured to take, and what stands beside them."""

from typing import Any

import pytest
import torch
from torch import nn

from ablations.harness import estimate as estimates
from ablations.harness.forecast import time_left
from ablations.harness.store.runs import Run
from datamodules import ImageData
from modules import Network, recipe_for
from modules.training.recipe import with_overrides


@pytest.mark.parametrize(
    ("trainer", "in_an_epoch"), [({}, 18), ({"accumulate_grad_batches": 3}, 18), ({"limit_train_batches": 0.5}, 9)]
)
def test_it_counts_batches_what_is_beside_each_and_beside_the_run(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any], in_an_epoch: int
) -> None:
    recipe = with_overrides(recipe_for("lenet5"), {"epochs": 3, "batch_size": 64})
    run = Run("lenet5", {"image_size": digits.image_size}, recipe, digits.identity, 0, trainer)
    clock = iter([10.0, 14.0, 20.0, 20.5])  # around two steps, around one evaluation batch
    monkeypatch.setattr(estimates, "now", lambda device: next(clock))
    found = estimates.estimate(run, digits, torch.device("cpu"), timed_steps=2)
    assert found.training == pytest.approx(3 * in_an_epoch * (2.0 + estimates.LOOP) + estimates.ASIDE)
    assert found.per_image == pytest.approx(0.5 / 64)
    assert estimates.LOOP > 0
    assert estimates.ASIDE > 0


def test_a_model_that_asserts_is_refused_in_words() -> None:
    class Asserting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._assert(x.shape[-1] > 64, "")  # as models of timm do
            return x

    network = Network(nn.Identity(), {}, Asserting())
    with pytest.raises(ValueError, match=r"network mine does not take images of shape \(3, 32, 32\): AssertionError$"):
        estimates.count(network, "mine", 3, 32)


def test_the_time_left_follows_the_pace_once_there_is_one() -> None:
    assert time_left(100, 20, 40) == ", about 3 min left", "80 s at half the pace"
    assert time_left(100, 0, 30) == time_left(200, 0.5, 12) == "", "the start of a command tells no pace"
    assert time_left(100, 99.5, 100) == ""
