"""What guessing scores, against a network that gives every class the same logit."""

import pytest
import torch

from ablations.harness.declare.probe import Subject
from ablations.probes.activations.training_fit import fit
from ablations.probes.chance import Chance
from modules import build


def test_it_is_what_a_network_scores_that_knows_nothing(digits):
    found = {each.metric: each.value for each in Chance().ask(Subject(None, digits, "any", 0, torch.device("cpu")))}
    assert found.keys() == Chance.units.keys()
    labels = torch.arange(10).repeat(3)
    network = build("mlp", 10, 1, depth=1, width=2, image_size=16)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    blind = fit(network, [(torch.randn(30, 1, 16, 16), labels)])
    assert found["train/loss"] == pytest.approx(blind.loss)
    assert found["train/top1_error"] == found["test/top1_error"] == blind.error == 90.0
