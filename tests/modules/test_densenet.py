"""DenseNet: against torchvision and timm, its forms, dropout, and memory given back by recomputing."""

import torch
from torch import nn

from modules import Network, build, recipe_for, removed

BC = {"depth": 22, "growth_rate": 4, "bottleneck": True, "compression": 0.5}


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


def test_recipe_is_the_papers() -> None:
    recipe = recipe_for("densenet_bc100_k12")
    assert (recipe.batch_size, recipe.epochs, recipe.learning_rate, recipe.nesterov) == (64, 300, 0.1, True)
    assert (recipe.milestones, recipe.milestone_factor, recipe.weight_decay) == ((0.5, 0.75), 0.1, 1e-4)
