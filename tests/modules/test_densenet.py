"""DenseNet: against torchvision and timm, its forms, dropout, and memory given back by recomputing."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import timm
import torch
import torchvision
from test_reference import assert_same, filled, with_weights_of
from torch import Tensor, nn

from modules import Network, build, recipe_for, removed

BC = {"depth": 22, "growth_rate": 4, "bottleneck": True, "compression": 0.5}


def densenet_name(ours: str) -> str:
    """Our name of a tensor -> the name that torchvision and timm share."""
    ours = re.sub(r"^stem\.(conv|bn)1\.", lambda m: f"features.{'norm' if m[1] == 'bn' else 'conv'}0.", ours)
    ours = re.sub(r"^blocks\.dense(\d+)_layer(\d+)\.branch\.", r"features.denseblock\1.denselayer\2.", ours)
    ours = re.sub(r"^blocks\.(transition\d+)\.branch\.(conv|bn)1\.", r"features.\1.\2.", ours)
    ours = ours.replace("head.bn1", "features.norm5").replace("head.fc", "classifier")
    return re.sub(r"\bbn(?=\d?\.)", "norm", ours)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_densenet121_against(library: str) -> None:
    if library == "timm":
        reference = filled(lambda: timm.create_model("densenet121", num_classes=11))
    else:
        reference = filled(lambda: torchvision.models.densenet121(num_classes=11))
    assert_same(with_weights_of(reference, "densenet121", densenet_name), reference, densenet_name)


def widths(network: Network) -> dict[str, tuple[int, ...]]:
    """Channels and pixels of each block's output at 32 x 32."""
    found, x = {}, network.stem(torch.zeros(1, 3, 32, 32))
    for name, block in network.named_blocks():
        x = block(x)
        found[name] = tuple(x.shape[1:3])
    return found


@torch.no_grad()
def test_every_layer_adds_its_growth_rate_and_a_transition_cuts() -> None:
    plain = widths(build("densenet_cifar", depth=10, growth_rate=4).eval())
    assert plain == {
        "dense1_layer1": (20, 32), "dense1_layer2": (24, 32), "transition1": (24, 16),
        "dense2_layer1": (28, 16), "dense2_layer2": (32, 16), "transition2": (32, 8),
        "dense3_layer1": (36, 8), "dense3_layer2": (40, 8),
    }  # fmt: skip
    cut = widths(build("densenet_cifar", depth=10, growth_rate=3, bottleneck=True, compression=0.5).eval())
    assert cut == {
        "dense1_layer1": (9, 32), "transition1": (4, 16), "dense2_layer1": (7, 16), "transition2": (3, 8),
        "dense3_layer1": (6, 8),
    }  # fmt: skip


@torch.no_grad()
def test_a_layer_keeps_what_it_reads_and_a_deleted_one_gives_zeros() -> None:
    torch.manual_seed(0)
    network = build("densenet_cifar", depth=10, growth_rate=4).eval()
    block, x = network.block("dense1_layer2"), torch.randn(2, 20, 8, 8)
    y = block(x)
    assert torch.equal(y[:, :20], x)
    assert torch.equal(y[:, 20:], block.branch(x))
    with removed(network, ["dense1_layer2"]):
        without = block(x)
    assert torch.equal(without[:, :20], x)
    assert torch.equal(without[:, 20:], torch.zeros(2, 4, 8, 8))


@torch.no_grad()
def test_a_deleted_transition_still_pools_and_cuts() -> None:
    network = build("densenet_cifar", **BC).eval()
    block, x = network.block("transition1"), torch.randn(2, 20, 8, 8)
    assert torch.equal(block(x, route="shortcut"), nn.functional.avg_pool2d(x[:, :10], 2))


def test_only_a_transition_that_cuts_changes_the_shape() -> None:
    for arguments, cuts in ((BC, True), ({"depth": 10}, False)):
        blocks = build("densenet_cifar", **arguments).named_blocks()
        assert all(block.changes_shape == (cuts and name.startswith("transition")) for name, block in blocks)


def test_dropout_follows_every_convolution_but_the_first() -> None:
    network = build("densenet_cifar", **BC, dropout=0.2)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Dropout)]
    assert isinstance(layers[0], nn.Conv2d)
    assert [type(layer) for layer in layers[1:]] == [nn.Conv2d, nn.Dropout] * (len(layers) // 2)
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == {0.2}
    assert list(network.state_dict()) == list(build("densenet_cifar", **BC).state_dict())


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("densenet_cifar", {"depth": 41}, ["41", "3n + 4"]),
        ("densenet_cifar", {"depth": 4}, ["4", "3n + 4"]),
        ("densenet_cifar", {"depth": 43, "bottleneck": True}, ["43", "6n + 4"]),
        ("densenet_cifar", {"compression": 0.0}, ["0.0", "(0, 1]"]),
        ("densenet_cifar", {"compression": 1.5}, ["1.5", "(0, 1]"]),
        ("densenet_cifar", {"dropout": 1.0}, ["1.0", "[0, 1)"]),
        ("densenet_cifar", {"growth_rate": 0}, ["growth_rate", "0"]),
        ("densenet_cifar", {"recompute": -1}, ["recompute", "-1"]),
        ("densenet121", {"depth": 122}, ["densenet121", "depth=121"]),
        ("densenet40_k12", {"growth_rate": 24}, ["densenet40_k12", "growth_rate=12"]),
    ],
)
def test_bad_arguments_are_named(lacking: Any, name: str, arguments: dict[str, Any], named: list[str]) -> None:
    assert lacking(name, arguments, named) == []


@pytest.mark.parametrize(("name", "arguments", "least"), [("densenet_cifar", BC, 4), ("densenet121", {}, 29)])
def test_input_too_small(name: str, arguments: dict[str, Any], least: int) -> None:
    with torch.device("meta"):
        network = build(name, **arguments).eval()
        assert network(torch.empty(1, 3, least, least)).shape == (1, 10)
        with pytest.raises(ValueError, match=f"at least {least} x {least}"):
            network(torch.empty(1, 3, least - 1, least - 1))
        network.input_size = network.input_size._replace(least=1)
        with pytest.raises(RuntimeError):  # the bound is no stricter than it must be
            network(torch.empty(1, 3, least - 1, least - 1))


def test_recipe_is_the_papers() -> None:
    recipe = recipe_for("densenet_bc100_k12")
    assert (recipe.batch_size, recipe.epochs, recipe.learning_rate, recipe.nesterov) == (64, 300, 0.1, True)
    assert (recipe.milestones, recipe.milestone_factor, recipe.weight_decay) == ((0.5, 0.75), 0.1, 1e-4)


# Recomputing: less memory, the same numbers.


def step(network: Network, images: Tensor) -> tuple[Tensor, int]:
    """Loss of one training step, whose gradients stay, and the bytes that forward keeps for it, weights left out."""
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    network.train().zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = nn.functional.cross_entropy(network(images), torch.arange(len(images)))
    loss.backward()
    return loss.detach(), sum(storages.values())


@pytest.mark.parametrize("recompute", [1, 3, 100])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputing_changes_no_number_and_saves_memory(recompute: int, dropout: float) -> None:
    torch.manual_seed(0)
    plain = build("densenet_cifar", **BC, dropout=dropout)
    saving = build("densenet_cifar", **BC, dropout=dropout, recompute=recompute)
    saving.load_state_dict(copy.deepcopy(plain.state_dict()))
    images = torch.randn(4, 3, 16, 16)
    (loss, much), (same_loss, less) = step(plain, images), step(saving, images)
    assert torch.equal(loss, same_loss)
    for (name, ours), other in zip(saving.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-6, atol=1e-7, msg=name)
    for (name, ours), other in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, other), name
    assert less < {1: 0.3, 3: 0.15, 100: 0.1}[recompute] * much
