"""Stochastic depth: both rules in training and at test time, skipped branches, survival over a network."""

import math

import pytest
import torch
from test_block import Times, X
from torch import nn

from modules import build, set_survival
from modules.blocks.block import Block


def stochastic(per: str, survival_prob: float) -> Block:
    """A linear block, so that the mean over draws is the output of the mean."""
    block = Block(nn.Conv2d(3, 3, 1), Times(2.0))
    block.survival_prob, block.drop_per = survival_prob, per
    return block


@pytest.mark.parametrize("per", ["batch", "sample"])
@torch.no_grad()
def test_mean_over_draws_is_the_evaluation_output(per: str) -> None:
    torch.manual_seed(0)
    block, draws = stochastic(per, 0.7), 4000
    mean = torch.stack([block(X) for _ in range(draws)]).mean(0)
    # Five standard errors of a mean of draws that are 0 or the branch (divided by its probability).
    scale = block.branch(X).abs().max().item() / (0.7 if per == "sample" else 1.0)
    torch.testing.assert_close(mean, block.eval()(X), rtol=0, atol=5 * scale * math.sqrt(0.7 * 0.3 / draws))


@torch.no_grad()
def test_rule_per_batch() -> None:
    torch.manual_seed(0)
    block = stochastic("batch", 0.6)
    shortcut, branch = block.shortcut(X), block.branch(X)
    torch.testing.assert_close(block.eval()(X), shortcut + 0.6 * branch)
    draws = [block.train()(X) for _ in range(50)]
    kinds = [torch.equal(y, shortcut) + 2 * torch.equal(y, shortcut + branch) for y in draws]
    assert set(kinds) == {1, 2}  # all of the mini-batch or nothing, unscaled


@torch.no_grad()
def test_rule_per_sample() -> None:
    torch.manual_seed(0)
    block = stochastic("sample", 0.6)
    shortcut, branch = block.shortcut(X), block.branch(X)
    assert torch.equal(block.eval()(X), shortcut + branch)
    mixed = 0
    for _ in range(20):
        y = block.train()(X)
        kept = [not torch.equal(y[i], shortcut[i]) for i in range(len(X))]
        factors = torch.tensor(kept)[:, None, None, None] / 0.6
        torch.testing.assert_close(y, shortcut + branch * factors)
        mixed += 0 < sum(kept) < len(kept)
    assert mixed > 0


def test_skipped_branch_is_not_run_and_has_zero_gradients() -> None:
    block = Block(Times(3.0))
    block.survival_prob = 1e-9
    block(X).sum().backward()
    assert block.branch.calls == 0
    assert torch.equal(block.branch.by.grad, torch.tensor(0.0))
    with torch.no_grad():
        assert torch.equal(block(X), X)


def test_skipped_branch_keeps_running_statistics() -> None:
    norm = nn.BatchNorm2d(3)
    block = Block(norm)
    block.survival_prob = 1e-9
    block(X)
    assert norm.num_batches_tracked == 0


def test_frozen_or_empty_branch_can_be_skipped() -> None:
    for branch in (nn.Identity(), Times(3.0).requires_grad_(False)):
        block = Block(branch)
        block.survival_prob = 1e-9
        assert torch.equal(block(X), X)


def test_linear_rule() -> None:
    """Huang et al. 2016, equation 4: p_l = 1 - l / L (1 - p_L); (3L - 1) / 4 active blocks for p_L = 1/2."""
    with torch.device("meta"):
        network = set_survival(build("resnet110"), 0.5)
    probabilities = [block.survival_prob for _, block in network.named_blocks()]
    assert len(probabilities) == 54
    assert probabilities == pytest.approx([1 - index / 54 * (1 - 0.5) for index in range(1, 55)])
    assert probabilities[0] < 1.0
    assert probabilities[-1] == 0.5
    assert sum(probabilities) == pytest.approx(40.25)
    set_survival(network, 0.8, rule="uniform", per="sample")
    assert {(block.survival_prob, block.drop_per) for _, block in network.named_blocks()} == {(0.8, "sample")}


# -- exactly k blocks per mini-batch (Veit et al. 2016, section 5) --


def kept(network: nn.Module) -> list[str]:
    """The blocks whose branch the next training pass runs."""
    ran: list[str] = []
    hooks = [
        block.branch.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, block in network.named_blocks()
    ]
    network(X)
    for hook in hooks:
        hook.remove()
    return ran


def test_exactly_so_many_blocks_are_kept_and_all_alike() -> None:
    torch.manual_seed(0)
    network = build("resnet_cifar", depth=20, width=2, kept_blocks=4).train()
    draws = [kept(network) for _ in range(200)]
    assert {len(draw) for draw in draws} == {4}
    times = [sum(name in draw for draw in draws) for name in network.blocks]
    # 200 draws of probability 4/9: five standard deviations are 35.
    assert all(abs(count - 200 * 4 / 9) < 35 for count in times)
    assert len(kept(network.eval())) == 9


def test_evaluation_weighs_every_branch_by_the_share_that_kept_it() -> None:
    torch.manual_seed(0)
    network = build("resnet_cifar", depth=20, width=2, kept_blocks=3).eval()
    x = torch.randn(2, 2, 8, 8)
    block = network.block("stage1_block2")
    torch.testing.assert_close(block(x), block.post(x + 3 / 9 * block.branch(x)))


def test_blocks_that_were_not_kept_have_zero_gradients() -> None:
    torch.manual_seed(0)
    network = build("resnet_cifar", depth=14, width=2, kept_blocks=2).train()
    network(X).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters()), "DDP waits for every parameter"
    with_gradient = [
        name for name, block in network.named_blocks() if any(p.grad.any() for p in block.branch.parameters())
    ]
    assert with_gradient == [name for name, block in network.named_blocks() if block.is_kept]
    assert len(with_gradient) == 2


def test_the_seed_decides_which_blocks_are_kept_also_when_activations_are_computed_anew() -> None:
    gradients = []
    for recompute in (0, 0, 4):
        torch.manual_seed(5)
        network = build("resnet_cifar", depth=20, width=2, kept_blocks=5).train()
        network.recompute = recompute
        network(X).square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    assert torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])


def test_keeping_all_blocks_is_the_whole_network() -> None:
    outputs = []
    for number in (0, 6):
        torch.manual_seed(3)
        outputs.append(build("resnet_cifar", depth=14, width=2, kept_blocks=number).train()(X))
    assert torch.equal(*outputs)


def test_survival_set_later_ends_the_joint_draw() -> None:
    network = set_survival(build("resnet_cifar", depth=8, width=2, kept_blocks=1), 1.0).train()
    assert len(kept(network)) == 3
