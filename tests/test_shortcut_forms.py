"""The plans, estimates and verdicts of `shortcut_forms`, and its table, on invented records."""

import csv
import math
from types import SimpleNamespace

import pytest
import torch

from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.shortcut_forms import (
    ABLATION,
    CLAIMS,
    CONVOLUTION,
    DROPOUT,
    ERROR,
    IDENTITY,
    LOSS,
    PLAIN,
    RIVALS,
    SCALED_BOTH,
    error,
    forms,
    loss,
)
from modules import build
from reports.drawings.shortcut_forms import TABLE_1, verdict

SEEDS = range(7)
ERRORS = {IDENTITY: 5.0} | dict.fromkeys(RIVALS, 9.0)
LOSSES = {IDENTITY: 0.01} | dict.fromkeys(RIVALS, 0.1)


def row(arm, seed, where, metric, value):
    return Record("shortcut_forms", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def run(arm, seed, error, loss):
    """The records of one finished run."""
    return [
        row(arm, seed, "test", ERROR, error),
        row(arm, seed, "chance", ERROR, 90),
        row(arm, seed, "chance", LOSS, math.log(10)),
        row(arm, seed, "trained_on", LOSS, loss),
        row(arm, seed, "trained_on", "train/top1_error", error / 2),
        row(arm, seed, "network", "depth", 56),
    ]


def diverged(arm, seed):
    return [row(arm, seed, "test", ERROR, math.nan), row(arm, seed, "diverged", "step", 5)]


def evidence(errors=ERRORS, losses=LOSSES, broken=()):
    """All arms and seeds; broken: (arm, seed) of runs that diverged."""
    found = []
    for seed in SEEDS:
        for number, arm in enumerate(errors):
            if (arm, seed) in broken:
                found += diverged(arm, seed)
                continue
            error = errors[arm] + 0.01 * seed * number
            found += run(arm, seed, error, losses[arm] * (1 + 0.01 * seed * number))
    return Records(found)


def judged(records):
    return judge(CLAIMS, records, list(SEEDS), "laptop", "digits")[0]


def test_training_loss_is_compared_in_powers_of_ten():
    losses = dict(zip(RIVALS, (0.1, 0.1, 0.01, 1.0, 10.0), strict=True))
    records = Records(run(IDENTITY, 2, 5, 0.01) + [r for arm, loss in losses.items() for r in run(arm, 2, 9, loss)])
    assert CLAIMS[0].tests[-1].measure.by_seed(records) == {2: pytest.approx((1 + 1 + 0 + 2 + 3) / 5)}


def test_a_diverged_run_counts_as_guessing():
    records = Records(run(IDENTITY, 0, 4, 0.1) + diverged(DROPOUT, 0))
    assert error(DROPOUT).by_seed(records) == {0: 90.0}
    assert loss(DROPOUT).by_seed(records) == {0: math.log(10)}
    nobody_knows = Records(diverged(IDENTITY, 0) + diverged(DROPOUT, 0))
    assert error(DROPOUT).by_seed(nobody_knows) == {}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (evidence(broken=[(DROPOUT, seed) for seed in SEEDS]), "reproduced"),
        (evidence(broken=[(DROPOUT, seed) for seed in (0, 2, 3, 5)]), "reproduced"),
        (evidence(broken=[(DROPOUT, 2)]), "undecided"),  # one seed of seven makes the interval wide
        (evidence(broken=[(IDENTITY, seed) for seed in SEEDS]), "contradicted"),
        (evidence(broken=[(IDENTITY, 2)]), "undecided"),
    ],
)
def test_runs_that_diverge_are_weighed_as_guessing(records, expected):
    found = judged(records)
    assert found["verdict"] == expected, found["why"]


def test_a_missing_form_decides_nothing():
    records = Records(record for record in evidence() if record.arm != CONVOLUTION)
    assert judged(records)["why"] == f"arm {CONVOLUTION} is missing"


def test_plans_hold_what_the_claim_needs(digits):
    for budget in BUDGETS:
        planned = ABLATION.plan(budget, digits)
        check(ABLATION, planned)
        assert {arm.name for arm in planned.arms} <= set(TABLE_1)
        assert len({tuple(sorted(arm.recipe.items())) for arm in planned.arms}) == 1, "all forms train alike"
    paper = ABLATION.plan("paper", digits)
    assert [arm.name for arm in paper.arms] == list(TABLE_1)
    assert {arm.arguments["depth"] for arm in paper.arms} == {110}


def test_no_shortcut_is_a_shortcut_times_zero():
    images = torch.randn(2, 3, 16, 16)
    answers = []
    for arguments in (forms(())[PLAIN][0], {"shortcut_scale": 0.0}):
        torch.manual_seed(0)
        network = build("resnet_cifar", 10, 3, depth=14, width=4, **arguments).eval()
        with torch.no_grad():
            answers.append(network(images))
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ([19.0, 20.0, 21.0], "20 (19 to 21)"),
        ([19.0, 20.5, 21.0], "fail: 20.5 (19 to 21)"),
        ([8.0, 9.0, math.nan], "8.5 (8 to 9), 1 diverged"),
        ([8.0, math.nan, math.nan], "fail: 8, 2 diverged"),
        ([math.nan], "fail: 1 diverged"),
        ([], ""),
    ],
)
def test_the_papers_rule_for_fail(errors, text):
    assert verdict(errors) == text


def test_the_table_and_figures_follow_the_paper(tmp_path):
    errors = dict.fromkeys(TABLE_1, 30.0) | {IDENTITY: 5.0, SCALED_BOTH: 12.0}
    rows = [r for seed in (0, 1) for arm, error in errors.items() for r in run(arm, seed, error + seed, 0.1)]
    rows += diverged(DROPOUT, 2)
    for epoch in (1, 2):
        rows += [row(arm, 0, point("epoch", epoch=epoch), "train/loss", 1 / epoch) for arm in TABLE_1]
        rows += [row(arm, 0, point("epoch", epoch=epoch), "val/top1_error", 50) for arm in TABLE_1]
    drawn = ABLATION.figures(Records(rows), tmp_path)
    names = ["table1.csv", "curves.png", "forms.png", "gate_bias.png"]
    assert [figure.file for figure in drawn] == [f"figures/{name}" for name in names]
    assert all((tmp_path / figure.file).stat().st_size for figure in drawn)
    assert "1 runs" in drawn[2].caption
    with (tmp_path / "figures" / "table1.csv").open(newline="") as stream:
        header, *table = csv.reader(stream)
    assert header[4] == "here, 56 layers: test error, %"
    assert len(table) == len(TABLE_1) == 16
    assert table[0] == ["original", "1", "1", "6.61", "5.5 (5 to 6)", "0.1", "2.75 (2.5 to 3)"]
    assert table[3][:5] == ["constant scaling", "0.5", "0.5", "12.35", "12.5 (12 to 13)"]
    assert table[10][:4] == ["exclusive gating", "1 - g, bias -6", "g", "8.70"]
    assert table[15][3:5] == ["fail", "fail: 30.5 (30 to 31), 1 diverged"]


def test_nothing_is_drawn_of_strangers(tmp_path):
    assert list(ABLATION.figures(Records([row("vgg", 0, "trained_on", LOSS, 1)]), tmp_path)) == []


def test_seeds_are_enough_on_larger_images():
    """At least what reproducing takes, and at the paper budget what contradicting takes."""
    cifar = SimpleNamespace(image_size=32, in_channels=3, train=range(45_000), val=range(5_000), test=range(10_000))
    seeds = {budget: ABLATION.plan(budget, cifar).seeds for budget in BUDGETS}
    assert seeds == {"smoke": 2, "laptop": 5, "short": 5, "paper": 7}
    for claim in CLAIMS:
        assert len(CLAIMS) / 2 ** seeds["short"] < 0.05
        assert len(claim.tests) * len(CLAIMS) / 2 ** seeds["paper"] < 0.05
