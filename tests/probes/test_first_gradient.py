"""Mean absolute gradients of the first and the last weights, and how a probe asks for them over training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ablations.harness.declare.probe import Subject
from ablations.probes.gradients.first_gradient import (
    GRADIENT,
    LAST,
    FirstGradient,
    classifier,
    first_convolution,
    mean_absolute_gradients,
)
from datamodules.images import ImageData
from modules import Network, build
from modules.weights import save_weights


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


def test_the_classifier_is_the_last_linear_layer() -> None:
    made = network()
    assert classifier(made).shape == (10, 12)
    with pytest.raises(ValueError, match="no linear layer"):
        classifier(nn.Conv2d(3, 3, 3))


def test_it_is_the_mean_over_batches_of_the_mean_of_absolute_values() -> None:
    made, data = network(), batches(2)
    expected = []
    for images, labels in data:
        other = network().train()
        nn.functional.cross_entropy(other(images), labels).backward()
        expected.append([weight.grad.abs().mean().item() for weight in (first_convolution(other), classifier(other))])
    made.eval()
    found = mean_absolute_gradients(made, (first_convolution(made), classifier(made)), data, seed=0)
    assert found == pytest.approx([sum(each) / 2 for each in zip(*expected, strict=True)], rel=1e-5)
    assert not made.training
    assert all(parameter.grad is None for parameter in made.parameters())
    with pytest.raises(ValueError, match="no batches"):
        mean_absolute_gradients(made, [first_convolution(made)], [], seed=0)


def test_a_skipped_first_block_counts_as_zero() -> None:
    made = network(survival_prob=1e-9, survival_rule="uniform")
    first, last = mean_absolute_gradients(made, (first_convolution(made), classifier(made)), batches(2), seed=0)
    assert first == 0.0
    assert last > 0.0


def test_the_seed_decides_and_torch_goes_on_as_before() -> None:
    made = network(survival_prob=0.5, survival_rule="uniform")
    torch.manual_seed(9)
    before = torch.get_rng_state()
    found = [mean_absolute_gradients(made, [first_convolution(made)], batches(4), seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


def test_the_probe_asks_each_epoch_on_whole_batches(digits: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    files, expected, passes = {}, [], []
    data = list(digits.evaluation_batches("train", 30, limit=100))
    for epoch in (0, 5):
        made = build("resnet_cifar", 10, 1, depth=8, width=3, survival_prob=0.5)
        save_weights(made, files.setdefault(epoch, tmp_path / f"{epoch}.safetensors"))
        expected += mean_absolute_gradients(made, (first_convolution(made), classifier(made)), data[:3], seed=4)
    asked = Subject(made, digits, "any", 4, torch.device("cpu"), lambda: passes.append(1), files)
    found = list(FirstGradient(batch_size=30, limit=100, snapshots=2).ask(asked))
    asked_for = [(f"gradient epoch={epoch}", metric) for epoch in (0, 5) for metric in (GRADIENT, LAST)]
    assert [(each.point, each.metric) for each in found] == asked_for
    assert [each.value for each in found] == expected
    assert len(passes) == 2
    with pytest.raises(ValueError, match=r"--probe\.limit 29: give 30 or more"):
        FirstGradient(batch_size=30, limit=29)
