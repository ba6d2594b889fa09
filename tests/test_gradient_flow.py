"""Gradient flow: every estimate and every rule on invented records."""

import json
from types import SimpleNamespace

import pytest

from ablations.gradient_flow import (
    ABLATION,
    ACTIVATION_NORM,
    CLAIMS,
    decades,
    imbalance,
    saturated,
)
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.plain_or_residual import ABLATION as PLAIN_OR_RESIDUAL

SEEDS = range(8)
# Decades between first and last block, untrained and in training.
FLOW = {
    "plain_20": (1.0, 0.5), "plain_56": (3.0, -2.0), "preact_20": (0.2, 0.2), "preact_56": (0.5, -0.4),
    "original_20": (0.6, 0.3), "original_56": (1.1, 0.6), "sigmoid": (-2.0, -0.7), "tanh": (-0.5, 0.1),
    "relu": (-0.6, 0.1),
}  # fmt: skip
DEVIATIONS = {"preact_20": 1e-16, "preact_56": 5e-16, "original_20": 0.4, "original_56": 0.5}
SMALL = {"sigmoid": 0.06, "tanh": 0.05, "relu": 0.5}
LARGEST = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
INEXACT = {"sigmoid": 1.0, "tanh": 1.0, "relu": 0.0}


def row(arm, seed, where, metric, value):
    return Record("gradient_flow", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def norms(arm, seed, epoch, exponent):
    """Norms that go from 10^exponent at the first of three blocks to 1 at the last."""
    return [
        row(arm, seed, point("gradient", epoch=epoch, position=p, block=f"b{p}"), ACTIVATION_NORM, norm)
        for p, norm in ((1, 10**exponent), (2, 5.0), (3, 1.0))
    ]


def slopes(arm, seed, epoch, small, largest, inexact):
    where = point("derivative", epoch=epoch, layer="conv1")
    values = {"small": small, "largest": largest, "inexact": inexact}
    return [row(arm, seed, where, f"derivative/{metric}", value) for metric, value in values.items()]


def evidence(flow=FLOW, deviations=DEVIATIONS, small=SMALL, largest=LARGEST, inexact=INEXACT, spread=None):
    """All arms and seeds; spread: arm -> by how many decades its seeds disagree."""
    found = []
    for seed in SEEDS:
        for number, (arm, ends) in enumerate(flow.items()):
            noise = 0.01 * (1 + number) * (seed - 3.5) / 7 + (spread or {}).get(arm, 0.0) * (-1) ** seed
            for epoch, exponent in zip((0, 6, 12), (ends[0], ends[1], ends[1]), strict=True):
                found += norms(arm, seed, epoch, exponent + noise)
                if arm in deviations:
                    where = point("identity", epoch=epoch, stage=1)
                    found.append(row(arm, seed, where, "relative_deviation", deviations[arm]))
                if arm in small:
                    share = max(0.0, small[arm] + 0.1 * noise) if epoch else 0.0
                    found += slopes(arm, seed, epoch, share, largest[arm], inexact[arm])
    return Records(found)


def verdict_of(claim, records, seeds=SEEDS):
    found = judge(CLAIMS, records, list(seeds), "laptop", "digits", num_claims=len(CLAIMS))
    return next(item for item in found if item["claim"] == claim)


# --- estimates ---


def test_decades_are_signed_and_imbalance_is_not():
    rows = norms("plain_56", 0, 0, 3) + norms("plain_56", 0, 5, -1) + norms("plain_56", 0, 9, 2)
    assert decades(Records(rows), "plain_56")[0] == pytest.approx({0: 3, 5: -1, 9: 2})
    assert imbalance(Records(rows), "plain_56", trained=False) == {0: pytest.approx(3)}
    assert imbalance(Records(rows), "plain_56", trained=True) == {0: pytest.approx(1.5)}


def test_a_gradient_of_zero_has_no_decades():
    rows = norms("plain_56", 0, 0, 3)
    rows[0] = row("plain_56", 0, rows[0].point, ACTIVATION_NORM, 0)
    assert decades(Records(rows), "plain_56") == {}


def test_saturation_is_last_minus_first_snapshot_in_percent():
    rows = [r for epoch, share in ((0, 0.01), (4, 0.5), (8, 0.2)) for r in slopes("sigmoid", 3, epoch, share, 0.2, 1)]
    assert saturated(Records(rows), "sigmoid") == {3: pytest.approx(19)}
    assert saturated(Records(rows[:3]), "sigmoid") == {}


# --- the verdicts ---


@pytest.mark.parametrize(
    ("claim", "records", "verdict"),
    [
        ("GF1", evidence(), "reproduced"),
        ("GF1", evidence({**FLOW, "plain_56": (0.4, 0.3)}), "contradicted"),
        ("GF1", evidence({**FLOW, "plain_56": (3.0, 0.3)}), "contradicted"),
        ("GF1", evidence({**FLOW, "preact_56": (1.5, 0.4)}), "contradicted"),
        ("GF1", evidence({**FLOW, "preact_56": (0.5, -1.5)}), "contradicted"),
        ("GF1", evidence(deviations={**DEVIATIONS, "preact_20": 1e-3}), "contradicted"),
        ("GF1", evidence(deviations={**DEVIATIONS, "original_56": 1e-12}), "contradicted"),
        ("GF1", evidence({**FLOW, "plain_56": (1.0, 1.0)}, spread={"plain_56": 0.8}), "undecided"),
        ("GF2", evidence(), "reproduced"),
        ("GF2", evidence({**FLOW, "sigmoid": (-0.8, -0.2)}), "contradicted"),
        ("GF2", evidence(small={**SMALL, "sigmoid": 0.001}), "contradicted"),
        ("GF2", evidence(largest={**LARGEST, "sigmoid": 0.3}), "contradicted"),
        ("GF2", evidence(inexact={**INEXACT, "relu": 0.1}), "contradicted"),
        ("GF2", evidence({**FLOW, "sigmoid": (-1.7, -0.7)}, spread={"sigmoid": 0.6}), "undecided"),
    ],
)
def test_every_claim_can_be_decided_either_way(claim, records, verdict):
    found = verdict_of(claim, records)
    assert found["verdict"] == verdict, found["why"]


def test_too_few_seeds_decide_nothing():
    records = Records(record for record in evidence() if record.seed < 3)
    for claim in CLAIMS:
        assert verdict_of(claim.id, records, range(3))["verdict"] == "undecided"


def test_a_diverged_run_leaves_its_claim_undecided():
    kept = [record for record in evidence() if (record.arm, record.seed) != ("plain_56", 5)]
    records = Records([*kept, row("plain_56", 5, "test", "test/top1_error", float("nan"))])
    found = verdict_of("GF1", records)
    assert (found["verdict"], found["why"]) == ("undecided", "arm plain_56 seed 5 diverged")
    assert verdict_of("GF2", records)["verdict"] == "reproduced"


# --- the plan ---


@pytest.mark.parametrize("image_size", [16, 28, 32])
@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_are_sound_for_every_budget_and_size(budget, image_size):
    data = SimpleNamespace(image_size=image_size, train=range(45_000), test=range(10_000))
    planned = ABLATION.plan(budget, data)
    check(ABLATION, planned)
    assert json.loads(json.dumps(dict(planned.settings))) == planned.settings
    depths = (20, 56, 110) if budget == "paper" else (20, 56)
    kinds = [f"{kind}_{depth}" for kind in ("plain", "original", "preact") for depth in depths]
    assert [arm.name for arm in planned.arms] == [*kinds, "sigmoid", "tanh", "relu"]


def test_plain_and_original_networks_are_those_of_plain_or_residual(digits):
    for budget in BUDGETS:
        mine = {arm.name: arm for arm in ABLATION.plan(budget, digits).arms}
        others = {arm.name: arm for arm in PLAIN_OR_RESIDUAL.plan(budget, digits).arms}
        for depth in (20, 56):
            for one, other in (("plain", "plain"), ("original", "residual")):
                a, b = mine[f"{one}_{depth}"], others[f"{other}_{depth}"]
                assert (a.network, a.arguments, a.recipe) == (b.network, b.arguments, b.recipe)


def test_figures_need_no_complete_records(tmp_path):
    assert ABLATION.figures(Records(), tmp_path) == []
    drawn = ABLATION.figures(Records([r for r in evidence() if r.arm in ("plain_56", "relu")]), tmp_path)
    assert "figures/balance.png" in {item.file for item in drawn}
    assert all((tmp_path / item.file).is_file() for item in drawn)
