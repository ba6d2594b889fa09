"""Every name of the registry: published parameter counts, shapes, gradients, deletable blocks, arguments."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from modules import ARCHITECTURES, Network, build, removed, resolve
from modules.cost import cost


class Row(NamedTuple):
    parameters: int  # of the network as published, weights and biases
    image: int  # width of the published input
    num_classes: int
    tiny: dict[str, Any] | None  # arguments that make it small enough to compute with; None: only on the meta device
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed; what the name alone does not say


CIFAR_RESNETS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}  # 1512.03385, table 6
TABLE = {
    "resnet_cifar": Row(272_474, 32, 10, {"width": 2}, {"shortcut": "B"}),
    **{f"resnet{depth}": Row(count, 32, 10, {"width": 2}) for depth, count in CIFAR_RESNETS.items()},
    "resnet1202": Row(19_421_274, 32, 10, None),
    # Pre-activation moves every batch norm to another width; the sum over a network stays the same.
    **{f"preact_resnet{depth}": Row(count, 32, 10, {"width": 2}) for depth, count in CIFAR_RESNETS.items()},
    "preact_resnet164": Row(1_703_258, 32, 10, {"width": 2}),
    "preact_resnet1001": Row(10_327_706, 32, 10, None),
    "resnet18": Row(11_689_512, 224, 1000, {"width": 2}),
    "resnet34": Row(21_797_672, 224, 1000, {"width": 2}),
    "resnet50": Row(25_557_032, 224, 1000, {"width": 2}),
    "resnet101": Row(44_549_160, 224, 1000, {"width": 2}),
    "resnet152": Row(60_192_808, 224, 1000, {"width": 2}),
    # 13 convolutions 14 714 688, hidden layer 262 656, classifier 5130; batch norm adds 2 * 4224.
    "vgg_cifar": Row(14_982_474, 32, 10, {"width": 2, "hidden": 8}),
    "vgg15": Row(14_982_474, 32, 10, {"width": 2, "hidden": 8}),
    "vgg15_bn": Row(14_990_922, 32, 10, {"width": 2, "hidden": 8}),
    "vgg11": Row(132_863_336, 224, 1000, None),
    "vgg11_bn": Row(132_868_840, 224, 1000, None),
    "vgg13": Row(133_047_848, 224, 1000, None),
    "vgg13_bn": Row(133_053_736, 224, 1000, None),
    "vgg16": Row(138_357_544, 224, 1000, None),
    "vgg16_bn": Row(138_365_992, 224, 1000, None),
    "vgg19": Row(143_667_240, 224, 1000, None),
    "vgg19_bn": Row(143_678_248, 224, 1000, None),
}
TINY = {name: {**row.arguments, **row.tiny} for name, row in TABLE.items() if row.tiny is not None}


def published(name: str) -> Network:
    """The network of the table, without memory."""
    with torch.device("meta"):
        return build(name, TABLE[name].num_classes, **TABLE[name].arguments)


def test_table_names_every_architecture() -> None:
    assert set(TABLE) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", TABLE)
def test_published_network(name: str) -> None:
    row = TABLE[name]
    network = published(name)
    assert sum(p.numel() for p in network.parameters()) == row.parameters

    keys = list(network.state_dict())
    images = torch.empty(2, 3, row.image, row.image, device="meta")
    logits = network(images)
    assert logits.shape == (2, row.num_classes)
    logits.sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []

    # Each block alone: deleted, it gives the shape that it gives when it is not.
    with torch.no_grad():
        x = network.stem(images)
        for key, block in network.named_blocks():
            y = block(x)
            assert block(x, route="shortcut").shape == y.shape, key
            x = y
        with removed(network, network.blocks):
            assert network(images).shape == logits.shape
    assert list(network.state_dict()) == keys


@pytest.mark.parametrize("name", TINY)
def test_gradient_is_finite_and_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, 7, 1, **TINY[name])
    logits = network(torch.randn(4, 1, 32, 32))
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for key, p in network.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
    first = next(network.parameters()).grad
    assert first is not None
    assert first.abs().sum() > 0


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20", "resnet50", "vgg15", "vgg15_bn"])
def test_every_block_can_be_deleted_alone(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, 7, 1, **TINY[name]).eval()
    images = torch.randn(2, 1, 32, 32)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.no_grad():
        for key in network.blocks:
            with removed(network, [key]):
                logits = network(images)
            assert logits.shape == (2, 7), key
            assert logits.isfinite().all(), key
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


def test_same_seed_same_weights() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build("resnet20", width=2).state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_multiply_adds_as_published() -> None:
    with torch.device("meta"):
        resnet34, vgg19 = (build(name, 1000) for name in ("resnet34", "vgg19"))
    deep, wide = cost(resnet34, (3, 224, 224)), cost(vgg19, (3, 224, 224))
    assert deep.multiply_adds == pytest.approx(3.66e9, rel=0.01)  # 1512.03385, table 1: 3.6 x 10^9
    assert wide.multiply_adds == pytest.approx(19.63e9, rel=0.01)  # 1512.03385, section 3.3: 19.6 x 10^9
    assert 0.18 < deep.multiply_adds / wide.multiply_adds < 0.19  # "only 18 % of VGG-19"
    assert deep.parameters == TABLE["resnet34"].parameters


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
        ("resnet21", {}, ["resnet21", "resnet20", "vgg16"]),
        ("resnet20", {"widht": 3}, ["widht", "width"]),
        ("resnet_cifar", {"depth": 21}, ["21", "6n"]),
        ("resnet_cifar", {"depth": 2}, ["2", "6n"]),
        ("resnet_cifar", {"depth": 32, "block": "bottleneck"}, ["32", "9n"]),
        ("resnet20", {"block": "wide"}, ["wide", "basic", "bottleneck"]),
        ("resnet20", {"order": "bn"}, ["'bn'", "original", "full_preactivation"]),
        ("resnet20", {"shortcut": "D"}, ["'D'", "A, B, C"]),
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
def test_bad_arguments_are_named(name: str, arguments: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        build(name, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in named if word not in message] == []


def test_plain_twin_has_the_parameters_of_option_a() -> None:
    with torch.device("meta"):
        plain = build("resnet56", skip=False)
    assert sum(p.numel() for p in plain.parameters()) == CIFAR_RESNETS[56]
    assert {block.merge for _, block in plain.named_blocks()} == {"replace"}
