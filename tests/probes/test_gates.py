"""The gates of highway layers against the layer's formula, and how a probe asks for them before and after training."""

from pathlib import Path

import pytest
import torch
from answers import asked
from torch import Tensor

from ablations.probes.activations.gates import Gates, gated_blocks, gates
from datamodules.images import ImageData
from modules import Network, build
from modules.weights import save_weights
from reports.drawings.highway_gate_bias import draw


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
        t = torch.sigmoid(x @ gate.weight.T + gate.bias)
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
    block.branch.gate_activation.register_forward_hook(lambda module, inputs, output: seen.append(output))
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


def test_the_probe_tells_layers_before_and_after_and_units_of_the_first_seed(digits: ImageData, tmp_path: Path) -> None:
    net = build("highway10", 10, 1, width=4, gate_bias=-1.0, image_size=16)
    save_weights(net, tmp_path / "before.safetensors")
    for name, block in net.named_blocks():
        with torch.no_grad():  # trained, so to speak
            block.get_parameter("branch.gate.bias").add_(torch.tensor([-1.0, -1.0, 1.0, 0.0]) * (name != "hidden9"))
    files = {0: tmp_path / "before.safetensors", 2: tmp_path / "after"}

    rows = asked(Gates(limit=50), net, digits, snapshots=files)
    bias = rows.where(probe="layer", metric="gate/bias")
    assert set(bias.where(when="before").values()) == {-1.0}
    assert [(row.fields["layer"], row.fields["block"], row.value) for row in bias.where(when="after")] == [
        (str(layer), f"hidden{layer}", -1.0 if layer == 9 else -1.25) for layer in range(2, 11)
    ]
    assert rows.where(metric="gate/fell").values() == [50.0] * 7 + [0.0, 50.0]
    assert rows.where(metric="gate/moved").values() == [1.0] * 7 + [0.0, 1.0], "however they cancel out"
    assert len(rows.where(probe="unit")) == 9 * 4 * 4
    assert rows.where(probe="unit", layer=3, metric="gate/bias").values() == [-2.0, -2.0, 0.0, -1.0]
    mean = rows.where(probe="layer", layer=3, when="after", metric="gate/mean").values()
    assert sum(rows.where(probe="unit", layer=3, metric="gate/mean").values()) / 4 == pytest.approx(mean[0])
    assert {row.probe for row in asked(Gates(limit=50), net, digits, 1, snapshots=files, is_first=False)} == {
        "layer"
    }, "pictures show one seed"
    untrained = asked(Gates(limit=50), net, digits)
    assert {row.fields.get("when", "after") for row in untrained} == {"after"}
    assert not untrained.where(metric="gate/fell")
    assert not untrained.where(metric="gate/moved")

    (drawn,) = draw(rows, tmp_path, "any")
    assert (tmp_path / drawn.file).is_file()
    assert draw(rows, tmp_path, "another") == []
