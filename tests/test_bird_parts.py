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


@pytest.mark.parametrize("budget", ["laptop", "short"])
def test_the_control_costs_as_much_or_more(budget: str) -> None:
    arms = arms_of(Scale(budget, "digits", 16, 1_212, 450, channels=1))
    found = {name: cost_of(arm, 25, 1, arm.data["size"]) for name, arm in arms.items()}
    dear = found[SHARP].multiply_adds
    assert found[TWO].multiply_adds < dear
    assert found[FOUR].multiply_adds <= dear <= 1.15 * found[FOUR].multiply_adds
    assert max(each.parameters for each in found.values()) < 1.03 * min(each.parameters for each in found.values())


def test_a_crop_has_as_many_pixels_as_the_plain_network_sees_and_the_control_as_many_per_part() -> None:
    arms = arms_of(Scale("laptop", "digits", 16, 1_212, 450, channels=1))
    size = arms[CNN].data["size"]
    seen = {name: size // arms[name].arguments["pool"] for name in (CNN, SHARP)}
    for name in (TWO, FOUR):
        crop, part = arms[name].arguments["output_size"], arms[name].arguments["scale"]
        assert crop == seen[CNN]
        assert crop / part == seen[SHARP]


@pytest.mark.parametrize(("size", "as_much"), [(224, False), (448, True)])
def test_the_control_of_photographs_is_the_plain_network(size: int, as_much: bool) -> None:
    arms = arms_of(Scale("short", "birds", size, 5_394, 5_794))
    assert replace(arms[CNN], name=SHARP, note=arms[SHARP].note) == arms[SHARP]
    found = {name: cost_of(arms[name], 200, 3, size).multiply_adds for name in (TWO, FOUR, SHARP)}
    assert found[TWO] < found[FOUR]
    assert (0.9 < found[SHARP] / found[FOUR] < 1.1) == as_much
