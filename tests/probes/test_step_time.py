"""Turns of timed training steps, and the probe that compares skipping with all blocks."""

import pytest
import torch

from ablations.harness.declare.probe import Subject
from ablations.harness.stopwatch import in_turns, training_steps
from ablations.probes.survival import Survival
from ablations.probes.timing.steps import StepTime
from datamodules.images import ImageData
from modules import Network, build
from modules.training.recipe import Recipe


def network(**arguments: object) -> Network:
    torch.manual_seed(0)
    return build("resnet_cifar", 10, 1, depth=8, width=3, **arguments)


def test_turns_go_forwards_and_backwards() -> None:
    called: list[str] = []
    arms = {name: lambda name=name: called.append(name) for name in "ab"}
    turns: list[int] = []
    seconds = in_turns(arms, 3, torch.device("cpu"), lambda: turns.append(1))
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert len(turns) == 6
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for each in seconds.values() for value in each)


def test_steps_train(digits: ImageData) -> None:
    made = network()
    weight = made.block("stage1_block1").get_parameter("branch.conv1.weight")
    seen = [weight.clone()]
    images, labels = next(iter(digits.evaluation_batches("train", 6)))
    steps = training_steps(made, Recipe(epochs=1, learning_rate=0.1), images, labels, 2)
    assert made.training
    seen.append(weight.clone())
    steps()
    seen.append(weight.clone())
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_step_that_skips_takes_its_turn_beside_one_that_does_not(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, probabilities, turns = network(survival_prob=1e-9, survival_rule="uniform"), [], []

    def keep(trained: Network, recipe: Recipe, images: torch.Tensor, labels: torch.Tensor, count: int) -> object:
        probabilities.append({block.survival_prob for _, block in trained.named_blocks()})
        assert (recipe.precision, len(images), count) == ("32-true", 20, 3)
        return training_steps(trained, recipe, images, labels, count)

    monkeypatch.setattr("ablations.harness.stopwatch.training_steps", keep)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    probe = StepTime(batch_size=20, precision="32-true", rounds=2, steps=3)
    found = list(probe.ask(Subject(made, digits, "any", 0, torch.device("cpu"), lambda: turns.append(1))))
    assert [(each.point, each.metric) for each in found] == [
        (f"step round={number}", metric) for metric in probe.units for number in (0, 1)
    ]
    assert all(each.value > 0 for each in found)
    assert (probabilities, len(turns)) == ([{1e-9}, {1.0}], 4)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items()), "copies train"


def test_a_deep_network_is_timed_without_being_trained(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    depths = []

    def keep(trained: Network, *rest: object) -> object:
        depths.append((len(trained.blocks), trained.block("stage1_block1").branch.conv1.out_channels))
        return training_steps(trained, *rest)

    monkeypatch.setattr("ablations.harness.stopwatch.training_steps", keep)
    probe = StepTime(batch_size=8, precision="32-true", rounds=1, steps=1, depth=20, width=3)
    list(probe.ask(Subject(network(), digits, "any", 0, torch.device("cpu"))))
    assert depths == [(9, 3), (9, 3)]
    with pytest.raises(ValueError, match="depth"):
        StepTime(batch_size=8, precision="32-true", depth=-1)


def test_the_share_of_branches_is_the_mean_probability(digits: ImageData) -> None:
    made = network(survival_prob=0.4, survival_rule="linear")  # 0.8, 0.6, 0.4
    (found,) = Survival().ask(Subject(made, digits, "any", 0, torch.device("cpu")))
    assert (found.metric, found.value) == ("share_of_branches", pytest.approx(60.0))
