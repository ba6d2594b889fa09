"""GoogLeNet: table 1, paths, auxiliary heads, and torchvision's network with the same weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchvision
from test_reference import assert_same, filled, with_weights_of
from torch import Tensor, nn

from modules import Network, build, removed
from modules.blocks.block import Block
from modules.blocks.cost import cost
from modules.blocks.features import features
from modules.blocks.network import TrainingOutputs
from modules.families.googlenet import SZEGEDY2014, TABLE1, inception
from modules.training.optimisation import training_loss
from modules.training.recipe import learning_rate

# 1409.4842, table 1: channels read, parameters and millions of multiply-adds of each block, both computed from it.
BLOCKS = {
    "inception3a": (192, 163_696, 128),
    "inception3b": (256, 388_736, 304),
    "inception4a": (480, 376_176, 74),
    "inception4b": (512, 449_160, 88),
    "inception4c": (512, 510_104, 100),
    "inception4d": (512, 605_376, 119),
    "inception4e": (528, 868_352, 170),
    "inception5a": (832, 1_043_456, 51),
    "inception5b": (832, 1_444_080, 71),
}
GRID = {"3": 28, "4": 14, "5": 7}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_table_1(name: str) -> None:
    in_channels, count, millions = BLOCKS[name]
    grid = GRID[name[9]]
    with torch.device("meta"):
        block, out_channels = inception(in_channels, TABLE1[name])
        assert block(torch.empty(1, in_channels, grid, grid)).shape == (1, out_channels, grid, grid)
        network = Network(nn.Identity(), {name: block}, nn.Identity())
    assert parameters(block) == count
    assert round(cost(network, (in_channels, grid, grid)).multiply_adds / 1e6) == millions


@pytest.mark.parametrize(("name", "millions"), [("inception3a", 303), ("inception5a", 258)])
def test_reductions_save_most_of_a_block(name: str, millions: int) -> None:
    """The naive module: the 1x1 in front of 3x3 and 5x5 and behind the pool left out."""
    in_channels, grid = BLOCKS[name][0], GRID[name[9]]
    with torch.device("meta"):
        block, out_channels = inception(in_channels, TABLE1[name], reduce=False)
        network = Network(nn.Identity(), {name: block}, nn.Identity())
    row = TABLE1[name]
    assert out_channels == row.one + row.three + row.five + in_channels
    assert round(cost(network, (in_channels, grid, grid)).multiply_adds / 1e6) == millions


def test_whole_network_as_published() -> None:
    with torch.device("meta"):
        network = build("googlenet", 1000)
        naive = build("googlenet", 1000, reduce=False)
        found = features(network.eval(), torch.empty(1, 3, 224, 224))
    assert parameters(network) == 6_998_552 + 6_379_728
    assert parameters(network.auxiliary) == 6_379_728
    assert cost(network, (3, 224, 224)).parameters == 6_998_552  # the heads are gone after training
    assert cost(naive, (3, 224, 224)).multiply_adds > 5 * cost(network, (3, 224, 224)).multiply_adds
    # Table 1's output sizes; a stage's pool belongs to its last block.
    assert [tuple(y.shape[1:]) for y in found.values()] == [
        (256, 28, 28), (480, 14, 14), (512, 14, 14), (512, 14, 14), (512, 14, 14), (528, 14, 14), (832, 7, 7),
        (832, 7, 7), (1024, 7, 7),
    ]  # fmt: skip


def test_auxiliary_grid_is_4_by_4_as_published() -> None:
    head = build("googlenet", width=2).auxiliary["inception4a"]
    x = torch.randn(1, 16, 14, 14)
    pooled = head.pool(x)
    assert pooled.shape[2:] == (4, 4)
    assert torch.equal(head.grid(pooled), pooled)


def test_auxiliary_heads_are_trained_and_gone_in_evaluation() -> None:
    torch.manual_seed(0)
    network = build("googlenet", 5, width=2)
    images, labels = torch.randn(3, 3, 79, 79), torch.tensor([0, 3, 4])
    outputs = network(images)
    assert isinstance(outputs, TrainingOutputs)
    assert [head.shape for head in outputs.auxiliary] == [(3, 5), (3, 5)]
    losses = [nn.functional.cross_entropy(logits, labels) for logits in (outputs.logits, *outputs.auxiliary)]
    torch.testing.assert_close(training_loss(outputs, labels, SZEGEDY2014), losses[0] + 0.3 * (losses[1] + losses[2]))
    (losses[1] + losses[2]).backward()
    assert network.block("inception4d").branch["1x1"].branch.conv1.weight.grad is not None
    assert network.block("inception4e").branch["1x1"].branch.conv1.weight.grad is None

    network.eval()
    assert isinstance(network(images), Tensor)
    with torch.no_grad():
        before = network(images)
        for p in network.auxiliary.parameters():
            p.zero_()
        assert torch.equal(network(images), before)


def test_without_auxiliary_heads_there_are_only_logits() -> None:
    network = build("googlenet", 5, width=2, auxiliary=False)
    assert isinstance(network(torch.randn(2, 3, 32, 32)), Tensor)
    assert not [name for name in network.state_dict() if name.startswith("auxiliary")]


@torch.no_grad()
@pytest.mark.parametrize("path", ["1x1", "3x3", "5x5", "pool"])
def test_a_deleted_path_gives_zeros_in_its_place(path: str) -> None:
    torch.manual_seed(0)
    network = build("googlenet_cifar", width=8).eval()
    images = torch.randn(2, 3, 16, 16)
    row = [round(count / 8) for count in TABLE1["inception4b"]]
    widths = {"1x1": row[0], "3x3": row[2], "5x5": row[4], "pool": row[5]}
    start = sum(widths[name] for name in list(widths)[: list(widths).index(path)])
    intact = features(network, images, ["inception4b"])["inception4b"]
    with removed(network, [f"inception4b.branch.{path}"]):
        lesioned = features(network, images, ["inception4b"])["inception4b"]
    gone = lesioned[:, start : start + widths[path]]
    assert intact[:, start : start + widths[path]].abs().sum() > 0
    assert torch.equal(gone, torch.zeros_like(gone))
    others = [c for c in range(intact.shape[1]) if not start <= c < start + widths[path]]
    assert torch.equal(lesioned[:, others], intact[:, others])


@pytest.mark.parametrize("paths", [("3x3",), ("1x1", "pool"), ("5x5", "1x1"), ("1x1", "3x3", "5x5", "pool")])
@pytest.mark.parametrize("reduce", [True, False])
def test_fewer_paths_make_narrower_blocks(paths: tuple[str, ...], reduce: bool) -> None:
    network = build("googlenet_cifar", 5, width=2, paths=paths, reduce=reduce)
    outputs = network(torch.randn(2, 3, 16, 16))
    outputs.sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    for _, block in network.named_blocks():
        assert sorted(block.branch) == sorted(paths)
    with torch.no_grad():
        assert build("googlenet_cifar", 5, width=2, paths=paths[::-1])(torch.randn(2, 3, 16, 16)).shape == (2, 5)


def test_the_order_of_the_paths_argument_does_not_matter() -> None:
    networks = [build("googlenet_cifar", width=2, paths=paths) for paths in (("1x1", "5x5"), ("5x5", "1x1"))]
    assert list(networks[0].state_dict()) == list(networks[1].state_dict())


def test_kernel_of_the_wide_path() -> None:
    network = build("googlenet_cifar", width=2, kernel=3)
    path = network.block("inception3a.branch.5x5").branch
    assert path.conv2.kernel_size == (3, 3)


def test_batch_norm_form_has_no_biases_and_no_response_norm() -> None:
    network = build("googlenet_bn", 5, width=2)
    assert all(m.bias is None for m in network.modules() if isinstance(m, nn.Conv2d))
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert [name for name, _ in network.stem.named_children() if "norm" in name] == []
    assert [name for name, _ in build("googlenet", 5, width=2).stem.named_children() if "norm" in name] == [
        "norm1",
        "norm2",
    ]


def test_small_images() -> None:
    network = build("googlenet_cifar", 5, width=2).eval()
    for size in (4, 16, 17, 28, 32):
        assert network(torch.randn(2, 3, size, size)).shape == (2, 5)
    with pytest.raises(ValueError, match="at least 4 x 4"):
        network(torch.randn(2, 3, 3, 3))


@pytest.mark.parametrize(
    ("name", "auxiliary", "least"),
    [("googlenet", True, 79), ("googlenet", False, 31), ("googlenet_cifar", True, 10), ("googlenet_cifar", False, 4)],
)
def test_least_input(name: str, auxiliary: bool, least: int) -> None:
    network = build(name, 5, width=2, auxiliary=auxiliary)
    network(torch.randn(2, 3, least, least))
    with pytest.raises(ValueError, match=f"at least {least} x {least}"):
        network(torch.randn(2, 3, least - 1, least))


def test_the_rate_falls_by_4_percent_every_8_epochs() -> None:
    steps = 10 * SZEGEDY2014.epochs
    fall = learning_rate(SZEGEDY2014, 80, steps) / learning_rate(SZEGEDY2014, 0, steps)
    assert fall == pytest.approx(0.96)


BRANCHES = {"1x1.branch": "branch1", "3x3.branch": "branch2.", "5x5.branch": "branch3.", "pool.branch": "branch4.1"}


def torchvision_name(ours: str) -> str:
    """Our name of a tensor -> torchvision's."""
    if ours.startswith("head."):
        return ours.removeprefix("head.")
    ours = re.sub(r"^stem\.(conv\d)\.(conv|bn)1", r"\1.\2", ours)
    found = re.fullmatch(r"blocks\.(inception\w\w)\.branch\.(\w+\.branch)\.(conv|bn)(\d)\.(\w+)", ours)
    if found is None:
        return ours
    block, path, layer, index, tensor = found.groups()
    branch = BRANCHES[path] + (str(int(index) - 1) if BRANCHES[path].endswith(".") else "")
    return f"{block}.{branch}.{layer}.{tensor}"


def test_against_torchvision() -> None:
    """Its 5x5 path has a 3x3 convolution and its pool before 5a is 2x2; all else is the batch norm form."""
    reference = filled(
        lambda: torchvision.models.googlenet(
            num_classes=11, aux_logits=False, transform_input=False, init_weights=False, dropout=0.0
        )
    )
    ours = with_weights_of(
        reference, "googlenet_bn", torchvision_name, kernel=3, auxiliary=False, dropout=0.0
    )  # fmt: skip
    last = ours.block("inception4e")
    assert isinstance(last, Block)
    last.post = nn.MaxPool2d(2, 2, ceil_mode=True)
    assert_same(ours, reference, torchvision_name)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"paths": ()}, ["()", "1x1, 3x3, 5x5, pool"]),
        ({"paths": ("7x7",)}, ["7x7", "1x1, 3x3, 5x5, pool"]),
        ({"paths": ("1x1", "1x1")}, ["each once", "1x1"]),
        ({"kernel": 4}, ["4", "odd"]),
        ({"kernel": 0}, ["0", "odd"]),
        ({"dropout": 1.0}, ["1.0", "[0, 1)"]),
        ({"width": 0}, ["width", "0"]),
    ],
)
@pytest.mark.parametrize("name", ["googlenet", "googlenet_cifar"])
def test_bad_arguments_are_named(lacking: Any, name: str, arguments: dict[str, Any], named: list[str]) -> None:
    assert lacking(name, arguments, named) == []
