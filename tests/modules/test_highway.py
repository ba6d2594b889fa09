"""Highway networks: gates, routes, layouts and what probes read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import ARCHITECTURES, build, removed
from modules.blocks.block import Block
from modules.blocks.cost import cost
from modules.families.highway import GatedTransform, highway_block

NAMES = ("highway10", "highway_conv_w16", "highway_cifar")


def small_block(carry: str, activation: str = "tanh") -> Block:
    torch.manual_seed(0)
    return highway_block(lambda: nn.Linear(5, 5), activation, carry)


def gated(block: Block) -> GatedTransform:
    assert isinstance(block.branch, GatedTransform)
    return block.branch


@torch.no_grad()
def test_coupled_gates_follow_the_equation() -> None:
    block, u = small_block("coupled"), torch.randn(3, 5)
    branch = gated(block)
    t = torch.sigmoid(u @ branch.gate.weight.T + branch.gate.bias)
    h = torch.tanh(u @ branch.transform.weight.T + branch.transform.bias)
    torch.testing.assert_close(block(u), h * t + u * (1 - t))


@torch.no_grad()
def test_separate_gates_follow_the_equation() -> None:
    block, u = small_block("separate"), torch.randn(3, 5)
    branch, carry = gated(block), block.shortcut.gate
    assert isinstance(carry, nn.Linear)
    t = torch.sigmoid(u @ branch.gate.weight.T + branch.gate.bias)
    c = torch.sigmoid(u @ carry.weight.T + carry.bias)
    h = torch.tanh(u @ branch.transform.weight.T + branch.transform.bias)
    torch.testing.assert_close(block(u), h * t + u * c)
    torch.testing.assert_close(block(u, route="shortcut"), u * c)


@torch.no_grad()
def test_a_shut_gate_is_exactly_the_identity() -> None:
    block, u = small_block("coupled", "relu"), torch.randn(3, 5)
    assert torch.equal(block(u, route="shortcut"), u)
    gated(block).gate.bias.fill_(-1000.0)  # sigmoid gives exactly 0
    assert torch.equal(block(u), u)
    gated(block).gate.bias.fill_(1000.0)
    torch.testing.assert_close(block(u), gated(block).activation(gated(block).transform(u)))


@torch.no_grad()
@pytest.mark.parametrize("carry", ["coupled", "separate"])
def test_gates_start_at_their_bias(carry: str) -> None:
    network = build("highway10", 10, 1, width=4, gate_bias=-3.0, carry=carry, image_size=8)
    for _, block in network.named_blocks():
        assert torch.equal(gated(block).gate.bias, torch.full((4,), -3.0))
        assert torch.equal(gated(block).transform.bias, torch.zeros(4))
        if carry == "separate":
            assert torch.equal(block.shortcut.gate.bias, torch.full((4,), 3.0))


def test_gates_open_with_their_bias() -> None:
    """The mean gate that a probe hooks, for three biases."""
    means: list[float] = []

    def keep(module: nn.Module, inputs: object, gate: Tensor) -> None:
        assert ((gate > 0) & (gate < 1)).all()
        means.append(gate.mean().item())

    for bias in (-6.0, -2.0, 2.0):
        torch.manual_seed(0)
        network = build("highway_conv_w16", 10, 1, image_size=16, gate_bias=bias)
        gated(network.block("stage2_layer1")).gate_activation.register_forward_hook(keep)
        network(torch.randn(2, 1, 16, 16))
    assert means[0] < 0.02 < means[1] < 0.3 < 0.7 < means[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_its_highway_layers_is_stem_and_head(name: str) -> None:
    """What is left of a deleted highway layer is its pooling; plain layers (of CIFAR nets) are shape matches."""
    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    size = architecture.image_size
    network = build(name, 10, architecture.in_channels, width=4) if name != NAMES[1] else build(name, 10, 1)
    x = torch.randn(2, architecture.in_channels, size, size)
    with torch.no_grad(), removed(network, network.blocks):
        expected = network.stem(x)
        for _, block in network.named_blocks():
            expected = block.post(block.shortcut(expected))
        assert torch.equal(network(x), network.head(expected))


def test_the_layout_of_the_cifar_networks() -> None:
    with torch.device("meta"):
        b, c = build("highway19"), build("highway32")
    for network, published, layers in ((b, 2.3e6, 19), (c, 1.25e6, 32)):
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(published, rel=0.05)
        assert 1 + len(network.blocks) + 1 == layers
        plain = [name for name, block in network.named_blocks() if block.merge == "replace"]
        assert plain == ["stage2_layer1", "stage3_layer1"]
        assert all(network.block(name).changes_shape for name in plain)
    kernels = [gated(block).transform.kernel_size[0] for _, block in c.named_blocks() if block.merge == "add"]
    assert kernels.count(1) == 15
    assert kernels.count(3) == 13


def test_published_sizes_of_a_layer() -> None:
    """1507.06228, section 3.1: about 5000 parameters a layer; table 1: 39k and 151k."""
    with torch.device("meta"):
        block = build("highway10", 10, 1).block("hidden2")
        sizes = [cost(build(f"highway_conv_w{width}", 10, 1), (1, 28, 28)).parameters for width in (16, 32)]
    assert sum(p.numel() for p in block.parameters()) == 5100
    assert [round(size / 1000) for size in sizes] == [39, 151]


def test_plain_twins_have_no_gates() -> None:
    network = build("highway_cifar", width=2, skip=False)
    assert {block.merge for _, block in network.named_blocks()} == {"replace"}
    assert not [name for name, _ in network.named_parameters() if "gate" in name]


def test_closed_gates_let_the_gradient_through_deep_networks() -> None:
    """100 layers: the stem's gradient is there from -4, and all but gone from -1."""
    norms = []
    for bias in (-4.0, -1.0):
        torch.manual_seed(0)
        network = build("highway100", 10, 1, image_size=8, gate_bias=bias)
        nn.functional.cross_entropy(network(torch.randn(16, 1, 8, 8)), torch.arange(16) % 10).backward()
        gradient = network.stem.fc.weight.grad
        assert isinstance(gradient, Tensor)
        norms.append(gradient.norm().item())
    assert norms[0] > 1e3 * norms[1]


@pytest.mark.parametrize("size", [8, 16, 28])
def test_image_sizes(size: int) -> None:
    for name in ("highway10", "highway_conv_w16"):
        network = build(name, 10, 1, image_size=size)
        assert network(torch.randn(1, 1, size, size)).shape == (1, 10)
        with pytest.raises(ValueError, match=f"{size} x {size} pixels only"):
            network(torch.randn(1, 1, size + 1, size + 1))
    network = build("highway_cifar", width=2)
    assert network(torch.randn(1, 3, size, size + 1)).shape == (1, 10)
    with pytest.raises(ValueError, match="at least 4 x 4"):
        network(torch.randn(1, 3, 3, size))


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("highway10", {"activation": "elu"}, ["elu", "relu, tanh"]),
        ("highway10", {"carry": "shared"}, ["shared", "coupled, separate"]),
        ("highway10", {"depth": 12}, ["highway10", "depth=10"]),
        ("highway_conv_w16", {"image_size": 7}, ["7", "8"]),
        ("highway_conv_w16", {"carry": None}, ["None", "coupled, separate"]),
        ("highway_cifar", {"depth": 20}, ["20", "19, 32"]),
        ("highway_cifar", {"activation": "gelu"}, ["gelu", "relu, tanh"]),
        ("highway_cifar", {"width": 0}, ["width", "0"]),
    ],
)
def test_bad_arguments_are_named(lacking: Any, name: str, arguments: dict[str, Any], named: list[str]) -> None:
    assert lacking(name, arguments, named) == []
