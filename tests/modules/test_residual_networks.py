"""What is special to residual networks: shortcut forms against plain formulas, equal forms of one block, identities."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import Network, build, routed, set_survival
from modules.blocks.block import Block, shape_match
from modules.blocks.features import features
from modules.blocks.residual_block import ORDERS, BlockDesign, residual_block
from modules.families.resnext import ARCHITECTURES as RESNEXTS
from modules.families.resnext import converted

X = torch.randn(3, 4, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHAPES = [(4, 1), (6, 2)]  # width and stride: the identity, and a change of shape


def block_of(width: int = 4, stride: int = 1, in_channels: int = 4, is_first: bool = False, **design: Any) -> Block:
    torch.manual_seed(1)
    return residual_block(BlockDesign(**design), in_channels, width, stride, is_first).double()


@pytest.mark.parametrize(("width", "stride"), SHAPES)
def test_constant_scaling(width: int, stride: int) -> None:
    block = block_of(width, stride, shortcut_scale=0.5, branch_scale=0.25)
    residual = block_of(width, stride).branch(X)
    expected = torch.relu(0.5 * shape_match(4, width, stride)(X) + 0.25 * residual)
    torch.testing.assert_close(block(X), expected)
    torch.testing.assert_close(block(X, route="shortcut"), torch.relu(0.5 * shape_match(4, width, stride)(X)))


@pytest.mark.parametrize("order", ["original", "full_preactivation"])
@pytest.mark.parametrize(("width", "stride"), SHAPES)
@pytest.mark.parametrize("gating", ["exclusive", "shortcut"])
def test_gates(gating: str, width: int, stride: int, order: str) -> None:
    block = block_of(width, stride, gate=gating, gate_bias=-1.0, order=order)
    residual = block_of(width, stride, order=order).branch(X)
    part = block.branch if gating == "exclusive" else block.shortcut
    g = torch.sigmoid(nn.functional.conv2d(X, part.gate.conv.weight, part.gate.conv.bias, stride))
    x = shape_match(4, width, stride)(X)
    expected = (1 - g) * x + g * residual if gating == "exclusive" else (1 - g) * x + residual
    torch.testing.assert_close(block(X), torch.relu(expected) if order == "original" else expected)


@pytest.mark.parametrize(("width", "stride"), SHAPES)
def test_deleting_an_exclusively_gated_block_is_shutting_its_gate(width: int, stride: int) -> None:
    block = block_of(width, stride, gate="exclusive", order="full_preactivation")
    deleted = block(X, route="shortcut")
    assert not torch.allclose(block(X), deleted)
    nn.init.constant_(block.branch.gate.conv.bias, -1e4)
    torch.testing.assert_close(block(X), deleted)


@pytest.mark.parametrize("gating", ["exclusive", "shortcut"])
def test_gates_start_at_their_bias(gating: str) -> None:
    network = build("resnet_cifar", depth=8, width=2, gate=gating, gate_bias=-6.0)
    biases = [p for name, p in network.named_parameters() if name.endswith("gate.conv.bias")]
    assert len(biases) == 3
    assert all((bias == -6).all() for bias in biases)


def test_dropout_on_the_shortcut() -> None:
    block = block_of(shortcut_dropout=0.5, order="full_preactivation")
    residual = block.branch(X)
    torch.manual_seed(2)
    kept = (block(X) - residual) / X
    assert torch.all(torch.isclose(kept, kept.new_tensor(2)) | torch.isclose(kept, kept.new_tensor(0), atol=1e-6))
    assert 0.3 < (kept > 1).double().mean() < 0.7
    torch.testing.assert_close(block.eval()(X), X + block.branch(X))
    halved = block_of(shortcut_dropout=0.5, shortcut_scale=0.5, order="full_preactivation").eval()
    torch.testing.assert_close(halved(X), 0.5 * X + halved.branch(X))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("width", "stride"), SHAPES)
def test_convolutional_shortcut_in_every_block(width: int, stride: int, order: str) -> None:
    block = block_of(width, stride, shortcut="C", order=order)
    u = block.pre(X)
    weight = block.get_parameter("shortcut.conv1.weight")
    shortcut = nn.functional.conv2d(u, weight, stride=stride)
    if "bn" not in ORDERS[order].prefix:
        shortcut = nn.functional.batch_norm(shortcut, None, None, training=True)
    torch.testing.assert_close(block(X), block.post(shortcut + block.branch(u)), rtol=1e-5, atol=1e-5)


def gradient_mask(module: nn.Module, x: Tensor) -> Tensor:
    """Which pixels of x (N, C, H, W) the output depends on."""
    x = x.clone().requires_grad_()
    (module(x) * torch.randn_like(module(x))).sum().backward()
    return x.grad.abs().sum((0, 1)) > 0


def test_strided_projection_sees_a_quarter_of_its_input_and_shortcut_d_all() -> None:
    def seen(shortcut: str, stride_on: str) -> list[float]:
        block = block_of(2, 2, block="bottleneck", shortcut=shortcut, stride_on=stride_on).eval()
        x = torch.randn(8, 4, 8, 8, dtype=torch.float64)
        return [gradient_mask(part, x).double().mean().item() for part in (block.shortcut, block.branch, block)]

    torch.manual_seed(0)
    assert seen("B", "first") == [0.25, 0.25, 0.25]  # ResNet-50 as published
    assert seen("B", "3x3") == [0.25, 1.0, 1.0]  # ResNet-B
    assert seen("D", "3x3") == [1.0, 1.0, 1.0]


def test_shortcut_d_pools_odd_sizes_to_the_size_of_the_branch() -> None:
    block = block_of(6, 2, shortcut="D").eval()
    pooled = nn.functional.avg_pool2d(X, 2, ceil_mode=True, count_include_pad=False)
    assert block.shortcut(X).shape == block.branch(X).shape == (3, 6, 4, 4)
    weight = block.get_parameter("shortcut.conv1.weight")
    expected = nn.functional.conv2d(pooled, weight) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block.shortcut(X), expected)


def test_preactivation_adds_up_within_a_stage_and_its_gradient_has_the_one() -> None:
    """x_L = x_l + sum of F(x_i), dx_L/dx_l = 1 + d(sum of F)/dx_l: He et al. 2016, equations 4 and 5."""
    torch.manual_seed(0)
    network = build("preact_resnet32", width=2).double()
    names = [f"stage2_block{number}" for number in range(2, 6)]  # after the change of shape
    found = features(network, torch.randn(2, 3, 16, 16, dtype=torch.float64))
    x = found["stage2_block1"].detach().requires_grad_()
    y, total = x, torch.zeros_like(x)
    for name in names:
        total = total + network.block(name).branch(y)
        y = network.block(name)(y)
    torch.testing.assert_close(y, x + total, rtol=0, atol=1e-12)
    torch.testing.assert_close(y, found["stage2_block5"], rtol=0, atol=1e-12)
    weights = torch.randn_like(y)
    whole, rest = (torch.autograd.grad((out * weights).sum(), x, retain_graph=True)[0] for out in (y, total))
    assert rest.abs().max() > 0.01
    torch.testing.assert_close(whole, weights + rest, rtol=0, atol=1e-12)


def test_plain_twin_is_the_residual_network_without_shortcuts() -> None:
    networks: list[Network] = []
    for name in ("plain20", "resnet20"):
        torch.manual_seed(3)
        networks.append(build(name, width=2))
    plain, residual = networks
    images = torch.randn(2, 3, 8, 8)
    with routed(residual, dict.fromkeys(residual.blocks, "branch")):
        assert torch.equal(plain(images), residual(images))
    assert not torch.allclose(plain(images), residual(images))


@pytest.mark.parametrize("name", ["plain34", "resnext_cifar", "resnext50_32x4d", "wide_resnet_cifar", "highway_cifar"])
def test_every_family_has_a_plain_twin(name: str) -> None:
    with torch.device("meta"):
        network = build(name, **({} if name.startswith("plain") else {"skip": False}))
    assert {block.merge for _, block in network.named_blocks()} == {"replace"}
    assert not [key for key in network.state_dict() if "shortcut" in key or "gate" in key]


def test_projections_of_the_loss_landscape_networks() -> None:
    with torch.device("meta"):
        network = build("resnet56", shortcut="B")
    assert sum(p.numel() for p in network.parameters()) == 855_770  # Li et al. 2017, 1712.09913, their code


BLOCK_PARAMETERS = {(1, 64): 69_632, (2, 40): 69_760, (4, 24): 69_888, (8, 14): 71_456, (32, 4): 70_144}


@pytest.mark.parametrize(("cardinality", "base_width"), BLOCK_PARAMETERS)
def test_cardinality_at_equal_cost(cardinality: int, base_width: int) -> None:
    """1611.05431, table 2: convolution weights of a block of the first stage."""
    design = BlockDesign("bottleneck", cardinality=cardinality, base_width=base_width)
    for form in ("grouped", "concat", "split"):
        with torch.device("meta"):
            block = residual_block(replace(design, form=form), 256, 64, 1, is_first=False)
        weights = sum(p.numel() for p in block.parameters() if p.dim() > 1)
        assert weights == BLOCK_PARAMETERS[cardinality, base_width], form
    assert f"resnext50_{cardinality}x{base_width}d" in RESNEXTS


def values_and_gradients(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    logits = network(images)
    nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
    return logits, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("order", ["original", "full_preactivation"])
@pytest.mark.parametrize("form", ["concat", "split"])
def test_three_forms_of_a_block_are_one_function(form: str, order: str) -> None:
    """1611.05431, figure 3: equal logits, running statistics and gradients, from the same seed."""
    arguments = {"depth": 11, "width": 4, "cardinality": 4, "base_width": 32, "order": order}
    networks = []
    for name in ("grouped", form):
        torch.manual_seed(0)
        networks.append(build("resnext_cifar", form=name, **arguments).double())
    grouped, other = networks
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    (logits, gradients), (other_logits, other_gradients) = (values_and_gradients(n, images) for n in networks)
    torch.testing.assert_close(other_logits, logits, rtol=1e-9, atol=1e-9)
    expected = converted(gradients, other_gradients, 4)
    assert any(".paths.path4.conv2" in name for name in other_gradients)
    for name, gradient in other_gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9, msg=name)
    statistics = converted(grouped.state_dict(), other.state_dict(), 4)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, statistics[name], rtol=1e-9, atol=1e-9, msg=name)
    torch.testing.assert_close(other.eval()(images), grouped.eval()(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "arguments"), [
    ("resnext_cifar", {"depth": 11, "cardinality": 2}),
    ("resnext_cifar", {"depth": 11, "cardinality": 2, "form": "split"}),
    ("resnet_cifar", {"depth": 8, "gate": "exclusive"}),
    ("resnet_cifar", {"depth": 8, "gate": "shortcut"}),
    ("resnet_cifar", {"depth": 8, "shortcut_scale": 0.5}),
    ("wide_resnet_cifar", {"depth": 10, "widening": 2}),
])  # fmt: skip
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_stochastic_depth(name: str, arguments: dict[str, Any], per: str) -> None:
    torch.manual_seed(0)
    network = build(name, width=2, survival_prob=0.5, drop_per=per, **arguments)
    images = torch.randn(4, 3, 8, 8)
    assert [block.survival_prob for _, block in network.named_blocks()] == pytest.approx([5 / 6, 4 / 6, 3 / 6])
    nn.functional.cross_entropy(network(images), torch.arange(4)).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    # At test time: the branch times its probability (per batch), or as it is.
    block = network.eval().block("stage2_block1")
    x = network.block("stage1_block1")(network.stem(images))
    scale = 4 / 6 if per == "batch" else 1.0
    u = block.pre(x)
    torch.testing.assert_close(block(x), block.post(block.shortcut(u) + scale * block.branch(u)))
    # Surviving for certain, it is the published network.
    set_survival(network, 1.0, "uniform")
    plain = build(name, width=2, **arguments).eval()
    plain.load_state_dict(network.state_dict())
    assert torch.equal(network(images), plain(images))
