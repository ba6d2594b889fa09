"""What only the questions about residual blocks must hold: the papers' own networks, and seeds that can decide."""

import pytest
import torch

from ablations import activation_order, shortcut_forms
from ablations.activation_order import DEEPER, DEEPEST, FULL, SMALL_BATCH
from ablations.harness.declare.scale import Scale
from modules import build, resolve
from modules.blocks import residual_block

CIFAR = ("cifar10", 32, 45_000, 10_000)


@pytest.mark.parametrize("script", [activation_order, shortcut_forms])
def test_seeds_are_enough_on_larger_images(script):
    """At least what reproducing takes, and at the paper budget what contradicting takes."""
    seeds = {budget: script.plan(Scale(budget, *CIFAR)).seeds for budget in ("laptop", "short", "paper")}
    claims = script.CLAIMS
    assert len(claims) / 2 ** seeds["laptop"] < 0.05
    assert len(claims) / 2 ** seeds["short"] < 0.05
    assert max(len(claim.tests) for claim in claims) * len(claims) / 2 ** seeds["paper"] < 0.05


def test_the_paper_budget_has_the_papers_orders():
    """Parameters as counted from the paper's description; every network starts with 400 steps at 0.01."""
    assert list(activation_order.ORDERS) == list(residual_block.ORDERS)
    arms = {arm.name: arm for arm in activation_order.plan(Scale("paper", *CIFAR)).arms}
    published = {"": ("preact_resnet110", 1_727_962), DEEPER: ("preact_resnet164", 1_703_258)}
    published[DEEPEST] = ("preact_resnet1001", 10_327_706)
    for suffix, (name, count) in published.items():
        arm = arms[FULL + suffix]
        assert resolve(arm.network, arm.arguments) == resolve(name)
        with torch.device("meta"):
            network = build(arm.network, 10, 3, **arm.arguments)
        assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert set(arms) == set(activation_order.PUBLISHED)
    assert {(arm.recipe["warmup_steps"], arm.recipe["warmup_rate"]) for arm in arms.values()} == {(400, 0.01)}
    assert {name: arm.recipe["batch_size"] for name, arm in arms.items() if arm.recipe["batch_size"] != 128} == {
        FULL + SMALL_BATCH: 64
    }


def test_the_paper_budget_has_all_forms_of_the_shortcut():
    arms = shortcut_forms.plan(Scale("paper", *CIFAR)).arms
    assert [arm.name for arm in arms] == list(shortcut_forms.FORMS)
    assert len(arms) == 16
    assert {arm.arguments["depth"] for arm in arms} == {110}


def test_no_shortcut_is_a_shortcut_times_zero():
    images = torch.randn(2, 3, 16, 16)
    answers = []
    for arguments in (shortcut_forms.FORMS[shortcut_forms.PLAIN][0], {"shortcut_scale": 0.0}):
        torch.manual_seed(0)
        network = build("resnet_cifar", 10, 3, depth=14, width=4, **arguments).eval()
        with torch.no_grad():
            answers.append(network(images))
    assert torch.equal(*answers)
