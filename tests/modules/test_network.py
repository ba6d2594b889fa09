"""Chains with blocks inside blocks, paths side by side, auxiliary heads, recomputation, sizes, features."""

import pytest
import torch
from torch import Tensor, nn

from modules import Block, Network, build, removed, routed
from modules.blocks.features import features, shapes
from modules.blocks.network import InputSize, TrainingOutputs, evaluating
from modules.blocks.parallel import Parallel, Zeros, parallel
from modules.training.optimisation import training_loss
from modules.training.recipe import HE2015_CIFAR


def nested() -> Network:
    """A chain of a block with two paths, and a block that holds another."""
    torch.manual_seed(0)
    paths = parallel({"1x1": (nn.Conv2d(3, 2, 1), 2), "3x3": (nn.Conv2d(3, 4, 3, padding=1), 4)})
    inner = Block(nn.Conv2d(6, 6, 3, padding=1))
    outer = Block(nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.Sequential()), merge="add")
    outer.branch.add_module("deeper", inner)
    mixed = Block(paths, Zeros(6), merge="replace")
    stem = nn.Sequential()
    stem.add_module("twice", Block(nn.Conv2d(3, 3, 1)))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return Network(stem, {"mixed": mixed, "outer": outer}, head)


def test_blocks_inside_blocks_have_dotted_names() -> None:
    network = nested()
    assert [name for name, _ in network.named_blocks()] == ["mixed", "outer"]
    assert [name for name, _ in network.every_block()] == [
        "stem.twice", "mixed", "mixed.branch.1x1", "mixed.branch.3x3", "outer", "outer.branch.deeper"
    ]  # fmt: skip
    assert network.block("outer.branch.deeper") is network.get_submodule("blocks.outer.branch.deeper")
    with pytest.raises(ValueError, match=r"no block 'outer.deeper'; blocks are stem.twice, mixed"):
        network.block("outer.deeper")


def test_a_deleted_path_gives_zeros_and_leaves_the_others() -> None:
    network, x = nested().eval(), torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        intact = features(network, x, ["mixed"])["mixed"]
        with removed(network, ["mixed.branch.3x3"]):
            lesioned = features(network, x, ["mixed"])["mixed"]
    assert torch.equal(lesioned[:, :2], intact[:, :2])
    assert torch.equal(lesioned[:, 2:], torch.zeros_like(intact[:, 2:]))
    assert intact[:, 2:].abs().min() > 0
    assert network.block("mixed.branch.3x3").route == "both"


def test_routes_of_inner_and_stem_blocks_change_the_logits_and_come_back() -> None:
    network, x = nested().eval(), torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        intact = network(x)
        for name in ("stem.twice", "outer.branch.deeper"):
            with routed(network, {name: "shortcut"}):
                assert not torch.allclose(network(x), intact)
        assert torch.equal(network(x), intact)


def test_parallel_paths_concatenate_in_order() -> None:
    paths = Parallel({"a": Block(nn.Identity(), merge="replace"), "b": Block(Zeros(1), merge="replace")})
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(paths(x), torch.cat([x, torch.zeros(2, 1, 4, 4)], 1))
    with pytest.raises(ValueError, match="at least one path"):
        parallel({})


def with_auxiliary_head() -> Network:
    torch.manual_seed(0)

    def head() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def block() -> Block:
        return Block(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)))

    blocks = {f"block{i}": block() for i in range(1, 6)}
    return Network(nn.Conv2d(3, 4, 3, padding=1), blocks, head(), auxiliary={"block2": head(), "block4": head()})


def test_auxiliary_heads_exist_in_training_alone() -> None:
    network, x, labels = with_auxiliary_head(), torch.randn(6, 3, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    outputs = network(x)
    assert isinstance(outputs, TrainingOutputs)
    assert [logits.shape for logits in (outputs.logits, *outputs.auxiliary)] == [(6, 3)] * 3
    losses = [nn.functional.cross_entropy(logits, labels) for logits in (outputs.logits, *outputs.auxiliary)]
    loss = training_loss(outputs, labels, HE2015_CIFAR)
    torch.testing.assert_close(loss, losses[0] + 0.3 * (losses[1] + losses[2]))
    assert isinstance(network.eval()(x), Tensor)


@pytest.mark.parametrize("recompute", [1, 2, 5, 9])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_recomputation_changes_no_number(recompute: int, auxiliary: bool) -> None:
    """Loss, gradients, batch norm statistics and dropout masks, to the last bit."""
    found = []
    for groups in (0, recompute):
        network = with_auxiliary_head()
        if not auxiliary:
            del network.auxiliary
        network.recompute = groups
        torch.manual_seed(1)
        loss = training_loss(network(torch.randn(6, 3, 5, 5)), torch.tensor([0, 1, 2, 0, 1, 2]), HE2015_CIFAR)
        loss.backward()
        found.append([loss, *(p.grad for p in network.parameters()), *network.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert network.block("block1").branch[1].num_batches_tracked == 1


def test_recomputation_keeps_fewer_activations() -> None:
    def kept(groups: int) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        network = build("resnet56", width=4)
        network.recompute = groups
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.randn(8, 3, 16, 16))
        return sum(storages.values())

    assert kept(5) < 0.35 * kept(0)


@pytest.mark.parametrize(("allowed", "good", "bad"), [
    (InputSize(), [1, 33], []),
    (InputSize(16), [16, 17], [15]),
    (InputSize(188, 16), [188, 204, 572], [187, 570, 172]),
    (InputSize(28, 0), [28], [27, 29, 56]),
])  # fmt: skip
def test_input_sizes(allowed: InputSize, good: list[int], bad: list[int]) -> None:
    for pixels in good:
        allowed.check(torch.Size([2, 3, pixels, pixels]))
    for pixels in bad:
        with pytest.raises(ValueError, match=f"input of {pixels} x {good[0]} pixels; .* {allowed.least} x"):
            allowed.check(torch.Size([2, 3, pixels, good[0]]))


def test_features_are_the_blocks_outputs_and_leave_no_hook() -> None:
    network, x = build("resnet20", width=2), torch.randn(2, 3, 8, 8)
    found = features(network, x, ["stage3_block3", "stage1_block1"])
    assert list(found) == ["stage3_block3", "stage1_block1"]
    assert [tuple(y.shape) for y in found.values()] == [(2, 8, 2, 2), (2, 2, 8, 8)]
    assert found["stage1_block1"].requires_grad
    with pytest.raises(ValueError, match="no block 'stage9'"):
        features(network, x, ["stage1_block1", "stage9"])
    assert not any(module._forward_hooks for module in network.modules())


def test_shapes_name_stem_blocks_and_head_and_leave_the_mode() -> None:
    network = build("resnet20", width=2)
    network.stem.eval()
    found = shapes(network, (3, 32, 32))
    assert list(found) == ["stem", *network.blocks, "head"]
    assert (found["stem"], found["stage2_block1"], found["head"]) == ((2, 32, 32), (4, 16, 16), (10,))
    assert network.training
    assert not network.stem.training
    with pytest.raises(RuntimeError), evaluating(network):
        raise RuntimeError
    assert network.training
    assert not network.stem.training


def test_a_negative_number_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Network(nn.Identity(), {}, nn.Identity(), recompute=-1)
