"""GoogLeNet: table 1, paths, auxiliary heads, and torchvision's network with the same weights."""

import pytest
import torch
from torch import Tensor, nn

from modules import Network, build, removed
from modules.blocks.cost import cost
from modules.blocks.features import features
from modules.blocks.network import TrainingOutputs
from modules.families.googlenet import SZEGEDY2014, TABLE1, InceptionDesign, inception
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
        block, out_channels = inception(in_channels, TABLE1[name], InceptionDesign())
        assert block(torch.empty(1, in_channels, grid, grid)).shape == (1, out_channels, grid, grid)
        network = Network(nn.Identity(), {name: block}, nn.Identity())
    assert parameters(block) == count
    assert round(cost(network, (in_channels, grid, grid)).multiply_adds / 1e6) == millions


@pytest.mark.parametrize(("name", "millions"), [("inception3a", 303), ("inception5a", 258)])
def test_reductions_save_most_of_a_block(name: str, millions: int) -> None:
    """The naive module: the 1x1 in front of 3x3 and 5x5 and behind the pool left out."""
    in_channels, grid = BLOCKS[name][0], GRID[name[9]]
    with torch.device("meta"):
        block, out_channels = inception(in_channels, TABLE1[name], InceptionDesign(reduce=False))
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
    sum(nn.functional.cross_entropy(logits, labels) for logits in outputs.auxiliary).backward()
    assert network.block("inception4d").branch["1x1"].branch.conv1.weight.grad is not None
    assert network.block("inception4e").branch["1x1"].branch.conv1.weight.grad is None

    network.eval()
    assert isinstance(network(images), Tensor)
    with torch.no_grad():
        before = network(images)
        for p in network.auxiliary.parameters():
            p.zero_()
        assert torch.equal(network(images), before)
    without = build("googlenet", 5, width=2, auxiliary=False)
    assert isinstance(without(torch.randn(2, 3, 32, 32)), Tensor)
    assert not [name for name in without.state_dict() if name.startswith("auxiliary")]


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
    turned = build("googlenet_cifar", 5, width=2, paths=paths[::-1], reduce=reduce)
    assert list(turned.state_dict()) == list(network.state_dict()), "their order does not matter"


def test_batch_norm_form_has_no_biases_and_no_response_norm() -> None:
    network = build("googlenet_bn", 5, width=2)
    assert all(m.bias is None for m in network.modules() if isinstance(m, nn.Conv2d))
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert [name for name, _ in network.stem.named_children() if "norm" in name] == []
    assert [name for name, _ in build("googlenet", 5, width=2).stem.named_children() if "norm" in name] == [
        "norm1",
        "norm2",
    ]


def test_the_rate_falls_by_4_percent_every_8_epochs() -> None:
    steps = 10 * SZEGEDY2014.epochs
    fall = learning_rate(SZEGEDY2014, 80, steps) / learning_rate(SZEGEDY2014, 0, steps)
    assert fall == pytest.approx(0.96)
