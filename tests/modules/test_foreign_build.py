"""Building timm models as networks: what is refused in one clear line, and what a caller relies on."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from modules import build, removed
from modules.foreign.adoption import adopt, build_foreign
from modules.weights import load_weights, save_weights

NARROW = {"channels": (64, 64, 96, 128)}  # timm's argument; the structure stays, the time goes
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Makes every layer matter: timm starts the last batch norm of a branch at zero."""
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "running_var")) else tensor.normal_(0, 0.1)
    return model


def run(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(IMAGES)


def test_blocks_are_found_inside_a_wrapper() -> None:
    model = nn.Sequential(timm.create_model("resnet18", **NARROW), nn.Flatten(0)).eval()
    network = adopt(model, IMAGES)
    assert next(iter(network.blocks)) == "0_layer1_0"
    assert torch.equal(run(network), run(model))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet18", {}, "named timm:MODEL or torchvision:MODEL, got 'resnet18'"),
        ("timm:", {}, "named timm:MODEL"),
        ("timm:resnet181", {}, "no model 'resnet181'; did you mean"),
        ("timm:resnet18", {"depht": 3}, "timm cannot build resnet18: .*depht"),
    ],
)
def test_build_refuses(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_foreign(name, **arguments)


def test_build_takes_classes_channels_and_arguments() -> None:
    network = build_foreign("timm:resnet18", 7, 1, drop_path_rate=0.1)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert "drop_path" in dict(network.block("layer4_1").branch.named_children())
    assert network.training


def test_build_draws_as_timm_does() -> None:
    torch.manual_seed(4)
    expected = timm.create_model("resnet18", num_classes=10)
    after = torch.rand(1)
    torch.manual_seed(4)
    network = build_foreign("timm:resnet18")
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(network.block("layer4_1").branch.conv2.weight, expected.layer4[1].conv2.weight)
    assert torch.equal(network.head.fc.weight, expected.fc.weight)


def test_modes_survive_adoption() -> None:
    model = timm.create_model("resnet18", **NARROW)
    model.layer1[0].bn1.eval()
    network = adopt(model, IMAGES)
    assert not model.layer1[0].bn1.training
    assert sum(not module.training for module in network.modules()) == 1
    assert not any(buffer.any() for name, buffer in model.named_buffers() if name.endswith("running_mean"))


def test_weights_under_the_models_own_names(tmp_path: Path) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=10, **NARROW)).eval()
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    network = build_foreign("timm:resnet18", weights=tmp_path / "timm.pth", **NARROW).eval()
    assert torch.equal(run(network), run(model))
    # and back, under ours
    save_weights(network, tmp_path / "ours.safetensors")
    other = build_foreign("timm:resnet18", **NARROW).eval()
    load_weights(other, tmp_path / "ours.safetensors")
    assert torch.equal(run(other), run(model))
    with pytest.raises(ValueError, match="do not fit"):
        build_foreign("timm:resnet18", 11, weights=tmp_path / "timm.pth", **NARROW)


def test_an_adopted_resnet_is_our_resnet() -> None:
    """Block by block: the logits agree with the same blocks deleted."""
    model = randomise(torchvision.models.resnet18(num_classes=10)).eval()
    theirs, ours = adopt(model, IMAGES), build("resnet18").eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    for name, twin in zip(theirs.blocks, ours.blocks, strict=True):
        assert theirs.block(name).changes_shape == ours.block(twin).changes_shape
        with removed(theirs, [name]), removed(ours, [twin]):
            torch.testing.assert_close(run(ours), run(theirs), rtol=1e-5, atol=1e-5)
