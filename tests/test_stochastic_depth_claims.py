"""Claims on stochastic depth: every estimate and rule on invented records, and the plan of every budget."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ablations.harness.ablation import BUDGETS, check
from ablations.harness.precision import granted
from ablations.harness.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.stochastic_depth import (
    ABLATION,
    CLAIMS,
    CONSTANT,
    ERROR,
    GRADIENT,
    RULES,
    STOCHASTIC,
    SWEEP,
    WITH,
    WITHOUT,
    advantages,
    difference,
    gradient_ratio,
    mean_advantage,
    share_won,
    time_saved,
)
from modules import build

SEEDS = range(8)


def row(arm: str, seed: int, where: str, metric: str, value: float, unit: str = "%") -> Record:
    return Record("stochastic_depth", arm, seed, where, metric, float(value), unit, f"{arm}-{seed}")


def error(arm: str, seed: int, value: float) -> Record:
    return row(arm, seed, "test", ERROR, value)


def steps(seed: int, skipping: Sequence[float], whole: Sequence[float]) -> list[Record]:
    return [
        row(STOCHASTIC, seed, point("step", round=number), metric, value, "s")
        for metric, values in ((WITH, skipping), (WITHOUT, whole))
        for number, value in enumerate(values)
    ]


def gradients(arm: str, seed: int, by_epoch: Mapping[int, float]) -> list[Record]:
    return [row(arm, seed, point("gradient", epoch=epoch), GRADIENT, value, "") for epoch, value in by_epoch.items()]


def test_differences_are_paired() -> None:
    records = Records([error(CONSTANT, 0, 5), error(STOCHASTIC, 0, 4), error(CONSTANT, 1, 9)])
    assert difference(records, CONSTANT, STOCHASTIC) == {0: 1.0}


def test_the_time_saved_is_a_median_over_rounds_of_the_same_steps() -> None:
    assert time_saved(Records(steps(3, [6, 8, 50], [10, 10, 10]))) == {3: pytest.approx(20.0)}


def test_the_sweep_is_averaged_and_counted() -> None:
    gains = (2.0, 0.0, -1.0, 1.0, 0.5)
    records = Records(
        error(f"{rule}_{last}", 1, 5 + gain * (rule == "uniform"))
        for last, gain in zip(SWEEP, gains, strict=True)
        for rule in RULES
    )
    assert advantages(records) == {1: pytest.approx(gains)}
    assert mean_advantage(records) == {1: pytest.approx(0.5)}
    assert share_won(records) == {1: pytest.approx(70.0)}
    assert mean_advantage(records[1:]) == {}, "a sweep with a hole is no sweep"


def test_the_ratio_of_gradients_leaves_the_start_out() -> None:
    records = Records(
        [*gradients(CONSTANT, 2, {0: 1, 5: 1, 10: 2}), *gradients(STOCHASTIC, 2, {0: 64, 5: 2, 10: 16, 20: 9})]
    )
    assert gradient_ratio(records) == {2: pytest.approx((1 + 3) / 2)}


def evidence(
    gain: Callable[[int], float] = lambda seed: 1.0,
    saved: Callable[[int], float] = lambda seed: 25.0,
    linear: Callable[[int, int], float] = lambda seed, place: 0.5,
    ratio: Callable[[int], float] = lambda seed: 2.0,
) -> Records:
    """All arms and seeds; gain in % points, time saved in %, what linear gains at each place of the sweep, ratio."""
    found: list[Record] = []
    for seed in SEEDS:
        noise = 0.05 * (seed - 3.5)
        found.append(error(CONSTANT, seed, 10 + gain(seed) + noise))
        for place, last in enumerate(SWEEP):
            found.append(error(f"linear_{last}", seed, 10))
            found.append(error(f"uniform_{last}", seed, 10 + linear(seed, place) + noise))
        found += steps(seed, [100 - saved(seed) + noise] * 3, [100] * 3)
        found += gradients(CONSTANT, seed, {0: 1, 1: 1, 2: 1})
        found += gradients(STOCHASTIC, seed, {0: 1, 1: ratio(seed) + noise / 10, 2: ratio(seed)})
    return Records(found)


def verdict_of(claim: str, records: Records) -> dict[str, Any]:
    found = judge(CLAIMS, records, list(SEEDS), "laptop", "digits", num_claims=len(CLAIMS))
    return next(item for item in found if item["claim"] == claim)


def sign(seed: int) -> int:
    return (-1) ** seed


@pytest.mark.parametrize(
    ("claim", "records", "verdict"),
    [
        ("SD1", evidence(), "reproduced"),
        ("SD1", evidence(gain=lambda seed: -1.0), "contradicted"),
        ("SD1", evidence(gain=lambda seed: 0.1 + sign(seed)), "undecided"),
        ("SD2", evidence(), "reproduced"),
        ("SD2", evidence(saved=lambda seed: 5.0), "contradicted"),
        ("SD2", evidence(saved=lambda seed: 15.5 + 4 * sign(seed)), "undecided"),
        ("SD3", evidence(), "reproduced"),
        ("SD3", evidence(linear=lambda seed, place: -0.5), "contradicted"),
        ("SD3", evidence(linear=lambda seed, place: 9.0 if place == 0 else -0.5), "contradicted"),
        ("SD3", evidence(linear=lambda seed, place: 0.1 + sign(seed)), "undecided"),
        ("SD4", evidence(), "reproduced"),
        ("SD4", evidence(ratio=lambda seed: 0.5), "contradicted"),
        ("SD4", evidence(ratio=lambda seed: 2.0 if seed % 2 else 0.6), "undecided"),
    ],
)
def test_every_claim_can_be_decided_either_way(claim: str, records: Records, verdict: str) -> None:
    found = verdict_of(claim, records)
    assert found["verdict"] == verdict, found["why"]


def test_a_diverged_run_leaves_its_claims_undecided() -> None:
    kept = [record for record in evidence() if (record.arm, record.seed) != (CONSTANT, 5)]
    records = Records([*kept, error(CONSTANT, 5, math.nan)])
    for claim, verdict in (("SD1", "undecided"), ("SD2", "reproduced"), ("SD3", "reproduced"), ("SD4", "undecided")):
        found = verdict_of(claim, records)
        assert found["verdict"] == verdict
        if verdict == "undecided":
            assert found["why"] == f"arm {CONSTANT} seed 5 diverged"


def test_a_diverged_rule_is_no_lost_comparison() -> None:
    """NaN is neither more nor less: the linear rule must not lose because the uniform one blew up."""
    broken = ("uniform_0.2", "uniform_0.4", "uniform_0.5")
    kept = [record for record in evidence() if not (record.arm in broken and record.probe == "test")]
    records = Records([*kept, *(error(arm, seed, math.nan) for arm in broken for seed in range(8))])
    found = verdict_of("SD3", records)
    assert found["verdict"] == "undecided"
    assert "diverged" in found["why"]


def test_plans_are_sound_for_every_budget(digits: Any) -> None:
    for budget in BUDGETS:
        planned = granted(ABLATION.plan(budget, digits), bf16_is_fast=True)
        check(ABLATION, planned)
        json.dumps(dict(planned.settings))
        for arm in planned.arms:
            cost = ABLATION.passes(18, {**planned.settings, "arm": arm.name})
            assert (cost > 0) == (arm.name in (CONSTANT, STOCHASTIC, "per_sample_0.5"))


def test_the_paper_budget_is_the_published_network_and_recipe(digits: Any) -> None:
    """Huang et al. 2016, section 4: 110 layers, 500 epochs, batch 128; on average 40.25 of 54 blocks run."""
    import torch

    by_name = {arm.name: arm for arm in ABLATION.plan("paper", digits).arms}
    arm = by_name[STOCHASTIC]
    assert (arm.recipe["epochs"], arm.recipe["batch_size"]) == (500, 128)
    assert (arm.recipe["learning_rate"], arm.recipe["nesterov"], arm.recipe["weight_decay"]) == (0.1, True, 1e-4)
    with torch.device("meta"):
        network = build(arm.network, 10, 3, **arm.arguments)
        uniform = build(arm.network, 10, 3, **by_name["uniform_0.2"].arguments)
    assert sum(block.survival_prob for _, block in network.named_blocks()) == pytest.approx((3 * 54 - 1) / 4)
    assert {block.survival_prob for _, block in uniform.named_blocks()} == {0.2}
    assert by_name["per_sample_0.5"].arguments["drop_per"] == "sample"
