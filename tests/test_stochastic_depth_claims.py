"""Claims on stochastic depth: what its measures make of invented records, and the plan of every budget."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.declare.measure import Measure
from ablations.harness.declare.precision import granted
from ablations.harness.store.records import Record, Records, point
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
    gradient_ratio,
)
from modules import build


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


def measure(claim: str, test: int = 0) -> Measure:
    return next(each for each in CLAIMS if each.id == claim).tests[test].measure


def test_the_time_saved_is_a_median_over_rounds_of_the_same_steps() -> None:
    assert measure("SD2").by_seed(Records(steps(3, [6, 8, 50], [10, 10, 10]))) == {3: pytest.approx(20.0)}


def test_the_sweep_is_averaged_and_counted() -> None:
    gains = (2.0, 0.0, -1.0, 1.0, 0.5)
    records = Records(
        error(f"{rule}_{last}", 1, 5 + gain * (rule == "uniform"))
        for last, gain in zip(SWEEP, gains, strict=True)
        for rule in RULES
    )
    assert measure("SD3").by_seed(records) == {1: pytest.approx(0.5)}
    assert measure("SD3", 1).by_seed(records) == {1: pytest.approx(70.0)}
    assert measure("SD3").by_seed(records[1:]) == {}, "a sweep with a hole is no sweep"


def test_a_diverged_rule_is_no_lost_comparison() -> None:
    """NaN is neither more nor less: the linear rule must not lose because the uniform one blew up."""
    rows = [error(f"{rule}_{last}", 0, 5.0) for last in SWEEP for rule in RULES]
    records = Records([*(row for row in rows if row.arm != "uniform_0.2"), error("uniform_0.2", 0, math.nan)])
    assert all(math.isnan(measure("SD3", test).by_seed(records)[0]) for test in (0, 1))


def test_the_ratio_of_gradients_leaves_the_start_out() -> None:
    records = Records(
        [*gradients(CONSTANT, 2, {0: 1, 5: 1, 10: 2}), *gradients(STOCHASTIC, 2, {0: 64, 5: 2, 10: 16, 20: 9})]
    )
    assert gradient_ratio(records) == {2: pytest.approx((1 + 3) / 2)}


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
