"""The plans, estimates and verdicts of `activation_order`, and its tables, on invented records."""

import csv
import math
from types import SimpleNamespace

from ablations.activation_order import (
    ABLATION,
    CLAIMS,
    DEEPER,
    DEEPEST,
    ERROR,
    FULL,
    ORDERS,
    ORIGINAL,
    OTHERS,
    SMALL_BATCH,
    advantage,
)
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point
from modules import build, resolve
from modules.blocks import residual_block

SEEDS = range(8)
SOUND = dict.fromkeys(OTHERS, 6.0) | {FULL: 5.0, ORIGINAL + DEEPEST: 8.0, FULL + DEEPEST: 5.0}


def row(arm, seed, where, metric, value):
    return Record("activation_order", arm, seed, where, metric, float(value), "%", f"{arm}-{seed}")


def evidence(errors=SOUND, spread=None, seeds=SEEDS):
    """Every arm's test error per seed; spread: arm -> by how much seeds disagree about it."""
    return Records(
        row(arm, seed, "test", ERROR, error + 0.01 * seed * number + (spread or {}).get(arm, 0) * (-1) ** seed)
        for seed in seeds
        for number, (arm, error) in enumerate(errors.items())
    )


def test_differences_are_paired_by_seed():
    records = Records(
        [
            row(ORIGINAL, 0, "test", ERROR, 7),
            row(ORIGINAL, 1, "test", ERROR, 9),
            row(FULL, 1, "test", ERROR, 4),
            row(ORIGINAL + DEEPEST, 1, "test", ERROR, 12),
            row(FULL + DEEPEST, 1, "test", ERROR, 5),
        ]
    )
    assert advantage(ORIGINAL).by_seed(records) == {1: 5.0}
    assert advantage(ORIGINAL, DEEPEST).by_seed(records) == {1: 7.0}
    assert CLAIMS[1].tests[0].measure.by_seed(records) == {1: 2.0}


def test_every_order_has_its_arm(digits):
    assert list(ORDERS) == list(residual_block.ORDERS)
    for budget in BUDGETS:
        planned = ABLATION.plan(budget, digits)
        check(ABLATION, planned)
        arms = {arm.name: arm for arm in planned.arms}
        assert [arm.arguments["order"] for arm in planned.arms[:5]] == list(ORDERS)
        depths = [arms[ORIGINAL + suffix].arguments["depth"] for suffix in ("", DEEPER, DEEPEST)]
        assert depths == sorted(set(depths)), "each is deeper"
        assert ABLATION.passes(1, planned.settings) > 0
        for order in (ORIGINAL, FULL):
            for suffix, depth in zip(("", DEEPER, DEEPEST), depths, strict=True):
                assert planned.settings["depths"][order + suffix] == depth
                assert dict(arms[order + suffix].recipe) == dict(arms[ORIGINAL].recipe), "only order and depth differ"


def test_the_paper_budget_has_the_papers_networks(digits):
    """Parameters as counted from the paper's description; every network starts with 400 steps at 0.01."""
    arms = {arm.name: arm for arm in ABLATION.plan("paper", digits).arms}
    parameters = {FULL: 1_727_962, FULL + DEEPER: 1_703_258, FULL + DEEPEST: 10_327_706}
    for name, count in parameters.items():
        network = build(arms[name].network, 10, 3, **arms[name].arguments)
        assert sum(p.numel() for p in network.parameters()) == count
    for suffix, name in (("", "preact_resnet110"), (DEEPER, "preact_resnet164"), (DEEPEST, "preact_resnet1001")):
        assert resolve(arms[FULL + suffix].network, arms[FULL + suffix].arguments) == resolve(name)
    assert {order + DEEPER for order in ORDERS} <= set(arms)
    warmups = {(arm.recipe["warmup_steps"], arm.recipe["warmup_rate"]) for arm in arms.values()}
    assert warmups == {(400, 0.01)}
    assert {name: arm.recipe["batch_size"] for name, arm in arms.items() if "batch_size" in arm.recipe} == {
        FULL + SMALL_BATCH: 64
    }


def shown(folder, name):
    with (folder / "figures" / f"{name}.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def test_tables_show_the_paper_beside_the_records(tmp_path):
    rows = list(evidence(seeds=(0, 1, 2)))
    rows += [row(order, seed, "trained_on", "train/loss", 0.5) for order in ORDERS for seed in (0, 1, 2)]
    for suffix, depth in (("", 38), (DEEPEST, 110)):
        rows += [row(ORIGINAL + suffix, 0, "network", "depth", depth)]
    rows += [row(ORIGINAL, 3, "test", ERROR, math.nan), row(ORIGINAL, 3, "diverged", "step", 7)]
    for epoch in (1, 2):
        rows += [row(arm, 0, point("epoch", epoch=epoch), "train/loss", 1 / epoch) for arm in (ORIGINAL, FULL)]
        rows += [row(arm, 0, point("epoch", epoch=epoch), "val/top1_error", 50) for arm in (ORIGINAL, FULL)]
    drawn = ABLATION.figures(Records(rows), tmp_path)
    assert [figure.file for figure in drawn] == [
        "figures/table2.csv", "figures/table3.csv", "figures/curves.png", "figures/depth.png"
    ]  # fmt: skip
    header, *orders = shown(tmp_path, "table2")
    assert header[1:3] == ["paper, 110 layers: test error, %", "here, 38 layers: test error, %"]
    assert orders[0] == ["original", "6.61", "6, 1 diverged", "0.5"]
    assert orders[4] == ["full_preactivation", "6.37", "5.04 (5 to 5.08)", "0.5"]
    depths = shown(tmp_path, "table3")[1:]
    assert depths[0] == ["110", "6.61", "6.37", "0.24", "38", "6, 1 diverged", "5.04 (5 to 5.08)", "0.96"]
    assert depths[1] == ["164", "5.93", "5.46", "0.47", "?", "", "", ""]
    assert depths[2][:5] == ["1001", "7.61", "4.92", "2.69", "110"]


def test_nothing_is_drawn_of_strangers(tmp_path):
    assert list(ABLATION.figures(Records([row("vgg", 0, "trained_on", "train/loss", 1)]), tmp_path)) == []


def test_seeds_are_enough_on_larger_images():
    """At least what reproducing takes, and at the paper budget what contradicting takes."""
    cifar = SimpleNamespace(image_size=32, in_channels=3, train=range(45_000), val=range(5_000), test=range(10_000))
    seeds = {budget: ABLATION.plan(budget, cifar).seeds for budget in BUDGETS}
    assert seeds == {"smoke": 2, "laptop": 6, "short": 6, "paper": 8}
    for claim in CLAIMS:
        assert len(CLAIMS) / 2 ** seeds["short"] < 0.05
        assert len(claim.tests) * len(CLAIMS) / 2 ** seeds["paper"] < 0.05
