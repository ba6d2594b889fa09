"""The mean absolute gradient of one weight, and the turns of timed steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ablations.harness.stopwatch import in_turns, training_steps
from ablations.probes.gradients.first_gradient import first_convolution, mean_absolute_gradient
from modules import Network, build
from modules.training.recipe import Recipe


def network(**arguments: object) -> Network:
    torch.manual_seed(0)
    return build("resnet_cifar", depth=8, width=3, **arguments)


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 3, 8, 8, generator=draws), torch.randint(0, 10, (6,), generator=draws)) for _ in range(count)
    ]


def test_the_first_convolution_is_that_of_block_1() -> None:
    made = network()
    assert first_convolution(made) is made.block("stage1_block1").branch.conv1.weight
    with pytest.raises(ValueError, match="no convolution"):
        first_convolution(build("mlp"))


def test_it_is_the_mean_over_batches_of_the_mean_of_absolute_values() -> None:
    made, data = network(), batches(2)
    expected = []
    for images, labels in data:
        other = network().train()
        nn.functional.cross_entropy(other(images), labels).backward()
        expected.append(first_convolution(other).grad.abs().mean().item())
    made.eval()
    found = mean_absolute_gradient(made, first_convolution(made), data, seed=0)
    assert found == pytest.approx(sum(expected) / 2, rel=1e-5)
    assert not made.training
    assert all(parameter.grad is None for parameter in made.parameters())
    with pytest.raises(ValueError, match="no batches"):
        mean_absolute_gradient(made, first_convolution(made), [], seed=0)


def test_a_skipped_first_block_counts_as_zero() -> None:
    made = network(survival_prob=1e-9, survival_rule="uniform")
    assert mean_absolute_gradient(made, first_convolution(made), batches(2), seed=0) == 0.0


def test_the_seed_decides_and_torch_goes_on_as_before() -> None:
    made = network(survival_prob=0.5, survival_rule="uniform")
    torch.manual_seed(9)
    before = torch.get_rng_state()
    found = [mean_absolute_gradient(made, first_convolution(made), batches(4), seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


def test_turns_go_forwards_and_backwards() -> None:
    called: list[str] = []
    arms = {name: lambda name=name: called.append(name) for name in "ab"}
    turns: list[int] = []
    seconds = in_turns(arms, 3, torch.device("cpu"), lambda: turns.append(1))
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert len(turns) == 6
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for each in seconds.values() for value in each)


def test_steps_train() -> None:
    made = network()
    before = first_convolution(made).clone()
    images, labels = batches(1)[0]
    steps = training_steps(made, Recipe(epochs=1, learning_rate=0.1), images, labels, 2)
    assert made.training
    after_one = first_convolution(made).clone()
    assert not torch.equal(after_one, before)
    steps()
    assert not torch.equal(first_convolution(made), after_one)
