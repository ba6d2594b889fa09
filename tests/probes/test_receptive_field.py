"""Receptive fields against the formula, effective extents, peaks of maps, and images that a channel answers to."""

import pytest
import torch
from torch import nn

from ablations.probes.filters.activation_maximisation import colour_basis, maximise
from ablations.probes.filters.maps import map_layers, peaks, spread, strongest
from ablations.probes.filters.receptive_field import Box, ReceptiveField, extent
from modules import build
from modules.blocks.layers import plain_block
from modules.blocks.network import Network


def plain():
    """Three 3x3 convolutions, pooling after the second: fields of 3, 6 (pooled) and 10 pixels."""
    torch.manual_seed(0)
    blocks = {
        "a": plain_block({"conv": nn.Conv2d(1, 2, 3, padding=1), "relu": nn.ReLU()}),
        "b": plain_block({"conv": nn.Conv2d(2, 2, 3, padding=1), "relu": nn.ReLU()}, nn.MaxPool2d(2)),
        "c": plain_block({"conv": nn.Conv2d(2, 2, 3, padding=1), "relu": nn.ReLU()}),
    }
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
    return Network(nn.Identity(), blocks, head).eval()


def test_fields_are_those_of_the_formula():
    seen = ReceptiveField(plain(), 1, 24)
    assert seen("a", 10, 12) == Box(9, 11, 12, 14)
    assert seen("b", 5, 5) == Box(8, 8, 14, 14)
    assert seen("c", 5, 5) == Box(6, 6, 16, 16)
    assert seen("a", 0, 23) == Box(0, 22, 2, 24), "cut at the edge"


def test_a_deep_network_sees_all_its_corners():
    """A corner's share of the gradient is of the order of 1e-50, and counts."""
    network = build("resnet_cifar", depth=32, width=2).eval()
    assert ReceptiveField(network, 3, 32)("stage1_block5", 16, 16) == Box(5, 5, 28, 28)


@pytest.mark.parametrize("name", ["highway19", "densenet40_k12", "st_cnn"])
def test_every_family_has_fields(name):
    network = build(name, in_channels=1, **({"image_size": 16} if name == "st_cnn" else {})).eval()
    layers = map_layers(network, torch.zeros(1, 1, 16, 16))
    seen = ReceptiveField(network, 1, 16)
    last = list(layers)[-1]
    box = seen(last, layers[last][1] // 2, layers[last][2] // 2)
    assert box.bottom - box.top >= 9


def test_the_extent_of_a_known_kernel():
    network = plain()
    with torch.no_grad():
        network.block("a").branch.conv.weight.zero_()
        network.block("a").branch.conv.weight[:, :, 1, 0] = 1.0
        network.block("a").branch.conv.weight[:, :, 1, 2] = 1.0
    found = extent(network, ["a", "c"], [torch.rand(4, 1, 24, 24)])
    assert found["a"] == pytest.approx(1.0), "two pixels, each one from the centre"
    assert found["c"] > found["a"]


def test_peaks_are_the_greatest_values_and_their_places():
    network, images = plain(), torch.randn(5, 1, 24, 24)
    found = peaks(network, ["b"], [(images[:3], None), (images[3:], None)])["b"]
    with torch.no_grad():
        maps = network.block("b")(network.block("a")(images))
    for image in range(5):
        for channel in range(2):
            row, column = int(found.rows[image, channel]), int(found.columns[image, channel])
            assert found.values[image, channel] == maps[image, channel].max() == maps[image, channel, row, column]
    assert strongest({"b": found}, 1) == {"b": [int(maps.amax(dim=(0, 2, 3)).argmax())]}


def test_layers_without_maps_are_left_out():
    layers = map_layers(build("alexnet_cifar", image_size=16, in_channels=1), torch.zeros(1, 1, 16, 16))
    assert list(layers) == ["conv1", "conv2", "conv3.branch"], "conv3 ends in flattening"
    assert map_layers(build("mlp10", in_channels=1, image_size=16), torch.zeros(1, 1, 16, 16)) == {}
    assert spread(list("abcdefg"), 3) == ["a", "d", "g"]
    assert spread(["a"], 3) == ["a"]


def test_the_climb_goes_up_and_repeats():
    network = build("resnet_cifar", depth=8, width=4).eval()
    colours = colour_basis(torch.rand(8, 3, 16, 16))
    found = [maximise(network, "stage2_block1", [0, 5], 16, colours, lambda x: x - 0.5, 3, steps=24) for _ in range(2)]
    assert torch.equal(found[0].images, found[1].images)
    assert found[0].images.shape == (2, 3, 16, 16)
    assert 0 <= found[0].images.min() <= found[0].images.max() <= 1
    assert all(after > before for before, after in zip(found[0].before, found[0].after, strict=True))
    with pytest.raises(ValueError, match="channels 0 to 7"):
        maximise(network, "stage2_block1", [8], 16, colours, lambda x: x, 0, steps=1)


def test_colours_are_as_correlated_as_the_images():
    grey = torch.rand(8, 1, 16, 16).expand(-1, 3, -1, -1)
    basis = colour_basis(grey)
    assert torch.allclose(basis @ basis.mT, torch.full((3, 3), 1 / 3), atol=1e-4), "only grey can be made"
