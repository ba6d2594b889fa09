"""Highway networks: gates, routes, layouts and what probes read."""

import pytest
import torch
from torch import nn

from modules import build
from modules.blocks.block import Block
from modules.families.highway import highway_block


def small_block(carry: str, activation: str = "tanh") -> Block:
    torch.manual_seed(0)
    return highway_block(lambda: nn.Linear(5, 5), activation, carry)


@torch.no_grad()
@pytest.mark.parametrize("carry", ["coupled", "separate"])
def test_gates_follow_the_equation(carry: str) -> None:
    block, u = small_block(carry), torch.randn(3, 5)
    branch = block.branch
    t = torch.sigmoid(u @ branch.gate.weight.T + branch.gate.bias)
    h = torch.tanh(u @ branch.transform.weight.T + branch.transform.bias)
    if carry == "coupled":
        torch.testing.assert_close(block(u), h * t + u * (1 - t))
        return
    own = block.shortcut.gate
    c = torch.sigmoid(u @ own.weight.T + own.bias)
    torch.testing.assert_close(block(u), h * t + u * c)
    torch.testing.assert_close(block(u, route="shortcut"), u * c)


@torch.no_grad()
def test_a_shut_gate_is_exactly_the_identity() -> None:
    block, u = small_block("coupled", "relu"), torch.randn(3, 5)
    assert torch.equal(block(u, route="shortcut"), u)
    block.branch.gate.bias.fill_(-1000.0)  # sigmoid gives exactly 0
    assert torch.equal(block(u), u)
    block.branch.gate.bias.fill_(1000.0)
    torch.testing.assert_close(block(u), block.branch.activation(block.branch.transform(u)))


@torch.no_grad()
@pytest.mark.parametrize("carry", ["coupled", "separate"])
def test_gates_start_at_their_bias(carry: str) -> None:
    network = build("highway10", 10, 1, width=4, gate_bias=-3.0, carry=carry, image_size=8)
    for _, block in network.named_blocks():
        assert torch.equal(block.branch.gate.bias, torch.full((4,), -3.0))
        assert torch.equal(block.branch.transform.bias, torch.zeros(4))
        if carry == "separate":
            assert torch.equal(block.shortcut.gate.bias, torch.full((4,), 3.0))


def test_the_layout_of_the_cifar_networks() -> None:
    with torch.device("meta"):
        b, c = build("highway19"), build("highway32")
    for network, published, layers in ((b, 2.3e6, 19), (c, 1.25e6, 32)):
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(published, rel=0.05)
        assert 1 + len(network.blocks) + 1 == layers
        plain = [name for name, block in network.named_blocks() if block.merge == "replace"]
        assert plain == ["stage2_layer1", "stage3_layer1"]
        assert all(network.block(name).changes_shape for name in plain)
    kernels = [block.branch.transform.kernel_size[0] for _, block in c.named_blocks() if block.merge == "add"]
    assert kernels.count(1) == 15
    assert kernels.count(3) == 13


def test_a_gain_of_the_transforms_makes_up_for_open_gates() -> None:
    """50 layers from a bias of 0: halved layer by layer the signal is gone, with a gain of 1.25 some of it is left."""
    left = {}
    for gain in (1.0, 1.25):
        torch.manual_seed(0)
        network = build("highway50", 10, 1, image_size=8, gate_bias=0.0, transform_gain=gain)
        signal = [network.stem(torch.randn(16, 1, 8, 8))]
        for _, block in network.named_blocks():
            signal.append(block(signal[-1]))
        left[gain] = (signal[-1].square().mean() / signal[0].square().mean()).item()
    assert left[1.0] < 1e-5
    assert left[1.25] > 1e3 * left[1.0]


def test_closed_gates_let_the_gradient_through_deep_networks() -> None:
    """100 layers: the stem's gradient is there from -4, and all but gone from -1."""
    norms = []
    for bias in (-4.0, -1.0):
        torch.manual_seed(0)
        network = build("highway100", 10, 1, image_size=8, gate_bias=bias)
        nn.functional.cross_entropy(network(torch.randn(16, 1, 8, 8)), torch.arange(16) % 10).backward()
        norms.append(network.stem.fc.weight.grad.norm().item())
    assert norms[0] > 1e3 * norms[1]
