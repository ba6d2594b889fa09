"""Models of timm and torchvision by name: what is built, with which weights, and what is refused in one line."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from test_foreign import IMAGES, NARROW, run
from torch import Tensor, nn

from ablations.probes.landscape.curvature.hessian import Hessian
from ablations.probes.landscape.directions import random_direction
from ablations.probes.landscape.surface import surface
from modules import removed, reordered, routed, set_survival
from modules.blocks.network import evaluating
from modules.foreign.adoption import adopt, build_foreign
from modules.listing import keys
from modules.weights import load_weights, save_weights

# What is built.


def test_build_takes_classes_channels_and_arguments_and_draws_as_timm_does() -> None:
    torch.manual_seed(4)
    expected = timm.create_model("resnet18", num_classes=7, in_chans=1, drop_path_rate=0.1, **NARROW)
    after = torch.rand(1)
    torch.manual_seed(4)
    network = build_foreign("timm:resnet18", 7, 1, drop_path_rate=0.1, **NARROW)
    assert torch.equal(torch.rand(1), after)
    assert {id(p) for p in network.parameters()}.isdisjoint({id(p) for p in expected.parameters()})
    assert torch.equal(network.block("layer4_1").branch.conv2.weight, expected.layer4[1].conv2.weight)
    assert torch.equal(network.head.fc.weight, expected.fc.weight)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert "drop_path" in dict(network.block("layer4_1").branch.named_children())
    assert network.training


@pytest.mark.parametrize(("name", "arguments", "unit", "path"), [
    ("timm:resnet18", NARROW, None, ""),
    ("timm:vit_tiny_patch16_224", {"img_size": 64, "depth": 2}, None, ""),
    ("torchvision:mobilenet_v3_small", {}, "features_3", "features.3"),  # it keeps its shape
])  # fmt: skip
def test_weights_have_the_names_of_the_library_or_ours(
    name: str, arguments: dict[str, Any], unit: str | None, path: str, tmp_path: Path
) -> None:
    library, _, kind = name.partition(":")
    make = getattr(torchvision.models, kind) if library == "torchvision" else lambda **_: timm.create_model(kind, **_)
    model = make(num_classes=11, **arguments).eval()
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    network = build_foreign(name, 11, weights=tmp_path / "theirs.pth", **arguments).eval()
    assert torch.equal(run(network), run(model))
    save_weights(network, tmp_path / "ours.safetensors")
    other = build_foreign(name, 11, **arguments).eval()
    load_weights(other, tmp_path / "ours.safetensors")
    assert torch.equal(run(other), run(model))
    with pytest.raises(ValueError, match="do not fit"):
        build_foreign(name, 12, weights=tmp_path / "theirs.pth", **arguments)
    if unit is not None:
        with removed(network, [unit]):
            found = run(network)
        parent, _, last = path.rpartition(".")
        model.get_submodule(parent)._modules[last] = nn.Identity()
        assert torch.equal(found, run(model))


def test_the_keys_of_a_torchvision_model_are_its_own() -> None:
    assert [row["name"] for row in keys("torchvision:resnet18")] == list(torchvision.models.resnet18().state_dict())


def test_a_model_for_one_size_is_built_for_the_datas() -> None:
    network = build_foreign("timm:vit_tiny_patch16_224", image_size=32, depth=2).eval()
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert len(network.blocks) == 4
    assert build_foreign("timm:vit_tiny_patch16_224", depth=2).eval()(torch.randn(1, 3, 224, 224)).shape == (1, 10)


def test_what_cannot_be_divided_is_taken_whole_where_no_blocks_are_needed() -> None:
    torch.manual_seed(0)
    model = timm.create_model("dla46x_c", num_classes=10).eval()
    torch.manual_seed(0)
    why: list[str] = []
    network = build_foreign("timm:dla46x_c", undivided=why.append).eval()
    assert not network.blocks
    assert why[0].startswith("timm.models.dla.DLA cannot be divided into blocks: no chain of units")
    assert torch.equal(run(network), run(model))
    batches = [(IMAGES, torch.tensor([1, 2]))]
    assert surface(network, batches, [random_direction(network, 0)], steps=3, span=(-1.0, 1.0)).centre is not None
    with pytest.raises(ValueError, match="cannot be divided into blocks"):
        build_foreign("timm:dla46x_c")


def test_the_hessian_of_a_transformer() -> None:
    """Its quick attention has no second derivative."""
    network = build_foreign("timm:test_vit", image_size=64).eval()
    hessian = Hessian(network, [(IMAGES, torch.tensor([1, 2]))])
    product = hessian.product(torch.randn(hessian.size, generator=torch.Generator().manual_seed(0)))
    assert product.isfinite().all()
    assert product.any()


# What is refused.


@pytest.mark.parametrize(("name", "channels", "arguments", "message"), [
    ("resnet18", 3, {}, "named timm:MODEL or torchvision:MODEL, got 'resnet18'"),
    ("timm:", 3, {}, "named timm:MODEL"),
    ("timm:resnet181", 3, {}, "no model 'resnet181'; did you mean"),
    ("timm:resnet18", 3, {"depht": 3}, "timm cannot build resnet18: .*depht"),
    ("torchvision:", 3, {}, "named timm:MODEL or torchvision:MODEL"),
    ("torchvision:resnet19", 3, {}, "no model 'resnet19' for images; did you mean resnet1"),
    ("torchvision:deeplabv3_resnet50", 3, {}, "no model 'deeplabv3_resnet50' for images"),
    ("torchvision:resnet18", 1, {}, "resnet18 takes images of 3 channels; this data has 1"),
])  # fmt: skip
def test_build_refuses(name: str, channels: int, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_foreign(name, 10, channels, **arguments)
    assert "\n" not in str(caught.value)


def test_pretrained_weights_are_for_their_own_classes_and_need_their_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("modules.foreign.libraries.answers", lambda url: False)
    with pytest.raises(ValueError, match=r"not on this machine, and download\.pytorch\.org does not answer") as caught:
        build_foreign("torchvision:resnet18", 1000, pretrained=True)
    assert "\n" not in str(caught.value)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"torchvision cannot build resnet18: .*num_classes.*1000 but got 10"):
        build_foreign("torchvision:resnet18", 10, pretrained=True)


@pytest.mark.parametrize("surgery", [
    lambda model: removed(model, ["layer1.0"]),
    lambda model: routed(model, {"layer1.0": "branch"}),
    lambda model: reordered(model, ["layer1.0"]),
    lambda model: set_survival(model, 0.5),
])  # fmt: skip
def test_surgery_on_a_model_says_what_to_do(surgery: Callable[[nn.Module], Any]) -> None:
    model = timm.create_model("resnet18", **NARROW)
    with pytest.raises(TypeError, match=r"got timm.*ResNet; .* modules\.foreign\.adopt") as caught, surgery(model):
        pass
    assert "\n" not in str(caught.value)


def test_the_table_of_families_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the quickest that are not tested above; the program itself goes through all of them."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    table = importlib.import_module("foreign_families")
    if timm.__version__ != table.TIMM:
        pytest.skip(f"the table is of timm {table.TIMM}, this is {timm.__version__}")
    expected = json.loads(table.EXPECTED.read_text())
    assert sum(isinstance(blocks, int) for blocks in expected.values()) >= table.TARGET
    models = table.models()
    quick = ("cspnext", "dla", "efficientnet", "mambaout", "nfnet", "starnet")  # 0.2 s each
    rows = [table.row(family, models[family]) for family in quick]
    assert table.moved(rows, expected) == []
    other = {**expected, "dla": "its forward", "nfnet": 3, "starnet": "no chain"}
    told = ["dla: its forward -> no chain of units", "nfnet: 3 -> 4", "starnet: no chain -> 6"]
    assert [line.partition(": 4 of")[0] for line in sorted(table.moved(rows, other))] == told


class Odd(nn.Module):
    """A body of two convolutions, and a forward that does something with what it gives."""

    def __init__(self, odd: Callable[[Odd, Tensor], object]) -> None:
        super().__init__()
        self.odd = odd
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x: Tensor) -> object:
        return self.odd(self, x)


def drawing() -> nn.Module:
    return Odd(lambda self, x: nn.functional.dropout(self.body(x), 0.5, True))


@pytest.mark.parametrize(("make", "message"), [
    (
        lambda: timm.create_model("hrnet_w18_small"),
        "HighResolutionNet cannot be divided into blocks: .*4 of its .* layers",
    ),
    (lambda: timm.create_model("dla46x_c"), "DLA cannot be divided into blocks: .* layers"),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), "no chain of units: 0 of its 1 layers"),
    (
        lambda: Odd(lambda self, x: self.body(x) if x.sum() > 0 else x),
        "Odd cannot be divided into blocks: its forward cannot be traced",
    ),
    (lambda: Odd(lambda self, x: (self.body(x), x)), "it gives more than one tensor"),
    (drawing, "it gives other logits"),
])  # fmt: skip
def test_refused_in_one_line(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        adopt(make(), IMAGES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_last_layer_of_zeros_hides_nothing() -> None:
    model = nn.Sequential(drawing(), nn.Flatten(), nn.Linear(3 * 64 * 64, 5))
    with torch.no_grad():
        model[2].weight.zero_()
    with pytest.raises(ValueError, match="it gives other logits"):
        adopt(model, IMAGES)
    assert not model[2].weight.any()


def test_a_network_whose_training_differs_can_be_evaluated_only() -> None:
    network = adopt(Odd(lambda self, x: (self.body(x), x.mean()) if self.training else self.body(x)), IMAGES)
    with evaluating(network):
        run(network)
    with pytest.raises(RuntimeError, match="can only be evaluated"):
        network.train()(IMAGES)
