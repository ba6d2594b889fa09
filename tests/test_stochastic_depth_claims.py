"""The plan of stochastic depth: what the paper published, and no other depth or schedule by accident."""

from __future__ import annotations

import pytest
import torch

from ablations.harness.declare.scale import Scale
from ablations.stochastic_depth import CONSTANT, STOCHASTIC, plan
from modules import build


def test_the_paper_budget_is_the_published_network_and_recipe() -> None:
    """Huang et al. 2016, section 4: 110 layers, 500 epochs, batch 128; on average 40.25 of 54 blocks run."""
    by_name = {arm.name: arm for arm in plan(Scale("paper", "cifar10", 32, 45_000, 10_000)).arms}
    arm = by_name[STOCHASTIC]
    assert (arm.recipe["epochs"], arm.recipe["batch_size"]) == (500, 128)
    assert (arm.recipe["learning_rate"], arm.recipe["nesterov"], arm.recipe["weight_decay"]) == (0.1, True, 1e-4)
    with torch.device("meta"):
        network = build(arm.network, 10, 3, **arm.arguments)
        uniform = build(arm.network, 10, 3, **by_name["uniform_0.2"].arguments)
    assert sum(block.survival_prob for _, block in network.named_blocks()) == pytest.approx((3 * 54 - 1) / 4)
    assert {block.survival_prob for _, block in uniform.named_blocks()} == {0.2}
    assert by_name["per_sample_0.5"].arguments["drop_per"] == "sample"


def test_the_house_numbers_of_svhn_have_a_depth_and_a_schedule_of_their_own() -> None:
    for budget, depth, epochs, milestones in (("paper", 152, 50, (0.6, 0.7)), ("short", 56, 3, (0.5, 0.75))):
        arm = plan(Scale(budget, "svhn_extra", 32, 90_000, 26_032)).arms[0]
        assert (arm.name, arm.arguments["depth"], arm.recipe["epochs"]) == (CONSTANT, depth, epochs)
        assert arm.recipe["milestones"] == milestones
