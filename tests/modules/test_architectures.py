"""Every name of the registry: counts and costs, shapes, gradients, deletable blocks, checkpoints, sizes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from architecture_table import TABLE
from torch import Tensor, nn

from modules import ARCHITECTURES, Network, build, removed, resolve, routed
from modules.blocks.cost import cost
from modules.blocks.features import features
from modules.blocks.meta import QuickShapes
from modules.blocks.network import InputSize, TrainingOutputs
from modules.training.tasks import TASKS

TINY = {name: {**row.arguments, **row.tiny} for name, row in TABLE.items() if row.tiny is not None}
CLASSES = 7
SIZES = ("depth", "width", "growth_rate", "cardinality", "base_width", "widening", "image_size")


def families() -> list[str]:
    """The first small name of every kind of network: those that differ in sizes alone are one."""
    found: dict[str, str] = {}
    for name in TINY:
        resolved = resolve(name, TABLE[name].arguments)
        found.setdefault(str({key: value for key, value in resolved.items() if key not in SIZES}), name)
    return list(found.values())


FAMILIES = families()


def published(name: str) -> Network:
    """The network of the table, without memory."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"), QuickShapes():
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
    assert [word.isdigit() for word in architecture.paper.replace(",", "").split()].count(True) >= 1, "a year"
    assert architecture.recipe.source
    assert set(architecture.fixed) <= set(architecture.parameters)


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_of_a_published_network_can_be_deleted(name: str) -> None:
    architecture = ARCHITECTURES[name]
    network = published(name).eval()
    keys = list(network.state_dict())
    images = torch.empty(2, architecture.in_channels, *[architecture.image_size] * 2, device="meta")
    logits = network(images)
    if architecture.task == "localise":
        assert logits.shape == (2, 9, 2)  # a thumbnail of 3 x 3 pixels of each image
    else:
        assert logits.shape[:2] == (2, architecture.num_classes)
        assert logits.dim() == (2 if architecture.task == "classify" else 4)
    # Each block alone: deleted, it gives the shape that it gives when it is not; blocks inside blocks too.
    x = images
    for part, layer in (("stem", network.stem), *network.named_blocks()):
        y = layer(x)
        if part != "stem":
            assert layer(x, route="shortcut").shape == y.shape, part
        for key, _ in network.every_block():
            if key.startswith(f"{part}."):
                with removed(network, [key]):
                    assert layer(x).shape == y.shape, key
        x = y
    with removed(network, network.blocks):
        assert network(images).shape == logits.shape
    assert list(network.state_dict()) == keys


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_calls_each_layer_once_and_reaches_every_parameter(name: str) -> None:
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
    loss_of(network(images)).backward()
    assert repeated == []
    assert len(seen) > 3
    assert all(output._version == version for output, version in seen.values())
    for key, p in network.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
    first = next(network.parameters()).grad
    assert first.abs().sum() > 0 or "transformer" in next(iter(dict(network.named_parameters())))


@pytest.mark.parametrize("name", FAMILIES)
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


def saving_trainer(folder: Path) -> lightning.Trainer:
    """One that only saves."""
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder, enable_model_summary=False
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> lightning.Trainer:
    return saving_trainer(tmp_path_factory.mktemp("trainer"))


@pytest.mark.parametrize("name", {ARCHITECTURES[name].builder: name for name in reversed(TINY)}.values())
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


@pytest.mark.parametrize(("one", "other"), [
    (("resnet20", {}), ("resnet_cifar", {"depth": 20})),
    (("preact_resnet56", {}), ("resnet56", {"order": "full_preactivation"})),
    (
        ("preact_resnet164", {}),
        ("resnet_cifar", {"depth": 164, "block": "bottleneck", "order": "full_preactivation", "shortcut": "B"}),
    ),
    (("vgg15", {}), ("vgg_cifar", {})),
    (("vgg15_bn", {}), ("vgg15", {"batch_norm": True})),
    (("vgg16_bn", {}), ("vgg16", {"batch_norm": True})),
    (("resnet18", {"width": 64}), ("resnet18", {})),
    (("lenet5_relu", {}), ("lenet5", {"activation": "relu"})),
    (("lenet5_relu_max", {}), ("lenet5_relu", {"pool": "max"})),
    (("mlp20", {}), ("mlp", {"depth": 20, "width": 71})),
    (("vgg13_5x5", {}), ("vgg13", {"kernel_size": 5})),
])  # fmt: skip
def test_two_names_of_one_network_resolve_alike(one: tuple[str, dict], other: tuple[str, dict]) -> None:
    assert resolve(*one) == resolve(*other)


def test_different_networks_resolve_differently() -> None:
    assert resolve("resnet20") != resolve("resnet32")
    assert resolve("resnet20") != resolve("resnet20", {"shortcut": "B"})
    assert resolve("vgg16") != resolve("vgg16_bn")


LEAST = [
    ("alexnet", {}, 63, True),
    ("alexnet", {"pool_size": 2}, 35, True),
    ("nin_cifar", {}, 4, True),
    ("nin_imagenet", {}, 67, True),
    ("vgg16", {}, 32, True),
    ("vgg_cifar", {}, 32, True),
    ("vgg_cifar", {"num_pools": 4}, 16, True),
    ("vgg9", {}, 8, True),
    ("densenet_cifar", {"depth": 22, "bottleneck": True, "compression": 0.5}, 4, True),
    ("densenet121", {}, 29, True),
    ("googlenet", {"width": 2}, 79, True),
    ("googlenet", {"width": 2, "auxiliary": False}, 31, True),
    ("googlenet_cifar", {"width": 2, "auxiliary": True}, 10, True),
    ("googlenet_cifar", {"width": 2}, 4, False),
    ("highway_cifar", {"width": 2}, 4, True),
    *(("unet", {"width": 1, "depth": depth}, least, True) for depth, least in ((1, 18), (2, 44), (3, 92), (4, 188))),
]


@pytest.mark.parametrize(("name", "arguments", "least", "tight"), LEAST)
def test_the_least_input(name: str, arguments: dict[str, Any], least: int, tight: bool) -> None:
    channels = ARCHITECTURES[name].in_channels
    with torch.device("meta"):
        network = build(name, 10, channels, **arguments)
        step = network.input_size.step
        network(torch.empty(2, channels, least, least + step))
        less = torch.empty(2, channels, least - step, least)
        with pytest.raises(ValueError, match=f"{least - step} x {least} pixels; this network takes at least {least} x"):
            network(less)
        network.input_size = InputSize()
        if tight:
            with pytest.raises((RuntimeError, ValueError)):  # the bound is no stricter than it must be
                network(less[..., : least - step])


@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize(
    "name",
    ["mlp", "lenet5", "alexnet_cifar", "nin_cifar", "highway10", "highway_conv_w16", "fcn", "st_cnn", "st_resnet20"],
)
def test_a_fully_connected_layer_holds_to_one_size(name: str, size: int) -> None:
    with torch.device("meta"):
        network = build(name, image_size=size, **({"head": "fc"} if name == "nin_cifar" else {})).eval()
        assert network(torch.empty(1, 3, size, size)).shape == (1, 10)
        with pytest.raises(ValueError, match=f"{size + 1} x {size + 1} pixels; this network takes {size} x {size} pix"):
            network(torch.empty(1, 3, size + 1, size + 1))
