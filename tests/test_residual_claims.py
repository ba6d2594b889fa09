"""What only the questions about residual blocks hold: the papers' networks, shared runs, counts, seeds that decide."""

import math

import pytest
import torch

from ablations import activation_order, gradient_flow, plain_or_residual, shortcut_forms
from ablations.activation_order import DEEP, DEPTHS, FULL, MIDDLE, ORDERS, ORIGINAL, SHALLOW, SMALL_BATCH
from ablations.harness.declare.chart import Drawing, written
from ablations.harness.declare.scale import BUDGETS, Scale
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import Record, Records, point
from modules import build, resolve
from modules.blocks import residual_block
from reports.charts.declared import draw_all

DIGITS, CIFAR = ("digits", 16, 1_212, 450), ("cifar10", 32, 45_000, 10_000)
CIFAR_FEW = ("cifar10", 16, 2_000, 10_000)


@pytest.mark.parametrize("script", [activation_order, gradient_flow, plain_or_residual, shortcut_forms])
def test_seeds_are_enough_on_larger_images(script):
    """At least what reproducing takes, and at the paper budget what contradicting takes."""
    seeds = {budget: script.plan(Scale(budget, *CIFAR)).seeds for budget in ("laptop", "short", "paper")}
    claims = script.CLAIMS
    assert len(claims) / 2 ** seeds["laptop"] < 0.05
    assert len(claims) / 2 ** seeds["short"] < 0.05
    assert max(len(claim.tests) for claim in claims) * len(claims) / 2 ** seeds["paper"] < 0.05


def test_the_paper_budget_has_the_papers_orders():
    """Networks whose parameters the table of architectures holds; each starts with 400 steps at 0.01."""
    assert list(activation_order.ORDERS) == list(residual_block.ORDERS)
    arms = {arm.name: arm for arm in activation_order.plan(Scale("paper", *CIFAR)).arms}
    for suffix, depth in (("", 110), (SHALLOW, 110), (MIDDLE, 164), (DEEP, 1001)):
        arm = arms[FULL + suffix]
        assert resolve(arm.network, arm.arguments) == resolve(f"preact_resnet{depth}")
    two = {order + suffix for order in (ORIGINAL, FULL) for suffix in DEPTHS}
    assert set(arms) == {*ORDERS, *(order + MIDDLE for order in ORDERS), *two, FULL + SMALL_BATCH}
    assert {(arm.recipe["warmup_steps"], arm.recipe["warmup_rate"]) for arm in arms.values()} == {(400, 0.01)}
    assert {name: arm.recipe["batch_size"] for name, arm in arms.items() if "batch_size" in arm.recipe} == {
        FULL + SMALL_BATCH: 64
    }


@pytest.mark.parametrize(("budget", "data"), [
    ("laptop", DIGITS), ("hour", DIGITS), ("hour", CIFAR_FEW), ("short", CIFAR), ("paper", CIFAR),
])  # fmt: skip
def test_five_orders_are_those_of_one_of_the_three_depths(budget, data):
    """Their runs are shared, so that one more name costs nothing."""
    arms = {arm.name: arm for arm in activation_order.plan(Scale(budget, *data)).arms}
    same = [suffix for suffix in DEPTHS if arms[FULL + suffix].arguments == arms[FULL].arguments]
    assert len(same) == 1
    assert arms[FULL + same[0]].recipe == arms[FULL].recipe
    assert {arms[order].arguments["depth"] for order in ORDERS} == {110}


def test_a_quarter_of_the_schedule_is_one_of_its_epochs():
    for epochs, quarter in ((1, 1), (2, 1), (4, 1), (6, 2), (50, 12)):
        told = [float(epoch) for epoch in range(1, epochs + 1)]
        assert activation_order.at_a_quarter(told, told) == quarter


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


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("data", [DIGITS, CIFAR])
def test_plain_and_original_networks_are_those_of_plain_or_residual(budget, data):
    mine, others = (
        {arm.name: arm for arm in script.plan(Scale(budget, *data)).arms}
        for script in (gradient_flow, plain_or_residual)
    )
    for depth in (20, 56):
        for one, other in (("plain", "plain"), ("original", "residual")):
            a, b = mine[f"{one}_{depth}"], others[f"{other}_{depth}"]
            assert (a.network, a.arguments, a.recipe) == (b.network, b.arguments, b.recipe)


def row(arm, seed, where, metric, value):
    return Record("invented", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


@pytest.mark.parametrize("measure", [
    plain_or_residual.training_error("a"), shortcut_forms.error("a"), shortcut_forms.loss("a"),
])  # fmt: skip
def test_a_run_that_diverged_counts_as_guessing(measure):
    guessing = {"test/top1_error": 90.0, "train/loss": 2.3}
    rows = [row("b", 0, "chance", metric, value) for metric, value in guessing.items()]
    diverged = [row("a", 0, "test", "test/top1_error", math.nan), row("a", 0, "diverged", "step", 20)]
    assert measure.by_seed(Records(rows + diverged)) == {0: guessing[measure.quantity.guessing]}
    assert measure.by_seed(Records(diverged)) == {}, "nobody says what guessing gives"


@pytest.mark.parametrize(("change", "verdict"), [
    ({}, "reproduced"), ({"resnet34": 4.0e9}, "contradicted"), ({"resnet152": 11.5e9}, "contradicted"),
    ({"bottleneck_256": 3e8}, "contradicted"), (None, "undecided"),
])  # fmt: skip
def test_counts_decide_either_way(change, verdict):
    counted = {name: published * 1e9 for name, published in plain_or_residual.PUBLISHED.items()}
    counted |= {"basic_block_64": 231211008, "bottleneck_256": 218365952, **(change or {})}
    rows = [
        row("residual_20", 0, point("cost", network=name), "multiply_adds", count)
        for name, count in counted.items()
        if change is not None
    ]
    (claim,) = [claim for claim in plain_or_residual.CLAIMS if claim.id == "PR3"]
    (found,) = judge([claim], Records(rows), [0], "laptop", "digits", num_claims=4)
    assert found["verdict"] == verdict


def test_figures_need_no_complete_records(tmp_path):
    """Arms, metrics and seeds that are missing are left out."""
    rows = [
        row(arm, 0, point("gradient", epoch=epoch, position=place, block=f"b{place}"), "gradient/activation", place)
        for arm in ("plain_56", "relu") for epoch in (0, 3) for place in (1, 2)
    ]  # fmt: skip
    rows += [row("plain_20", 0, point("epoch", epoch=epoch), "val/top1_error", 50 / epoch) for epoch in (1, 2)]
    rows += [row("plain_20", 0, point("response", layer=1, name="conv"), "response/std", 1.0)]
    for script, expected in (
        (gradient_flow, ["gradient_by_activation.png", "balance.png", "lenet_gradients.png"]),
        (plain_or_residual, ["errors.png", "responses.png"]),
    ):
        (drawing,) = [chart for chart in script.ABLATION.charts if isinstance(chart, Drawing)]
        said = [written(drawing)]
        assert draw_all(said, script.ABLATION.name, Records(), tmp_path) == []
        drawn = draw_all(said, script.ABLATION.name, Records(rows), tmp_path)
        assert [each.file for each in drawn] == [f"figures/{name}" for name in expected]
        assert all((tmp_path / each.file).stat().st_size for each in drawn)
