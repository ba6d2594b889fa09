"""Power: how often a script of the five would say "reproduced" if half of its effects were there, and if one were not.

For every experiment differences between seeds are invented, normal with the spread that pilots had, and judged by the
script's own rules, with its seeds at `hour` and Holm over its claims; needs are taken as met. Where half of an effect
lies on the wrong side of the threshold, the middle between threshold and effect is taken. reports/published/PILOTS.md
says where effects and spreads are from. `python tests/test_power.py` prints the table.
"""

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from ablations.harness.declare.ablation import Test
from ablations.harness.declare.measure import Quantity
from ablations.harness.declare.scale import Scale
from ablations.harness.declare.scripts import declared
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import Record, Records

PILOTS = Path(__file__).parents[1] / "reports" / "published" / "PILOTS.md"
SCRIPTS = 200
SMALL = Scale("hour", "cifar10", 16, 2_000, 10_000, 3)
# Script -> (claim, test) -> the effect of the paper, or of pilots where it prints none, and the spread over seeds.
EFFECTS: dict[str, dict[tuple[str, str], tuple[float, float]]] = {
    "remove_layers": {
        ("RL1", "gap"): (91, 4.8),
        ("RL1", "resnet_survives"): (0.4, 1.5),
        ("RL1", "by_few_points"): (0.35, 1.3),
        ("RL2", "rises"): (0.95, 0.03),
        ("RL2", "no_jump"): (12.6, 6.1),
        ("RL3", "rises"): (0.54, 0.1),
        ("RL3", "no_jump"): (14.5, 10),
        ("RL4", "at_least_as_well"): (-0.3, 1.0),
    },
    "stochastic_depth": {
        ("SD1", "gain"): (8.6, 1.7),
        ("SD2", "saved"): (27, 1.1),
        ("SD3", "same_p"): (4.3, 1.2),
        ("SD3", "same_cost"): (4.3, 1.2),
        ("SD4", "ratio"): (1.7, 0.6),
    },
    "highway_gate_bias": {
        ("HW1", "plain_stops"): (2.0, 0.27),
        ("HW1", "highway_trains"): (0.0, 0.16),
        ("HW2", "bias"): (3.3, 0.08),
        ("HW2", "not_scale"): (3.3, 0.1),
        ("HW2a", "bias"): (3.3, 0.08),
        ("HW2b", "bias"): (3.3, 0.5),
        ("HW3", "trend"): (0.5, 0.1),
        ("HW4", "early"): (10, 1.5),
        ("HW4", "idle"): (0.0, 0.3),
        ("HW5", "as_published"): (8.0, 1.5),
        ("HW5", "same_batch_norm"): (12.0, 1.5),
    },
    "activation_order": {
        ("AO1", "beats_bn_after_addition"): (16.6, 1.7),
        ("AO1", "beats_relu_before_addition"): (13.6, 1.7),
        ("AO1", "no_worse_than_original"): (0.0, 2.9),
        ("AO1", "no_worse_than_relu_only"): (0.0, 2.9),
        ("AO2", "grows"): (2.45, 0.4),  # of 1001 layers, which it needs
        ("AO3", "sooner_than_original"): (1.0, 0.2),
        ("AO3", "sooner_than_bn_after_addition"): (1.0, 0.2),
        ("AO3", "grows"): (1.0, 0.2),
    },
    "loss_landscape": {
        ("LL1", "deep"): (18.5, 6),
        ("LL1", "depth"): (20, 7),
        ("LL2", "follows"): (1.54, 0.4),
        ("LL2", "misleads"): (-5.7, 1.0),
        ("LL3", "alike"): (1.0, 0.02),
        ("LL3", "told_apart"): (100, 3),
        ("LL5", "principal"): (8.6, 0.9),
        ("LL6", "convex"): (0.03, 0.01),
        ("LL6", "gap"): (0.3, 0.04),
    },
}
TESTS = [(script, *test) for script, effects in EFFECTS.items() for test in effects]


def half(test: Test, effect: float) -> float:
    """Half of an effect, or half-way to it where its half would be none."""
    upward = test.at_least is not None
    beyond = effect / 2 > test.threshold if upward else effect / 2 < test.threshold
    return effect / 2 if beyond else (test.threshold + effect) / 2


@cache
def simulated(script: str, absent: tuple[str, str] | None = None) -> dict[str, float]:
    """Claim -> share in % of simulated scripts that reproduce it; absent: the test whose measure has its threshold."""
    ablation, effects = declared(script), EFFECTS[script]
    seeds = range(ablation.plan(SMALL).seeds)
    tried = [claim for claim in ablation.claims if claim.kind == "experiment"]
    claims = [
        replace(claim, needs=(), tests=tuple(
            replace(test, measure=Quantity(test.name, probe=claim.id)("network")) for test in claim.tests
        ))
        for claim in tried
    ]  # fmt: skip
    draws, found = random.Random(0), dict.fromkeys((claim.id for claim in claims), 0)
    for _ in range(SCRIPTS):
        rows = []
        for claim in claims:
            for test in claim.tests:
                effect, spread = effects[claim.id, test.name]
                centre = test.threshold if absent == (claim.id, test.name) else half(test, effect)
                for seed in seeds:
                    value = draws.gauss(centre, spread)
                    rows.append(Record(script, "network", seed, claim.id, test.name, value, "", "run"))
        for verdict in judge(claims, Records(rows), list(seeds), "hour", "invented"):
            found[verdict["claim"]] += verdict["verdict"] == "reproduced"
    return {claim: 100 * times / SCRIPTS for claim, times in found.items()}


@pytest.mark.parametrize("script", EFFECTS)
def test_half_of_the_effect_is_seen_four_times_in_five(script: str) -> None:
    assert min(simulated(script).values()) >= 80, simulated(script)


@pytest.mark.parametrize(("script", "claim", "test"), TESTS)
def test_what_is_not_there_is_not_seen(script: str, claim: str, test: str) -> None:
    assert simulated(script, (claim, test))[claim] <= 5


def table() -> str:
    """What the simulations say, as PILOTS.md shows it."""
    lines = [
        "| claim | test | effect | spread | half of it: reproduced, % | none of it, % |",
        "|---|---|---|---|---|---|",
    ]
    for script, claim, test in TESTS:
        effect, spread = EFFECTS[script][claim, test]
        absent = simulated(script, (claim, test))[claim]
        lines.append(f"| {claim} | {test} | {effect:g} | {spread:g} | {simulated(script)[claim]:.0f} | {absent:.1f} |")
    return "\n".join(lines)


def test_the_published_table_is_of_these_plans() -> None:
    assert table() in PILOTS.read_text(encoding="utf-8"), "write what `python tests/test_power.py` prints into it"


if __name__ == "__main__":
    print(table())
