"""What is special to the networks without shortcuts: MLP, LeNet-5, AlexNet, VGG, Network in Network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import Network, build
from modules.blocks.features import shapes
from modules.blocks.layers import ResponseNorm


def on_meta(name: str, num_classes: int = 10, in_channels: int = 3, **arguments: object) -> Network:
    with torch.device("meta"):
        return build(name, num_classes, in_channels, **arguments)


def count(network: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Module) -> int:
    return sum(p.numel() for m in network.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False))


def assert_same_logits(ours: nn.Module, reference: nn.Module, images: Tensor) -> None:
    """Both hold their tensors in the order of the layers."""
    ours.load_state_dict(dict(zip(ours.state_dict(), reference.state_dict().values(), strict=True)))
    with torch.no_grad():
        expected = reference.eval()(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-5, atol=1e-6)


# --- MLP and LeNet-5 ---


def test_mlp_is_linear_layers_in_a_row() -> None:
    hidden = [nn.Linear(50, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()]
    reference = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(6, 3))
    ours = build("mlp", 3, 2, depth=3, width=6, activation="tanh", dropout=0.5, image_size=5)
    assert_same_logits(ours, reference, torch.randn(4, 2, 5, 5))
    assert sum(isinstance(module, nn.Dropout) for module in ours.modules()) == 3
    assert list(build("mlp", depth=1, image_size=2).blocks) == []


LENETS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "": (nn.Sigmoid, nn.AvgPool2d), "_relu": (nn.ReLU, nn.AvgPool2d), "_relu_max": (nn.ReLU, nn.MaxPool2d),
}  # fmt: skip


@pytest.mark.parametrize("form", LENETS)
@pytest.mark.parametrize(("size", "flattened"), [(28, 400), (16, 64), (12, 16)])
def test_lenet(form: str, size: int, flattened: int) -> None:
    activation, pool = LENETS[form]
    reference = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), activation(), pool(2), nn.Conv2d(6, 16, 5), activation(), pool(2), nn.Flatten(),
        nn.Linear(flattened, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, 10),
    )  # fmt: skip
    assert_same_logits(build(f"lenet5{form}", 10, 1, image_size=size), reference, torch.randn(3, 1, size, size))


def test_lenet_starts_as_glorot() -> None:
    torch.manual_seed(0)
    weight = build("lenet5_relu", in_channels=1).block("fc3").branch.get_submodule("fc").weight
    bound = (6 / (400 + 120)) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound


# --- AlexNet ---


def test_alexnet_in_numbers() -> None:
    network = on_meta("alexnet", 1000)
    fully_connected = count(network, nn.Linear)
    assert fully_connected / count(network) == pytest.approx(0.962, abs=5e-4)
    assert count(on_meta("alexnet", 1000, groups=1)) == 62_378_344
    neurons, x = [], torch.empty(1, 3, 224, 224, device="meta")
    for _, block in network.named_blocks():
        neurons.append(block.branch(x).numel())
        x = block(x)
    # Figure 2, but for the first, where it has 253 440: not the 55 x 55 x 96 of the text.
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096]


def test_alexnet_starts_as_published() -> None:
    torch.manual_seed(0)
    network = build("alexnet", widths=(16, 32, 32, 32, 32), hidden=64)
    biases = {key: p for key, p in network.named_parameters() if key.endswith("bias")}
    ones = [key.split(".")[1] for key, bias in biases.items() if torch.equal(bias, torch.ones_like(bias))]
    zeros = [key.split(".")[1] for key, bias in biases.items() if torch.equal(bias, torch.zeros_like(bias))]
    assert ones == ["conv2", "conv4", "conv5", "fc6", "fc7"]
    assert zeros == ["conv1", "conv3", "fc"]
    for key, p in network.named_parameters():
        if key.endswith("weight"):
            assert p.std().item() == pytest.approx(0.01, rel=0.1), key


def test_response_norm_is_the_formula_of_the_paper() -> None:
    x = 30 * torch.randn(2, 7, 3, 4, dtype=torch.float64)
    expected = torch.empty_like(x)
    for i in range(7):
        neighbours = x[:, max(0, i - 2) : i + 3]
        expected[:, i] = x[:, i] / (2 + 1e-4 * (neighbours**2).sum(1)) ** 0.75
    torch.testing.assert_close(ResponseNorm()(x), expected)
    # torch divides alpha by n.
    torch.testing.assert_close(nn.LocalResponseNorm(5, 5 * 1e-4, 0.75, 2.0)(x), expected)


@pytest.mark.parametrize(("name", "arguments"), [("alexnet", {"widths": (8,) * 5}), ("alexnet_cifar", {"width": 8})])
@pytest.mark.parametrize("groups", [1, 2])
def test_streams_do_not_see_each_other(name: str, arguments: dict[str, Any], groups: int) -> None:
    torch.manual_seed(0)
    network = build(name, groups=groups, **arguments)
    x = torch.randn(1, 8, 9, 9, requires_grad=True)
    conv = network.block("conv2").branch.get_submodule("conv")
    conv(x)[:, :4].sum().backward()
    assert x.grad[:, :4].abs().sum() > 0
    assert (x.grad[:, 4:].abs().sum() == 0) == (groups == 2)


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [("alexnet", {"hidden": 8}, 224), *(("alexnet_cifar", {"image_size": size}, size) for size in (8, 16, 28, 32))],
)
def test_pooling_overlaps_or_not_at_the_same_resolution(name: str, arguments: dict[str, Any], size: int) -> None:
    overlapping, apart = (on_meta(name, pool_size=pool_size, **arguments) for pool_size in (3, 2))
    assert shapes(overlapping, (3, size, size)) == shapes(apart, (3, size, size))
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 2, 2] = 1  # a corner that three windows of 3 share with the one of 2
    seen = [(network.block("conv1").post(x) > 0).sum().item() for network in (overlapping, apart)]
    assert seen == [4, 1]


# --- VGG ---


def test_one_5x5_for_each_pair_of_3x3() -> None:
    """Section 4.1: a shallower network of the same field has more parameters."""
    deep, shallow = on_meta("vgg13", 1000), on_meta("vgg13_5x5", 1000)
    assert round(count(deep, nn.Conv2d) / 1e6, 2) == 9.40
    assert round(count(shallow, nn.Conv2d) / 1e6, 2) == 10.86
    assert count(deep, nn.Linear) == count(shallow, nn.Linear)
    of_group = {f"conv{group}_2": f"conv{group}_1" for group in range(1, 6)}
    deep_shapes, shallow_shapes = (shapes(network, (3, 224, 224)) for network in (deep, shallow))
    assert [deep_shapes[two] for two in of_group] == [shallow_shapes[one] for one in of_group.values()]


@pytest.mark.parametrize(("kernel_size", "groups"), [(5, (2, 2, 2)), (5, (2, 4)), (7, (3, 3))])
def test_a_large_kernel_sees_what_the_stack_sees(kernel_size: int, groups: tuple[int, ...]) -> None:
    def field(kernel: int) -> int:
        """The pixels, in a row, that the centre of the first group's output depends on."""
        network = build("vgg_cifar", convs_per_group=groups, num_pools=0, width=4, kernel_size=kernel)
        x = torch.ones(1, 3, 15, 15, requires_grad=True)
        y = x
        for name, block in network.named_blocks():
            if name.startswith("conv1_"):
                y = block.branch.get_submodule("conv")(y)
        y[0, 0, 7, 7].backward()
        return int((x.grad[0].abs().sum(0)[7] > 0).sum())

    assert field(3) == field(kernel_size) == kernel_size


def test_configurations_of_table_1() -> None:
    kernels = [m.kernel_size[0] for m in on_meta("vgg16_c").modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    norms = [name for name, m in on_meta("vgg11_lrn").named_modules() if isinstance(m, ResponseNorm)]
    assert norms == ["blocks.conv1_1.branch.norm"]


@pytest.mark.parametrize("size", [16, 28, 32])
def test_vgg9_takes_small_images(size: int) -> None:
    network = build("vgg9_bn", width=2).eval()
    assert shapes(network, (3, size, size))["conv3_3"] == (8 * 16,)
    assert network(torch.randn(2, 3, size, size)).shape == (2, 10)


def test_a_bias_before_batch_norm_changes_nothing() -> None:
    """1502.03167, section 3.2: the mean takes it away, so it needs no gradient either."""
    torch.manual_seed(0)
    network = build("vgg15_bn", width=4, hidden=8, dropout=0.0).double().train()
    images, labels = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8)
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d)]
    before = network(images)
    with torch.no_grad():
        for bias in biases:
            bias.normal_(0, 3)
    after = network(images)
    torch.testing.assert_close(after, before, rtol=1e-7, atol=1e-7)
    nn.functional.cross_entropy(after, labels).backward()
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    for bias, weight in zip(biases, weights, strict=True):
        assert bias.grad.abs().max() < 1e-10 * weight.grad.abs().max()


# --- Network in Network ---


def test_nin_shapes() -> None:
    """2106.11342, section 8.3: what each block and its pooling give."""
    network, x, found = on_meta("nin_imagenet", 10, 1), torch.empty(1, 1, 224, 224, device="meta"), []
    for _, block in network.named_blocks():
        found += [tuple(block.branch(x).shape[1:]), tuple(block(x).shape[1:])]
        x = block(x)
    assert found == [
        (96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12), (384, 12, 12), (384, 5, 5), (10, 5, 5), (10, 5, 5),
    ]  # fmt: skip
    assert network.head.pool(x).shape == (1, 10, 1, 1)
    small = shapes(on_meta("nin_cifar"), (3, 32, 32))
    assert [small[f"mlpconv{number}"] for number in (1, 2, 3)] == [(96, 16, 16), (192, 8, 8), (10, 8, 8)]


def reference_nin(head: list[nn.Module]) -> nn.Sequential:
    def mlpconv(channels: int, widths: tuple[int, int, int], kernel_size: int) -> list[nn.Module]:
        first, second, third = widths
        conv = nn.Conv2d(channels, first, kernel_size, padding=kernel_size // 2)
        return [conv, nn.ReLU(), nn.Conv2d(first, second, 1), nn.ReLU(), nn.Conv2d(second, third, 1), nn.ReLU()]

    return nn.Sequential(
        *mlpconv(3, (12, 10, 6), 5), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(0.5),
        *mlpconv(6, (12, 12, 12), 5), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(0.5),
        *mlpconv(12, (12, 12, 5), 3), *head,
    )  # fmt: skip


@pytest.mark.parametrize("head", ["gap", "fc", "fc_dropout"])
def test_heads_of_nin(head: str) -> None:
    torch.manual_seed(0)
    layers = {
        "gap": [nn.AvgPool2d(4), nn.Flatten()],
        "fc": [nn.Flatten(), nn.Linear(5 * 4 * 4, 5)],
        "fc_dropout": [nn.Flatten(), nn.Dropout(0.5), nn.Linear(5 * 4 * 4, 5)],
    }[head]
    ours = build("nin_cifar", 5, width=12, head=head, image_size=16)
    reference = reference_nin(layers)
    assert_same_logits(ours, reference, torch.randn(3, 3, 16, 16))
    dropouts = [sum(isinstance(m, nn.Dropout) for m in network.modules()) for network in (ours, reference)]
    assert dropouts[0] == dropouts[1]


@pytest.mark.parametrize("name", ["nin_cifar", "nin_imagenet"])
def test_conventional_body_has_no_1x1_convolutions(name: str) -> None:
    size = 224 if name == "nin_imagenet" else 32
    nin, conventional = on_meta(name), on_meta(name, mlpconv=False)
    assert {m.kernel_size for m in conventional.modules() if isinstance(m, nn.Conv2d)}.isdisjoint({(1, 1)})
    assert shapes(nin, (3, size, size)) == shapes(conventional, (3, size, size))
