"""Layer responses: which layers count, and standard deviations as one plain formula gives them."""

import pytest
import torch

from ablations.harness.declare.probe import Subject
from ablations.probes.activations.responses import Responses, deviations, response_layers
from modules import build


def small(**arguments):
    torch.manual_seed(0)
    network = build("resnet_cifar", depth=8, width=4, **arguments)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, 8, 8))
    return network


def test_a_response_is_the_batch_norm_behind_each_3x3_convolution_in_order():
    expected = ["stem.conv1", *(f"stage{s}_block1.branch.conv{c}" for s in (1, 2, 3) for c in (1, 2))]
    for arguments in ({}, {"skip": False}, {"shortcut": "C"}):  # projections are 1x1
        layers = response_layers(small(**arguments))
        assert list(layers) == expected
        assert all(isinstance(layer, torch.nn.BatchNorm2d) for layer in layers.values())


def test_a_convolution_without_batch_norm_answers_for_itself():
    layers = response_layers(build("lenet5", image_size=16))
    assert list(layers) == ["conv1.branch.conv", "conv2.branch.conv"]
    assert all(isinstance(layer, torch.nn.Conv2d) for layer in layers.values())


def test_deviations_are_those_of_all_images_at_once():
    network = small().train()
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(9, 3, 8, 8, generator=draws)
    labels = torch.zeros(9, dtype=torch.long)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    passed = []
    batches = [(images[:5], labels[:5]), (images[5:], labels[5:])]
    found = deviations(network, batches, lambda: passed.append(1))
    assert len(passed) == 2
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    with torch.no_grad():
        network.eval()
        stem = network.stem.bn1(network.stem.conv1(images))
        block = network.block("stage1_block1").branch
        first = block.bn1(block.conv1(network.stem(images)))
        second = block.bn2(block.conv2(block.relu1(first)))
    for name, response in zip(found, (stem, first, second), strict=False):
        assert found[name] == pytest.approx(response.double().std(unbiased=False).item(), rel=1e-6)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        deviations(small(), [])


def test_it_is_asked_of_test_images(digits):
    network = build("resnet_cifar", 10, 1, depth=8, width=4)
    subject = Subject(network, digits, "any", 0, torch.device("cpu"))
    found = list(Responses(limit=9).ask(subject))
    expected = deviations(network, digits.evaluation_batches("test", limit=9))
    assert [each.value for each in found] == list(expected.values())
    assert found[0].point == "response layer=1 name=stem.conv1"
    assert (Responses(limit=9).evaluations(3, 40), Responses().evaluations(3, 40)) == (13.5, 60.0)
