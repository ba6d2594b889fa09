"""Our networks against torchvision and timm with the same weights: the same logits, and the same training step."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from reference_models import filled
from torch import Tensor, nn

from modules import build

Rename = Callable[[str], str]


def resnet_name(ours: str) -> str:
    """Our name of a tensor -> the name that torchvision and timm share."""
    ours = ours.removeprefix("stem.").removeprefix("head.")
    ours = re.sub(r"^blocks\.stage(\d+)_block(\d+)\.", lambda m: f"layer{m[1]}.{int(m[2]) - 1}.", ours)
    ours = ours.replace("shortcut.conv1", "downsample.0").replace("shortcut.bn1", "downsample.1")
    return ours.replace("branch.", "")


# The stem of three convolutions, where timm counts its layers; the third batch norm is its bn1.
DEEP_STEM = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
DEEP_STEM |= {"conv3": "conv1.6", "bn3": "bn1"}


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


def vgg_name(per_conv: int, *layers: str) -> Rename:
    """The names of VGG-16 with so many layers for each convolution; layers: the fully connected ones."""
    fully_connected = dict(zip(("blocks.fc6.branch.fc", "blocks.fc7.branch.fc", "head.fc"), layers, strict=True))

    def rename(ours: str) -> str:
        module, tensor = ours.rsplit(".", 1)
        if module in fully_connected:
            return f"{fully_connected[module]}.{tensor}"
        found = re.fullmatch(r"blocks\.conv(\d+)_(\d+)\.branch\.(conv|bn)", module)
        assert found is not None, ours
        group, index, layer = int(found[1]), int(found[2]), found[3]
        before = sum((2, 2, 3, 3, 3)[: group - 1]) + index - 1
        return f"features.{before * per_conv + group - 1 + (layer == 'bn')}.{tensor}"

    return rename


def alexnet_name(ours: str) -> str:
    module, tensor = ours.removeprefix("blocks.").split(".")[0], ours.rsplit(".", 1)[1]
    layers = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10, "fc6": 1, "fc7": 4, "head": 6}
    return f"{'features' if module.startswith('conv') else 'classifier'}.{layers[module]}.{tensor}"


def densenet_name(ours: str) -> str:
    """Our name of a tensor -> the name that torchvision and timm share."""
    ours = re.sub(r"^stem\.(conv|bn)1\.", lambda m: f"features.{'norm' if m[1] == 'bn' else 'conv'}0.", ours)
    ours = re.sub(r"^blocks\.dense(\d+)_layer(\d+)\.branch\.", r"features.denseblock\1.denselayer\2.", ours)
    ours = re.sub(r"^blocks\.(transition\d+)\.branch\.(conv|bn)1\.", r"features.\1.\2.", ours)
    ours = ours.replace("head.bn1", "features.norm5").replace("head.fc", "classifier")
    return re.sub(r"\bbn(?=\d?\.)", "norm", ours)


BRANCHES = {"1x1.branch": "branch1", "3x3.branch": "branch2.", "5x5.branch": "branch3.", "pool.branch": "branch4.1"}


def googlenet_name(ours: str) -> str:
    if ours.startswith("head."):
        return ours.removeprefix("head.")
    ours = re.sub(r"^stem\.(conv\d)\.(conv|bn)1", r"\1.\2", ours)
    found = re.fullmatch(r"blocks\.(inception\w\w)\.branch\.(\w+\.branch)\.(conv|bn)(\d)\.(\w+)", ours)
    if found is None:
        return ours
    block, path, layer, index, tensor = found.groups()
    branch = BRANCHES[path] + (str(int(index) - 1) if BRANCHES[path].endswith(".") else "")
    return f"{block}.{branch}.{layer}.{tensor}"


def its(library: str, name: str) -> nn.Module:
    """The library's network for 11 classes, without dropout."""
    if library == "timm":
        return timm.create_model(name, num_classes=11)
    undropped = {"dropout": 0.0} if name.startswith(("vgg", "alexnet")) else {}
    if name != "googlenet_bn":
        return getattr(torchvision.models, name)(num_classes=11, **undropped)
    model = torchvision.models.googlenet(num_classes=11, aux_logits=False, init_weights=False, dropout=0.0)
    model.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)  # 2x2 there; its 5x5 paths have 3x3 convolutions too
    return model


BOTH = ("torchvision", "timm")
CLASSIFIER = ("classifier.0", "classifier.3", "classifier.6")
VGG = {"width": 8, "hidden": 512, "dropout": 0.0}
ALEXNET = {"widths": (8, 24, 48, 32, 32), "hidden": 512, "groups": 1, "response_norm": False, "dropout": 0.0}
GOOGLENET = {"width": 8, "kernel": 3, "auxiliary": False, "dropout": 0.0}

# name, our arguments, how often narrower than published both are, our names -> theirs, libraries
NETWORKS: list[tuple[str, dict[str, Any], int, Rename, tuple[str, ...]]] = [
    *((name, {"width": 8}, 8, resnet_name, BOTH) for name in ("resnet18", "resnet34", "resnet50", "wide_resnet50_2")),
    ("resnext50_32x4d", {"width": 32}, 2, resnet_name, BOTH),
    ("resnet50c", {"width": 8}, 8, deep_stem_name, ("timm",)),
    *((name, {"width": 8}, 8, pooled_shortcut_name, ("timm",)) for name in ("resnet18d", "resnet34d", "resnet50d")),
    ("vgg16", VGG, 8, vgg_name(2, *CLASSIFIER), ("torchvision",)),
    ("vgg16", VGG, 8, vgg_name(2, "pre_logits.fc1", "pre_logits.fc2", "head.fc"), ("timm",)),
    ("vgg16_bn", VGG, 8, vgg_name(3, *CLASSIFIER), ("torchvision",)),
    ("alexnet", ALEXNET, 8, alexnet_name, ("torchvision",)),
    ("densenet121", {"growth_rate": 4}, 8, densenet_name, BOTH),
    ("googlenet_bn", GOOGLENET, 8, googlenet_name, ("torchvision",)),
]


def with_weights_of(reference: nn.Module, name: str, rename: Rename, **arguments: object) -> nn.Module:
    """Our network with clones of the reference's tensors, every one of which must be used."""
    with torch.device("meta"):
        ours = build(name, 11, **arguments)
    theirs = reference.state_dict()
    names = {key: rename(key) for key in ours.state_dict()}
    assert sorted(names.values()) == sorted(theirs)
    # timm writes the hidden fully connected layers of VGG as convolutions: the same numbers in another shape.
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


@pytest.mark.parametrize(
    ("library", "name", "arguments", "factor", "rename"),
    [pytest.param(library, *row, id=f"{library}-{row[0]}") for *row, libraries in NETWORKS for library in libraries],
)
def test_same_logits_and_the_same_step(
    library: str, name: str, arguments: dict[str, Any], factor: int, rename: Rename
) -> None:
    """In the libraries' shapes but for the widths; at 64 pixels VGGs pool the last map, whatever its size, to 7 x 7."""
    reference = filled(lambda: its(library, name), factor)
    ours = with_weights_of(reference, name, rename, **arguments)
    images, labels = torch.randn(3, 3, 64, 64), torch.tensor([1, 5, 10])
    with torch.no_grad():
        expected = reference.eval()(images)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-5, atol=1e-5)
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
