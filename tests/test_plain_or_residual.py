"""Plain or residual: costs as published, every estimate and every rule on invented records."""

import json
from types import SimpleNamespace

import pytest

from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.plain_or_residual import (
    ABLATION,
    CLAIMS,
    MULTIPLY_ADDS,
    OPTION_A,
    OPTION_B,
    OPTION_C,
    PARAMETERS,
    PUBLISHED,
    RESPONSE,
    TEST_ERROR,
    TRAIN_ERROR,
    costs,
    responses,
    training_error,
)

SEEDS = range(8)
TRAINED = {"plain_20": 3.0, "plain_56": 10.0, "residual_20": 2.0, "residual_56": 1.5}
RESPONSES = {"plain_20": 1.0, "plain_56": 0.9, "residual_20": 0.6, "residual_56": 0.4}
TESTED = {OPTION_A: 8.0, OPTION_B: 7.6, OPTION_C: 7.4}


def row(arm, seed, where, metric, value):
    return Record("plain_or_residual", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def network(arm, seed, trained=5.0, response=1.0, tested=8.0):
    found = [row(arm, seed, "chance", TEST_ERROR, 90), row(arm, seed, "test", TEST_ERROR, tested)]
    found += [row(arm, seed, point("epoch", epoch=e), TRAIN_ERROR, error) for e, error in ((1, 80), (2, trained))]
    return found + [
        row(arm, seed, point("response", layer=layer, name=f"conv{layer}"), RESPONSE, response + step)
        for layer, step in ((1, -0.1), (2, 0.1))
    ]


def evidence(trained=TRAINED, costs_=None):
    """All arms and seeds."""
    found = []
    for seed in SEEDS:
        for number, arm in enumerate(dict.fromkeys([*trained, *RESPONSES, *TESTED])):
            small = 0.01 * (1 + number) * (seed - 3.5) / 7
            values = trained.get(arm, 5) + small, RESPONSES.get(arm, 1) + small, TESTED.get(arm, 8) + small
            found += network(arm, seed, *values)
        for name, count in (counted() if costs_ is None else costs_).items():
            found.append(row("residual_20", seed, point("cost", network=name), MULTIPLY_ADDS, count))
    return Records(found)


@pytest.fixture(scope="module")
def measured():
    return {(m.point, m.metric): m.value for m in costs()}


def counted():
    exact = {name: round(published * 1e9) for name, published in PUBLISHED.items()}
    return {**exact, "basic_block_64": 231211008, "bottleneck_256": 218365952}


def verdict_of(claim, records, seeds=SEEDS):
    found = judge(CLAIMS, records, list(seeds), "laptop", "digits", num_claims=len(CLAIMS))
    return next(item for item in found if item["claim"] == claim)


# --- what is counted ---


def test_costs_are_those_of_the_paper(measured):
    found = {name: measured[point("cost", network=name), MULTIPLY_ADDS] for name in PUBLISHED}
    assert found["resnet34"] == 3_644_493_824
    assert found["vgg19"] == 19_632_062_464
    for name, published in PUBLISHED.items():
        assert abs(found[name] / 1e9 - published) <= 0.1
    assert measured[point("cost", network="plain34"), MULTIPLY_ADDS] == found["resnet34"], "shortcut A is free"


def test_a_bottleneck_is_cheaper_than_a_basic_block_of_a_quarter_of_its_channels(measured):
    pixels = 56 * 56
    basic, bottleneck, wide = (
        measured[point("cost", network=name), MULTIPLY_ADDS]
        for name in ("basic_block_64", "bottleneck_256", "basic_block_256")
    )
    assert basic == pixels * 2 * 9 * 64 * 64
    assert bottleneck == pixels * (2 * 256 * 64 + 9 * 64 * 64)
    assert wide == pixels * 2 * 9 * 256 * 256
    # Batch norm has two parameters per channel.
    assert measured[point("cost", network="bottleneck_256"), PARAMETERS] == bottleneck / pixels + 2 * (64 + 64 + 256)


# --- estimates ---


def test_the_last_epoch_counts_and_a_run_that_diverged_counts_as_guessing():
    rows = [*network("plain_56", 0, 7.0), *network("plain_56", 1, 9.0)]
    failed = [
        row("plain_56", 2, point("epoch", epoch=1), TRAIN_ERROR, 85),
        row("plain_56", 2, "test", TEST_ERROR, float("nan")),
        row("plain_56", 2, "diverged", "step", 20),
    ]
    assert training_error("plain_56").by_seed(Records(rows + failed)) == {0: 7.0, 1: 9.0, 2: 90.0}
    assert training_error("plain_56").by_seed(Records(failed)) == {}, "nobody says what guessing gives"


def test_the_response_of_a_network_is_the_mean_over_its_layers():
    assert responses("plain_20").by_seed(Records(network("plain_20", 4, response=2.0))) == {4: pytest.approx(2.0)}


# --- the verdicts ---


@pytest.mark.parametrize(
    ("claim", "records", "verdict"),
    [
        ("PR3", evidence(), "reproduced"),
        ("PR3", evidence(costs_={**counted(), "resnet34": 4.0e9}), "contradicted"),
        ("PR3", evidence(costs_={**counted(), "resnet152": 11.5e9}), "contradicted"),
        ("PR3", evidence(costs_={**counted(), "bottleneck_256": 3e8}), "contradicted"),
        ("PR3", evidence(costs_={}), "undecided"),
    ],
)
def test_counts_decide_either_way(claim, records, verdict):
    found = verdict_of(claim, records)
    assert found["verdict"] == verdict, found["why"]


def test_a_plain_network_that_diverges_is_evidence_for_the_claim_and_none_about_responses():
    everything = evidence({**TRAINED, "plain_56": 60.0})
    kept = [record for record in everything if (record.arm, record.seed) != ("plain_56", 3)]
    kept += [row("plain_56", 3, "test", TEST_ERROR, float("nan")), row("plain_56", 3, "diverged", "step", 9)]
    assert verdict_of("PR1", Records(kept))["verdict"] == "reproduced"
    found = verdict_of("PR2", Records(kept))
    assert found["verdict"] == "undecided"
    assert found["why"] == "arm plain_56 seed 3 diverged"


def test_too_few_seeds_decide_nothing_but_counts():
    records = Records(record for record in evidence() if record.seed < 3)
    found = {claim.id: verdict_of(claim.id, records, range(3))["verdict"] for claim in CLAIMS}
    assert found == {"PR1": "undecided", "PR2": "undecided", "PR3": "reproduced", "PR4": "undecided"}


@pytest.mark.parametrize("image_size", [16, 28, 32])
@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_are_sound_for_every_budget_and_size(budget, image_size):
    data = SimpleNamespace(image_size=image_size, train=range(45_000), test=range(10_000))
    planned = ABLATION.plan(budget, data)
    check(ABLATION, planned)
    assert json.loads(json.dumps(dict(planned.settings))) == planned.settings
    depths: tuple[int, ...] = (20, 32, 44, 56, 110) if budget == "paper" else (20, 32, 56)
    if budget == "laptop" and image_size == 16:
        depths = (20, 32, 44, 56)
    kinds = [f"{kind}_{depth}" for kind in ("plain", "residual") for depth in depths]
    assert [arm.name for arm in planned.arms] == [*kinds, "residual_32_B", "residual_32_C"]


def test_figures_need_no_complete_records(tmp_path):
    assert ABLATION.figures(Records(), tmp_path) == []
    drawn = ABLATION.figures(Records([r for r in evidence(costs_={}) if r.arm.startswith("plain")]), tmp_path)
    assert {item.file for item in drawn} >= {"figures/errors.png", "figures/responses.png"}
    assert all((tmp_path / item.file).is_file() for item in drawn)
