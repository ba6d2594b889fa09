"""Paths: counts against binomials, single routes against plain autograd, and all of them summed to the gradient."""

import itertools
import math
from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn

from ablations.probes.gradients.paths import PathGradients, _along, counts_by_length, sampled_norms
from modules import Network, build

FAMILIES = {
    "preact": ("resnet_cifar", {"depth": 14, "width": 3, "order": "full_preactivation"}),
    "original": ("resnet_cifar", {"depth": 8, "width": 3}),
    "projections": ("resnet_cifar", {"depth": 8, "width": 3, "order": "full_preactivation", "shortcut": "B"}),
}


def batch(count: int = 5, size: int = 16) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, size, size, generator=draws)
    return images, torch.randint(0, 10, (count,), generator=draws)


def small(family: str, training: bool = True) -> Network:
    torch.manual_seed(0)
    name, arguments = FAMILIES[family]
    network = build(name, **arguments)
    with torch.no_grad():
        network(batch()[0])
    return network.train(training)


def full_gradient(network: Network, images: Tensor, labels: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, images)[0]


def test_paths_of_54_blocks_are_binomial() -> None:
    with torch.device("meta"):
        counts = counts_by_length(build("preact_resnet110"))
    assert counts == [math.comb(54, length) for length in range(55)]


def test_a_plain_network_has_one_path() -> None:
    with torch.device("meta"):
        assert counts_by_length(build("plain20")) == [0] * 9 + [1]
        with pytest.raises(ValueError, match="concat"):
            counts_by_length(build("densenet40_k12"))


def gradient(paths: PathGradients, branches: Collection[str]) -> torch.Tensor:
    direction, log_norm = paths.scaled(branches)
    return direction * math.exp(log_norm)


@pytest.mark.parametrize("family", ["preact", "original", "projections"])
@pytest.mark.parametrize("training", [True, False])
def test_all_paths_sum_up_to_the_gradient(family: str, training: bool) -> None:
    """By brute force over all 2^n subsets of the blocks."""
    network, (images, labels) = small(family, training).double(), batch()
    images = images.double()
    paths = PathGradients(network, images, labels)
    subsets = itertools.chain.from_iterable(
        itertools.combinations(paths.names, length) for length in range(len(paths.names) + 1)
    )
    found = [gradient(paths, subset) for subset in subsets]
    assert len(found) == 2 ** len(network.blocks)
    torch.testing.assert_close(sum(found), full_gradient(network, images, labels), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["preact", "original", "projections"])
def test_both_routes_of_one_block_sum_up_to_its_gradient(family: str) -> None:
    """All branches but one are on both paths, so that their sum is the gradient with only that block whole."""
    network, (images, labels) = small(family).double(), batch()
    images = images.double()
    paths = PathGradients(network, images, labels)
    for name, unfolded in zip(paths.names, paths.blocks, strict=True):
        above = torch.randn(unfolded.y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x = unfolded.x.detach().clone().requires_grad_()
        (whole,) = torch.autograd.grad(network.block(name)(x), x, above)
        both = [_along(unfolded, route, above) for route in (0, 1)]
        torch.testing.assert_close(both[0] + both[1], whole, rtol=1e-9, atol=1e-12)


def test_the_path_of_no_branch_is_that_of_the_shortcuts_alone() -> None:
    """Full pre-activation leaves only the first block's shared batch norm and ReLU on it."""
    network, (images, labels) = small("preact", training=False), batch()
    paths = PathGradients(network, images, labels)
    x = images.clone().requires_grad_()
    first = network.block(network.order[0])
    signal = first.shortcut(first.pre(network.stem(x)))
    for name in network.order[1:]:
        signal = network.block(name).shortcut(signal)
    (expected,) = torch.autograd.grad(signal, x, paths.at_last)
    torch.testing.assert_close(gradient(paths, ()), expected)


def test_a_kept_branch_counts_with_its_probability() -> None:
    torch.manual_seed(0)
    network = build("resnet_cifar", depth=8, width=3, order="full_preactivation", kept_blocks=2).double().eval()
    images, labels = batch()
    paths = PathGradients(network, images.double(), labels)
    subsets = itertools.chain.from_iterable(itertools.combinations(paths.names, n) for n in range(4))
    total = sum(gradient(paths, subset) for subset in subsets)
    torch.testing.assert_close(total, full_gradient(network, images.double(), labels), rtol=1e-9, atol=1e-12)


def test_a_long_path_does_not_underflow() -> None:
    network, (images, labels) = small("preact"), batch()
    for _, block in network.named_blocks():
        block.branch.conv2.weight.data *= 1e-12
    _, log_norm = PathGradients(network, images, labels).scaled(network.order)
    assert -math.inf < log_norm < -100


def test_a_dead_path_carries_nothing() -> None:
    network, (images, labels) = small("preact"), batch()
    network.block("stage2_block1").branch.conv2.weight.data.zero_()
    paths = PathGradients(network, images, labels)
    assert paths.scaled({"stage2_block1"})[1] == -math.inf
    assert not gradient(paths, {"stage2_block1"}).any()
    assert paths.scaled({"stage1_block1"})[1] > -math.inf


def test_sampled_norms_are_norms_of_gradients_and_repeat() -> None:
    network, calls = small("preact", training=False), []
    batches = [batch(), batch(3)]
    found = [
        sampled_norms(network, batches, 3, torch.Generator().manual_seed(7), lambda: calls.append(1)) for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len(calls) == 2 * 7 * 3
    assert {length: len(norms) for length, norms in found[0].items()} == dict.fromkeys(range(7), 3)
    # Of length 0 and n there is one path: two draws on the first batch, one on the second.
    for length, branches in ((0, ()), (6, network.order)):
        norms = [gradient(PathGradients(network, *each), branches).norm().item() for each in batches]
        assert found[0][length] == pytest.approx([norms[0], norms[0], norms[1]], rel=1e-4)


def test_only_blocks_that_add_have_two_routes() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="replace"):
        PathGradients(build("plain20", width=2), *batch())
