"""What the control of `bird_parts` costs beside transformers, in made images and in photographs."""

from dataclasses import replace

import pytest

from ablations.bird_parts import CNN, FOUR, SHARP, TWO, plan
from ablations.harness.declare.ablation import Arm
from ablations.harness.declare.scale import Scale
from modules import build, fitted
from modules.blocks.cost import Cost, cost


def arms_of(at: Scale) -> dict[str, Arm]:
    return {arm.name: arm for arm in plan(at).arms}


def cost_of(arm: Arm, classes: int, channels: int, size: int) -> Cost:
    network = build(arm.network, classes, channels, **fitted(arm.network, arm.arguments, size))
    return cost(network, (channels, size, size))


@pytest.mark.parametrize(("budget", "size"), [("laptop", 30), ("short", 60)])
def test_the_control_costs_as_much_or_more(budget: str, size: int) -> None:
    arms = arms_of(Scale(budget, "digits", 16, 1_212, 450, channels=1))
    assert {arm.data["size"] for arm in arms.values()} == {size}
    found = {name: cost_of(arm, 25, 1, size) for name, arm in arms.items()}
    dear = found[SHARP].multiply_adds
    assert found[CNN].multiply_adds < found[TWO].multiply_adds < dear
    assert found[FOUR].multiply_adds <= dear <= 1.15 * found[FOUR].multiply_adds
    assert max(each.parameters for each in found.values()) < 1.03 * min(each.parameters for each in found.values())


@pytest.mark.parametrize(("budget", "size", "price"), [
    ("laptop", 224, "fewer multiply-adds than with transformers"),
    ("laptop", 448, "fewer multiply-adds than with transformers"),
    ("short", 224, "fewer multiply-adds than with transformers"),
    ("short", 448, "4 times the multiply-adds of reading one crop"),
])  # fmt: skip
def test_the_control_of_photographs_is_the_plain_network_and_says_its_cost(budget: str, size: int, price: str) -> None:
    arms = arms_of(Scale(budget, "birds", size, 5_394, 5_794))
    assert replace(arms[CNN], name=SHARP, note=arms[SHARP].note) == arms[SHARP]
    assert arms[SHARP].note.endswith(f"; {price}")
    found = {name: cost_of(arms[name], 200, 3, size).multiply_adds for name in (TWO, FOUR, SHARP)}
    if price.startswith("4"):
        assert found[SHARP] == pytest.approx(4 * cost_of(arms[SHARP], 200, 3, 224).multiply_adds, rel=0.01)
    else:
        assert found[SHARP] < found[TWO] < found[FOUR]
