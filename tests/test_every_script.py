"""What every declaration must be, at every budget on data of several shapes: sound, plain, and told at once."""

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ablations.harness.declare import chart, precision, probe
from ablations.harness.declare.ablation import Ablation, Plan, check
from ablations.harness.declare.scale import BUDGETS, Scale
from ablations.harness.declare.scripts import scripts
from ablations.harness.explain import KNOWN, explanation

SHAPES = {
    "digits": (16, 1_211, 450, 1),
    "mnist10k": (28, 7_200, 2_000, 1),
    "cifar10": (32, 45_000, 10_000, 3),
    "photos": (32, 1_819, 202, 3),
    "few": (16, 54, 6, 1),
}
EVERY = [(ablation, budget, shape) for ablation in scripts() for budget in BUDGETS for shape in SHAPES]
NAMES = [f"{ablation.name}-{budget}-{shape}" for ablation, budget, shape in EVERY]
EXPLAIN = """
import sys
from ablations.harness.declare.scripts import scripts
from ablations.harness.explain import explanation
print(len([explanation(each, "digits") for each in scripts()]))
print([name for name in ("torch", "lightning", "matplotlib", "wandb", "captum", "plotly") if name in sys.modules])
"""


def planned(ablation: Ablation, budget: str, shape: str) -> Plan:
    """The plan on data of that shape; skips where the script refuses it."""
    try:
        return ablation.plan(Scale(budget, shape, *SHAPES[shape]))
    except ValueError as error:
        line = str(error)
    assert len(line.splitlines()) == 1
    pytest.skip(line)


@pytest.mark.parametrize(("ablation", "budget", "shape"), EVERY, ids=NAMES)
def test_a_plan_is_sound(ablation: Ablation, budget: str, shape: str) -> None:
    plan = planned(ablation, budget, shape)
    check(ablation, plan)
    for fast in (True, False):
        granted = precision.granted(plan, fast)
        assert not [arm for arm in granted.arms if isinstance(arm.recipe.get("precision"), precision.Wish)]
        for asked in granted.probes:
            assert probe.read(json.loads(json.dumps(probe.written(asked)))) == asked
            says = type(asked).__doc__ or ""
            assert asked.units or says.startswith("Keeps "), "what it measures has units, or it keeps pictures"
            assert says, "it says what it asks"
            worth = asked.evaluations(20, SHAPES[shape][2])
            assert math.isfinite(worth)
            assert worth >= 0
            assert asked.asks_foreign or any(asked.asks(arm.name) for arm in plan.arms)
    assert len({(each.name, json.dumps(each.settings, default=str), each.of) for each in plan.probes}) == len(
        plan.probes
    )


@pytest.mark.parametrize("ablation", scripts(), ids=lambda ablation: ablation.name)
def test_charts_are_plain_values_whose_drawings_exist(ablation: Ablation) -> None:
    assert ablation.charts
    for each in ablation.charts:
        said = json.dumps(chart.written(each))
        assert json.dumps(chart.written(chart.read(json.loads(said)))) == said
        if isinstance(each, chart.Drawing):
            assert importlib.util.find_spec(f"reports.drawings.{each.name or ablation.name}") is not None
    names = [each.name for each in ablation.charts if not isinstance(each, chart.Drawing)]
    assert len(names) == len(set(names)), "one file each"


@pytest.mark.parametrize("ablation", scripts(), ids=lambda ablation: ablation.name)
def test_an_explanation_tells_claims_rules_arms_and_probes(ablation: Ablation) -> None:
    text = " ".join(explanation(ablation, "cifar10").split())
    for claim in ablation.claims:
        assert claim.id in text
        for test in claim.tests:
            assert test.name in text
            assert "".join(test.measure.formula.split()) in text.replace(" ", "")
    for budget in BUDGETS:
        assert f"{budget} budget on cifar10" in text
    for asked in (
        planned(ablation, "laptop", "cifar10").probes if "laptop budget on cifar10: refused" not in text else ()
    ):
        assert asked.name in text


def test_nothing_heavy_is_imported_to_explain(python: Callable[..., Any]) -> None:
    done = python("-c", EXPLAIN)
    assert done.stdout.splitlines() == [str(len(scripts())), "[]"], done.stderr


def test_what_is_known_of_data_is_what_it_has(digits: Any) -> None:
    assert Scale.of("laptop", digits) == Scale("laptop", "digits", *KNOWN["digits"])


@pytest.mark.parametrize("ablation", scripts(), ids=lambda ablation: ablation.name)
def test_a_repeated_question_is_one_question(ablation: Ablation) -> None:
    """Of whom it is asked is no part of it: answers of one arm are those of another that has the same network."""
    for asked in planned(ablation, "laptop", "digits").probes:
        assert replace(asked, of=("somebody",)).settings == asked.settings
