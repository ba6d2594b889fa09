"""Costs of the ImageNet networks, as the paper prints them and as single blocks multiply out."""

from types import SimpleNamespace

import pytest

from ablations.probes.costs import MULTIPLY_ADDS, PARAMETERS, Depth, ImagenetCosts
from modules import build


@pytest.fixture(scope="module")
def measured():
    found = {}
    for each in ImagenetCosts().ask(None):
        found.setdefault(each.point.removeprefix("cost network="), {})[each.metric] = each.value
    return found


def test_costs_are_those_of_the_paper(measured):
    found = {name: values[MULTIPLY_ADDS] for name, values in measured.items()}
    assert found["resnet34"] == 3_644_493_824
    assert found["vgg19"] == 19_632_062_464
    assert found["plain34"] == found["resnet34"], "shortcut A is free"
    for name, published in {"resnet18": 1.8, "resnet50": 3.8, "resnet101": 7.6, "resnet152": 11.3}.items():
        assert abs(found[name] / 1e9 - published) <= 0.1


def test_a_bottleneck_is_cheaper_than_a_basic_block_of_a_quarter_of_its_channels(measured):
    pixels = 56 * 56
    bottleneck = measured["bottleneck_256"]
    assert measured["basic_block_64"][MULTIPLY_ADDS] == pixels * 2 * 9 * 64 * 64
    assert measured["basic_block_256"][MULTIPLY_ADDS] == pixels * 2 * 9 * 256 * 256
    assert bottleneck[MULTIPLY_ADDS] == pixels * (2 * 256 * 64 + 9 * 64 * 64)
    # Batch norm has two parameters per channel.
    assert bottleneck[PARAMETERS] == bottleneck[MULTIPLY_ADDS] / pixels + 2 * (64 + 64 + 256)


@pytest.mark.parametrize(("network", "arguments", "layers"), [
    ("resnet_cifar", {"depth": 110, "width": 4}, 110),
    ("resnet_cifar", {"depth": 164, "width": 4, "block": "bottleneck", "shortcut": "B"}, 164 + 3),
    ("vgg16", {}, 16),
])  # fmt: skip
def test_the_depth_in_a_networks_name_is_what_is_counted(network, arguments, layers):
    (found,) = Depth().ask(SimpleNamespace(network=build(network, 10, 3, **arguments)))
    assert found.value == layers
