"""Models of timm and torchvision by name: what is built, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from ablations.probes.landscape.directions import random_direction
from ablations.probes.landscape.hessian import Hessian
from ablations.probes.landscape.surface import surface
from modules import removed, reordered, routed, set_survival
from modules.foreign.adoption import build_foreign
from modules.listing import keys

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_a_torchvision_model_has_its_weights_and_blocks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    network = build_foreign("torchvision:mobilenet_v3_small", 7, weights=tmp_path / "weights.pt").eval()
    with torch.no_grad():
        assert torch.equal(network(IMAGES), model(IMAGES))
        with removed(network, ["features_3"]):  # keeps its shape
            found = network(IMAGES)
        model.features[3] = torch.nn.Identity()
        assert torch.equal(found, model(IMAGES))


def test_the_keys_of_a_torchvision_model_are_its_own() -> None:
    assert [row["name"] for row in keys("torchvision:resnet18")] == list(torchvision.models.resnet18().state_dict())


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("torchvision:", 3, "named timm:MODEL or torchvision:MODEL"),
        ("torchvision:resnet19", 3, "no model 'resnet19' for images; did you mean resnet1"),
        ("torchvision:deeplabv3_resnet50", 3, "no model 'deeplabv3_resnet50' for images"),
        ("torchvision:resnet18", 1, "resnet18 takes images of 3 channels; this data has 1"),
    ],
)
def test_torchvision_refuses(name: str, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_foreign(name, 10, channels)
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
    with torch.no_grad():
        assert torch.equal(network(IMAGES), model(IMAGES))
    found = surface(
        network, [(IMAGES, torch.tensor([1, 2]))], [random_direction(network, 0)], steps=3, span=(-1.0, 1.0)
    )
    assert found.centre is not None
    with pytest.raises(ValueError, match="cannot be divided into blocks"):
        build_foreign("timm:dla46x_c")


def test_the_hessian_of_a_transformer() -> None:
    """Its quick attention has no second derivative."""
    network = build_foreign("timm:test_vit", image_size=64).eval()
    hessian = Hessian(network, [(IMAGES, torch.tensor([1, 2]))])
    vector = torch.randn(hessian.size, generator=torch.Generator().manual_seed(0))
    product = hessian.product(vector)
    assert product.isfinite().all()
    assert product.any()


def test_surgery_on_a_model_says_what_to_do() -> None:
    model = torchvision.models.resnet18()
    for attempt in (
        lambda: removed(model, ["layer1.0"]),
        lambda: routed(model, {"layer1.0": "branch"}),
        lambda: reordered(model, ["layer1.0"]),
    ):
        with (
            pytest.raises(TypeError, match=r"got torchvision.*ResNet; .* modules\.foreign\.adopt") as caught,
            attempt(),
        ):
            pass
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"modules\.foreign\.adopt"):
        set_survival(model, 0.5)  # type: ignore[arg-type]
