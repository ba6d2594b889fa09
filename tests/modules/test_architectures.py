"""Every name of the registry: counts and costs, shapes, gradients, deletable blocks, checkpoints, arguments."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from architecture_table import CIFAR_RESNETS, TABLE
from torch import Tensor, nn

from modules import ARCHITECTURES, Network, build, removed, resolve, routed
from modules.blocks.cost import cost
from modules.blocks.features import features
from modules.blocks.network import TrainingOutputs
from modules.training.tasks import TASKS

TINY = {name: {**row.arguments, **row.tiny} for name, row in TABLE.items() if row.tiny is not None}
CLASSES = 7


def published(name: str) -> Network:
    """The network of the table, without memory."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        return build(name, architecture.num_classes, architecture.in_channels, **TABLE[name].arguments)


def tiny(name: str) -> tuple[Network, Tensor]:
    """A small network of that name and a batch of four images for it."""
    torch.manual_seed(0)
    architecture, size = ARCHITECTURES[name], TABLE[name].tiny_image
    arguments = dict(TINY[name])
    if "image_size" in architecture.parameters and "image_size" not in architecture.fixed:
        arguments["image_size"] = size
    network = build(name, CLASSES, architecture.in_channels, **arguments)
    return network, torch.randn(4, architecture.in_channels, size, size)


def loss_of(outputs: Tensor | TrainingOutputs) -> Tensor:
    heads = (outputs.logits, *outputs.auxiliary) if isinstance(outputs, TrainingOutputs) else (outputs,)
    return torch.stack([
        nn.functional.cross_entropy(logits, torch.randint(CLASSES, (4, *logits.shape[2:]))) for logits in heads
    ]).sum()  # fmt: skip


def test_table_names_every_architecture() -> None:
    assert set(TABLE) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", TABLE)
def test_published_network(name: str) -> None:
    row, architecture = TABLE[name], ARCHITECTURES[name]
    network = published(name).eval()
    shape = (architecture.in_channels, architecture.image_size, architecture.image_size)
    counted = cost(network, shape)
    assert counted.parameters == row.parameters
    if row.multiply_adds is not None:
        assert counted.multiply_adds == pytest.approx(row.multiply_adds, rel=0.01)

    keys = list(network.state_dict())
    with torch.no_grad():
        images = torch.empty(2, *shape, device="meta")
        logits = network(images)
        if architecture.task == "localise":
            assert logits.shape == (2, 9, 2)  # a thumbnail of 3 x 3 pixels of each image
        else:
            assert logits.shape[:2] == (2, architecture.num_classes)
            assert logits.dim() == (2 if architecture.task == "classify" else 4)
        # Each block alone: deleted, it gives the shape that it gives when it is not; blocks inside blocks too.
        x = network.stem(images)
        for key, block in network.named_blocks():
            y = block(x)
            assert block(x, route="shortcut").shape == y.shape, key
            x = y
        with removed(network, network.blocks):
            assert network(images).shape == logits.shape
        for key, _ in network.every_block():
            if key not in network.blocks:
                with removed(network, [key]):
                    assert network(images).shape == logits.shape, key
    assert list(network.state_dict()) == keys


@pytest.mark.parametrize("name", TABLE)
def test_catalogue_facts_are_complete(name: str) -> None:
    architecture = ARCHITECTURES[name]
    assert [word.isdigit() for word in architecture.paper.replace(",", "").split()].count(True) >= 1, "a year"
    assert architecture.recipe.source
    assert set(architecture.fixed) <= set(architecture.parameters)


@pytest.mark.parametrize("name", TINY)
def test_gradient_is_finite_and_reaches_every_parameter(name: str) -> None:
    network, images = tiny(name)
    outputs = network(images)
    loss_of(outputs).backward()
    for key, p in network.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
    first = next(network.parameters()).grad
    assert first is not None
    assert first.abs().sum() > 0 or "transformer" in next(iter(dict(network.named_parameters())))


@pytest.mark.parametrize("name", TINY)
def test_every_probe_leaves_the_network_as_it_was(name: str) -> None:
    network, images = tiny(name)
    network.eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    names = [key for key, _ in network.every_block()]
    with torch.no_grad():
        intact = network(images)
        for key in (*names[:3], *names[-3:]):
            with removed(network, [key]):
                assert network(images).isfinite().all(), key
        with routed(network, {key: "branch" for key, block in network.every_block()}):
            assert network(images).shape == intact.shape
        found = features(network, images, names)
        assert list(found) == names
        assert torch.equal(network(images), intact)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", TINY)
def test_every_layer_is_called_once_and_nothing_is_overwritten(name: str) -> None:
    """What hooks record stands as it was, and attributions see each activation in a module of its own."""
    network, images = tiny(name)
    seen: dict[nn.Module, tuple[Tensor, int]] = {}
    repeated: list[str] = []

    def record(layer: str, module: nn.Module, output: Tensor) -> None:
        if module in seen:
            repeated.append(layer)
        seen[module] = (output, output._version)

    for layer, module in network.named_modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(lambda m, _, output, layer=layer: record(layer, m, output))
    network(images)
    assert repeated == []
    assert len(seen) > 3
    assert all(output._version == version for output, version in seen.values())


def saving_trainer(folder: Path) -> lightning.Trainer:
    """One that only saves."""
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder, enable_model_summary=False
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> lightning.Trainer:
    return saving_trainer(tmp_path_factory.mktemp("trainer"))


@pytest.mark.parametrize("name", TINY)
def test_a_checkpoint_alone_restores_the_network(name: str, trainer: lightning.Trainer, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    _, images = tiny(name)
    arguments = dict(TINY[name])
    if "image_size" in architecture.parameters and "image_size" not in architecture.fixed:
        arguments["image_size"] = TABLE[name].tiny_image
    wrapper = TASKS[architecture.task]
    # Lists, as a checkpoint of plain values holds them.
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    recipe = {**asdict(architecture.recipe), "milestones": list(architecture.recipe.milestones)}
    module = wrapper(name, plain, recipe, CLASSES, architecture.in_channels).eval()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    restored = wrapper.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(module(images), restored(images))


def test_same_seed_same_weights() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build("resnet20", width=2).state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_a_residual_network_of_34_layers_costs_18_percent_of_vgg19() -> None:
    """1512.03385, section 3.3."""
    deep, wide = (cost(published(name), (3, 224, 224)).multiply_adds for name in ("resnet34", "vgg19"))
    assert 0.18 < deep / wide < 0.19


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("resnet20", {}), ("resnet_cifar", {"depth": 20})),
        (("preact_resnet56", {}), ("resnet56", {"order": "full_preactivation"})),
        (
            ("preact_resnet164", {}),
            (
                "resnet_cifar",
                {"depth": 164, "block": "bottleneck", "order": "full_preactivation", "shortcut": "B"},
            ),
        ),
        (("vgg15", {}), ("vgg_cifar", {})),
        (("vgg15_bn", {}), ("vgg15", {"batch_norm": True})),
        (("vgg16_bn", {}), ("vgg16", {"batch_norm": True})),
        (("resnet18", {"width": 64}), ("resnet18", {})),
    ],
)
def test_two_names_of_one_network_resolve_alike(one: tuple[str, dict], other: tuple[str, dict]) -> None:
    assert resolve(*one) == resolve(*other)


def test_different_networks_resolve_differently() -> None:
    assert resolve("resnet20") != resolve("resnet32")
    assert resolve("resnet20") != resolve("resnet20", {"shortcut": "B"})
    assert resolve("vgg16") != resolve("vgg16_bn")


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("resnet21", {}, ["resnet21", "resnet20", "python -m modules"]),
        ("resnet20", {"widht": 3}, ["widht", "width"]),
        ("resnet_cifar", {"depth": 21}, ["21", "6n"]),
        ("resnet_cifar", {"depth": 2}, ["2", "6n"]),
        ("resnet_cifar", {"depth": 32, "block": "bottleneck"}, ["32", "9n"]),
        ("resnet20", {"block": "wide"}, ["wide", "basic", "bottleneck"]),
        ("resnet20", {"order": "bn"}, ["'bn'", "original", "full_preactivation"]),
        ("resnet20", {"shortcut": "E"}, ["'E'", "A, B, C, D"]),
        ("resnet20", {"stride_on": "last"}, ["last", "first", "3x3"]),
        ("resnet20", {"survival_prob": 0.0}, ["0.0", "(0, 1]"]),
        ("resnet20", {"survival_prob": 1.5}, ["1.5", "(0, 1]"]),
        ("resnet20", {"survival_prob": 0.5, "survival_rule": "cosine"}, ["cosine", "linear", "uniform"]),
        ("resnet20", {"survival_prob": 0.5, "drop_per": "pixel"}, ["pixel", "batch", "sample"]),
        ("resnet20", {"survival_prob": 0.5, "skip": False}, ["replace"]),
        ("resnet18", {"depth": 20}, ["resnet18", "depth=18"]),
        ("vgg16", {"configuration": "C"}, ["vgg16", "configuration='D'"]),
        ("vgg_cifar", {"convs_per_group": ()}, ["()"]),
        ("vgg_cifar", {"convs_per_group": (1, 0)}, ["(1, 0)"]),
        ("vgg_cifar", {"num_pools": 6}, ["6", "0..5"]),
    ],
)
def test_bad_arguments_are_named(lacking: Any, name: str, arguments: dict[str, Any], named: list[str]) -> None:
    assert lacking(name, arguments, named) == []


def test_plain_twin_has_the_parameters_of_option_a() -> None:
    with torch.device("meta"):
        plain = build("resnet56", skip=False)
    assert sum(p.numel() for p in plain.parameters()) == CIFAR_RESNETS[56]
    assert {block.merge for _, block in plain.named_blocks()} == {"replace"}
