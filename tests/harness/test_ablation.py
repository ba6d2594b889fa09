"""Declarations: what is refused, what the rules say, and that they load without the heavy libraries."""

import dataclasses
import subprocess
import sys

import pytest

from ablations.harness.declare.ablation import MAX_SEEDS, Ablation, Arm, Claim, Plan, Test, check
from ablations.harness.declare.measure import computed
from ablations.harness.declare.scale import BUDGETS


def declared_test(name="gap", **changes):
    given = {"says": "the gap", "unit": "% points", "arms": (), "exact": False, "at_least": 30.0} | changes
    bounds = {bound: given.pop(bound) for bound in ("at_least", "at_most") if bound in given}
    return Test(name, computed(function=lambda records: {}, **given), **bounds)


def claim(id="RL1", *tests):
    return Claim(
        id, "deleting barely moves the error", "Veit et al. 2016, figure 3", "", tests=tests or (declared_test(),)
    )


def ablation(*claims, baseline=""):
    return Ablation(
        "remove_layers", "Removing layers", "What does one block matter?", claims or (claim(),),
        plan=lambda at: PLAN, baseline=baseline,
    )  # fmt: skip


PLAN = Plan((Arm("resnet", "resnet20"), Arm("vgg", "vgg16", {"batch_norm": True}, {"epochs": 3})), seeds=8)


def test_budgets_are_the_five_of_the_command_line():
    assert BUDGETS == ("smoke", "laptop", "hour", "short", "paper")


@pytest.mark.parametrize("bounds", [{"at_least": None}, {"at_least": 0.0, "at_most": 1.0}])
def test_a_test_has_exactly_one_bound(bounds):
    with pytest.raises(ValueError, match=r"gap.*exactly one of at_least and at_most"):
        declared_test(**bounds)


@pytest.mark.parametrize("bound", [float("nan"), float("inf")])
def test_a_bound_is_finite(bound):
    with pytest.raises(ValueError, match="must be finite"):
        declared_test(at_least=bound)


def test_a_bound_of_zero_counts_as_given():
    assert declared_test(at_least=0.0).threshold == 0
    assert declared_test(at_least=None, at_most=0.0).threshold == 0


@pytest.mark.parametrize(("changes", "rule"), [
    (
        {},
        "95 % t interval of the gap over paired seeds lies above 30 % points, "
        "and Holm-adjusted exact sign-flip p < 0.05",
    ),
    (
        {"at_least": None, "at_most": 0.5, "unit": ""},
        "95 % t interval of the gap over paired seeds lies below 0.5, and Holm-adjusted exact sign-flip p < 0.05",
    ),
    ({"exact": True}, "the gap is at least 30 % points, counted exactly"),
    ({"exact": True, "at_least": None, "at_most": 2}, "the gap is at most 2 % points, counted exactly"),
])  # fmt: skip
def test_the_rule_reads_as_a_sentence(changes, rule):
    assert declared_test(**changes).rule == rule


def test_the_rule_of_a_claim_names_all_tests():
    both = claim("RL1", declared_test("a", says="gap A"), declared_test("b", says="gap B"))
    assert "gap A" in both.rule
    assert "; and 95 % t interval of gap B" in both.rule


def test_a_claim_without_a_test_is_refused():
    with pytest.raises(ValueError, match=r"RL1.*no test"):
        Claim("RL1", "says", "source", "")


def test_declarations_are_frozen_and_their_defaults_not_shared():
    arm = Arm("resnet", "resnet20")
    with pytest.raises(dataclasses.FrozenInstanceError):
        arm.name = "other"
    assert arm.arguments is not Arm("vgg", "vgg16").arguments
    assert dataclasses.replace(arm, recipe={"epochs": 1}).network == "resnet20"


def test_a_sound_ablation_passes():
    sound = ablation(claim("RL1", declared_test(arms=("resnet", "vgg"))), claim("RL2"), baseline="vgg")
    assert check(sound, PLAN) is None, "nothing is raised"


@pytest.mark.parametrize(("built", "plan", "message"), [
    (ablation(claim("RL1"), claim("RL1")), PLAN, "claim 'RL1' is declared twice"),
    (ablation(claim("RL1", declared_test(), declared_test())), PLAN, "test 'gap' is declared twice"),
    (ablation(claim("RL1", declared_test(arms=("inception",)))), PLAN, "claim 'RL1', test 'gap': arm 'inception'"),
    (ablation(baseline="plain"), PLAN, "baseline 'plain'"),
    (ablation(), Plan((PLAN.arms[0], PLAN.arms[0]), 8), "arm 'resnet' is declared twice"),
    (ablation(), Plan(PLAN.arms, 0), "0 seeds"),
    (ablation(), Plan(PLAN.arms, MAX_SEEDS + 1), "41 seeds"),
])  # fmt: skip
def test_check_names_the_offender(built, plan, message):
    with pytest.raises(ValueError, match=message):
        check(built, plan)


def test_importing_the_declarations_loads_no_heavy_library():
    code = (
        "import sys, ablations.harness.store.records, ablations.harness.judging.verdict\n"
        "print(sorted({'numpy', 'scipy', 'torch', 'lightning', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
