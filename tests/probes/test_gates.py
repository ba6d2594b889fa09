"""The probe of gates against the layer's formula, on networks with a few units."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ablations.probes.activations.gates import gated_blocks, gates
from modules import Network, build


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build("highway10", 3, 1, width=4, gate_bias=-1.0, image_size=8)


def batches(sizes: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(sum(sizes), 1, 8, 8, generator=draw)
    return [(part, torch.zeros(len(part), dtype=torch.long)) for part in images.split(list(sizes))]


@torch.no_grad()
def test_gates_follow_the_formula_layer_by_layer() -> None:
    net = network()
    ((images, _),) = batches((5,))
    x = net.stem(images)
    found = gates(net, batches((5,)))
    assert list(found) == [f"hidden{index}" for index in range(2, 11)]
    for name, block in net.named_blocks():
        gate = block.branch.gate
        t = torch.sigmoid(x @ gate.weight.T + gate.bias)  # type: ignore[operator, union-attr]
        x = block(x)
        assert torch.equal(found[name].bias, torch.full((4,), -1.0))
        torch.testing.assert_close(found[name].mean, t.double().mean(0))
        torch.testing.assert_close(found[name].first, t[0].double())
        torch.testing.assert_close(found[name].output, x[0].double())


def test_batches_make_no_difference_and_nothing_is_left() -> None:
    net, passes = network().train(), []
    whole, parts = gates(net, batches((6,))), gates(net, batches((4, 2)), lambda: passes.append(1))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name])
    assert len(passes) == 2
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_convolutional_gates_are_averaged_over_positions() -> None:
    torch.manual_seed(0)
    net = build("highway_cifar", 3, 1, width=1, gate_bias=-2.0)
    seen: list[Tensor] = []
    block = net.block("stage2_layer2")
    block.branch.gate_activation.register_forward_hook(lambda module, inputs, output: seen.append(output))  # type: ignore[union-attr, operator]
    found = gates(net, batches((3,)))
    assert "stage2_layer1" not in found, "a plain layer"
    assert set(found) == set(gated_blocks(net))
    torch.testing.assert_close(found["stage2_layer2"].mean, seen[0].double().mean((0, 2, 3)))
    torch.testing.assert_close(found["stage2_layer2"].first, seen[0][0].double().mean((1, 2)))


def test_without_gates_or_samples() -> None:
    torch.manual_seed(0)
    plain = build("mlp", 3, 1, depth=3, width=4, image_size=8)
    assert gates(plain, batches((2,))) == {}
    with pytest.raises(ValueError, match="no samples"):
        gates(network(), [])
