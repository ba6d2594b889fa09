"""Our networks against torchvision and timm with the same weights: the same logits, and the same training step."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from modules import build

CONVS_PER_GROUP = {"vgg16": (2, 2, 3, 3, 3), "vgg16_bn": (2, 2, 3, 3, 3)}


def resnet_name(ours: str) -> str:
    """Our name of a tensor -> the name that torchvision and timm share."""
    ours = ours.removeprefix("stem.").removeprefix("head.")
    ours = re.sub(r"^blocks\.stage(\d+)_block(\d+)\.", lambda m: f"layer{m[1]}.{int(m[2]) - 1}.", ours)
    ours = ours.replace("shortcut.conv1", "downsample.0").replace("shortcut.bn1", "downsample.1")
    return ours.replace("branch.", "")


# The stem of three convolutions, where timm counts its layers; the third batch norm is its bn1.
DEEP_STEM = {
    "conv1": "conv1.0",
    "bn1": "conv1.1",
    "conv2": "conv1.3",
    "bn2": "conv1.4",
    "conv3": "conv1.6",
    "bn3": "bn1",
}


def deep_stem_name(ours: str) -> str:
    """As `resnet_name`, for ResNet-C."""
    if ours.startswith("stem."):
        _, layer, tensor = ours.split(".")
        return f"{DEEP_STEM[layer]}.{tensor}"
    return resnet_name(ours)


def pooled_shortcut_name(ours: str) -> str:
    """As `deep_stem_name`, for ResNet-D, where timm counts the pooling, or what stands in its place."""
    theirs = deep_stem_name(ours)
    return theirs.replace("downsample.1.", "downsample.2.").replace("downsample.0.", "downsample.1.")


def vgg_name(ours: str, name: str, layers: dict[str, str]) -> str:
    """Our name of a tensor in a VGG -> the reference's: `features.N` and the fully connected layers of `layers`."""
    module, tensor = ours.rsplit(".", 1)
    if module in layers:
        return f"{layers[module]}.{tensor}"
    found = re.fullmatch(r"blocks\.conv(\d+)_(\d+)\.branch\.(conv|bn)", module)
    assert found is not None, ours
    group, index, layer = int(found[1]), int(found[2]), found[3]
    per_conv = 3 if name.endswith("_bn") else 2
    before = sum(CONVS_PER_GROUP[name][: group - 1]) + index - 1
    return f"features.{before * per_conv + group - 1 + (layer == 'bn')}.{tensor}"


FULLY_CONNECTED = ("blocks.fc6.branch.fc", "blocks.fc7.branch.fc", "head.fc")
TORCHVISION_HEAD = dict(zip(FULLY_CONNECTED, ("classifier.0", "classifier.3", "classifier.6"), strict=True))
TIMM_HEAD = dict(zip(FULLY_CONNECTED, ("pre_logits.fc1", "pre_logits.fc2", "head.fc"), strict=True))


@torch.no_grad()
def filled(make: Callable[[], nn.Module]) -> nn.Module:
    """A network without its own (slow) initialisation, with weights that make every layer matter, batch norm too."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.zero_()
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
        else:
            tensor.uniform_(0.5, 1.5)
    return model


def with_weights_of(reference: nn.Module, name: str, rename: Callable[[str], str], **arguments: object) -> nn.Module:
    """Our network with clones of the reference's tensors, every one of which must be used."""
    with torch.device("meta"):
        ours = build(name, 11, **arguments)
    theirs = reference.state_dict()
    names = {key: rename(key) for key in ours.state_dict()}
    assert sorted(names.values()) == sorted(theirs)
    shapes = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    ours.load_state_dict({key: theirs[names[key]].reshape(shapes[key]).clone() for key in names}, assign=True)
    return ours


def step(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss before, and the logits after, one step of SGD in training mode."""
    optimiser = torch.optim.SGD(network.train().parameters(), lr=0.01, weight_decay=1e-4)
    loss = nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        return loss.detach(), network(images)


def assert_same(ours: nn.Module, reference: nn.Module, rename: Callable[[str], str], train: bool = True) -> None:
    images, labels = torch.randn(3, 3, 64, 64), torch.tensor([1, 5, 10])
    with torch.no_grad():
        expected = reference.eval()(images)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-5, atol=1e-5)
    if not train:
        return
    # In double precision: a step of batch norm over three images amplifies the rounding of single precision.
    images = images.double()
    found = [step(network.double(), images, labels) for network in (ours, reference)]
    (our_loss, our_logits), (loss, logits) = found
    assert not torch.allclose(logits, expected.double(), rtol=1e-2)
    torch.testing.assert_close(our_loss, loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_logits, logits, rtol=1e-5, atol=1e-5)
    theirs = reference.state_dict()
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs[rename(key)].reshape(tensor.shape), rtol=1e-5, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_resnet(name: str, library: str) -> None:
    if library == "timm":
        reference = filled(lambda: timm.create_model(name, num_classes=11))
    else:
        reference = filled(lambda: getattr(torchvision.models, name)(num_classes=11))
    # One library is enough for the largest.
    train = (name, library) != ("wide_resnet50_2", "timm")
    assert_same(with_weights_of(reference, name, resnet_name), reference, resnet_name, train)


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("resnet50c", deep_stem_name),
        ("resnet18d", pooled_shortcut_name),
        ("resnet34d", pooled_shortcut_name),
        ("resnet50d", pooled_shortcut_name),
    ],
)
def test_resnet_c_and_d_against_timm(name: str, rename: Callable[[str], str]) -> None:
    reference = filled(lambda: timm.create_model(name, num_classes=11))
    assert_same(with_weights_of(reference, name, rename), reference, rename, train=name == "resnet50d")


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vgg_against_torchvision(name: str) -> None:
    """At 64 pixels: both pool the last map, whatever its size, to 7 x 7."""

    def rename(key: str) -> str:
        return vgg_name(key, name, TORCHVISION_HEAD)

    reference = filled(lambda: getattr(torchvision.models, name)(num_classes=11, dropout=0.0))
    assert_same(with_weights_of(reference, name, rename, dropout=0.0), reference, rename)


def test_vgg_against_timm() -> None:
    """timm writes the hidden fully connected layers as convolutions: the same numbers in another shape."""

    def rename(key: str) -> str:
        return vgg_name(key, "vgg16", TIMM_HEAD)

    reference = filled(lambda: timm.create_model("vgg16", num_classes=11))
    assert_same(with_weights_of(reference, "vgg16", rename), reference, rename, train=False)
