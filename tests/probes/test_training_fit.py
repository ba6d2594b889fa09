"""The fit of a network against plain formulas, and what guessing scores."""

import math

import pytest
import torch
from torch import nn

from ablations.harness.declare.probe import Subject
from ablations.probes.activations.training_fit import TrainingFit, fit
from ablations.probes.chance import Chance
from modules import build


class Same(nn.Module):
    """Answers every image with the same logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_loss_and_error_of_constant_answers():
    """Unequal batches weigh by their samples: three of five labels are not the class with the largest logit."""
    batches = [(torch.zeros(2, 1, 4, 4), torch.tensor([1, 0])), (torch.zeros(3, 1, 4, 4), torch.tensor([1, 2, 2]))]
    logits = [0.0, math.log(2.0), 0.0]  # probabilities 1/4, 1/2, 1/4
    assert fit(Same(logits), batches) == pytest.approx(((2 * math.log(2) + 3 * math.log(4)) / 5, 60.0))


def test_a_guess_costs_the_logarithm_of_the_classes():
    loss, _ = fit(Same([0.0] * 10), [(torch.zeros(4, 1, 4, 4), torch.arange(4))])
    assert loss == pytest.approx(math.log(10))


def test_dropout_and_batch_norm_rest_and_the_mode_comes_back():
    torch.manual_seed(0)
    network = build("resnet_cifar", 10, 1, depth=8, width=4, shortcut_dropout=0.5, shortcut_scale=0.5).train()
    batches = [(torch.randn(6, 1, 8, 8), torch.arange(6))]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    calls = []
    first = fit(network, batches, lambda: calls.append(1))
    assert first == fit(network, batches)
    assert calls == [1]
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        logits = network.eval()(batches[0][0])
    assert first[0] == pytest.approx(nn.functional.cross_entropy(logits, batches[0][1]).item())


def test_nothing_to_fit_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        fit(Same([0.0, 1.0]), [])


def test_it_is_asked_of_training_images(digits):
    subject = Subject(Same([0.0] * 10), digits, "any", 0, torch.device("cpu"))
    probe = TrainingFit(train_images=30)
    found = {each.metric: each.value for each in probe.ask(subject)}
    assert found["train/loss"] == pytest.approx(math.log(10))
    (_, labels), *rest = digits.evaluation_batches("train", limit=30)
    assert not rest
    assert found["train/top1_error"] == pytest.approx(100 * (labels != 0).double().mean().item())
    assert probe.evaluations(3, 1_000) == 30
    with pytest.raises(ValueError, match=r"--probe.train_images 0"):
        TrainingFit(train_images=0)


def test_chance_is_what_a_network_scores_that_knows_nothing(digits):
    found = {each.metric: each.value for each in Chance().ask(Subject(None, digits, "any", 0, torch.device("cpu")))}
    assert found.keys() == Chance.units.keys()
    labels = torch.arange(10).repeat(3)
    network = build("mlp", 10, 1, depth=1, width=2, image_size=16)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    blind = fit(network, [(torch.randn(30, 1, 16, 16), labels)])
    assert found["train/loss"] == pytest.approx(blind[0])
    assert found["train/top1_error"] == found["test/top1_error"] == blind[1] == 90.0
