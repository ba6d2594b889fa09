"""The block equation: routes of the three merges, and the parameter-free shortcut."""

import math

import pytest
import torch
from torch import Tensor, nn

from modules.blocks.block import ROUTES, Block, ShapeMatch, shape_match

X = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))


class Shift(nn.Module):
    """Adds a constant; counts its calls."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.by


class Times(Shift):
    """Multiplies by a constant."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.by


def make(merge: str) -> Block:
    """pre(x) = x + 1, shortcut(u) = 2u, branch(u) = 3u, post(y) = y + 4."""
    return Block(Times(3.0), Times(2.0), pre=Shift(1.0), post=Shift(4.0), merge=merge, branch_channels=3)


ZERO = torch.zeros_like(X)
EXPECTED = {
    ("add", "both"): 5 * (X + 1) + 4,
    ("add", "shortcut"): 2 * (X + 1) + 4,
    ("add", "branch"): 3 * (X + 1) + 4,
    ("replace", "both"): 3 * (X + 1) + 4,
    ("replace", "shortcut"): 2 * (X + 1) + 4,
    ("replace", "branch"): 3 * (X + 1) + 4,
    ("concat", "both"): torch.cat([2 * (X + 1), 3 * (X + 1)], 1) + 4,
    ("concat", "shortcut"): torch.cat([2 * (X + 1), ZERO], 1) + 4,
    ("concat", "branch"): torch.cat([ZERO, 3 * (X + 1)], 1) + 4,
}


@pytest.mark.parametrize(("merge", "route"), EXPECTED)
def test_route(merge: str, route: str) -> None:
    block = make(merge)
    torch.testing.assert_close(block(X, route=route), EXPECTED[merge, route])
    assert block.route == "both"
    block.route = route
    torch.testing.assert_close(block(X), EXPECTED[merge, route])


@pytest.mark.parametrize("merge", ["add", "replace", "concat"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_deleted_block_does_not_run_its_branch(merge: str, bad: float) -> None:
    block = make(merge)
    block.branch.by.data.fill_(bad)
    assert block(X, route="shortcut").isfinite().all()
    assert block.branch.calls == 0


@pytest.mark.parametrize("merge", ["add", "replace"])  # concat needs the shortcut's shape
def test_branch_alone_does_not_run_the_shortcut(merge: str) -> None:
    block = make(merge)
    block(X, route="branch")
    assert block.shortcut.calls == 0


def test_plain_block_does_not_run_its_shortcut() -> None:
    block = make("replace")
    block(X)
    assert block.shortcut.calls == 0


def test_defaults_are_identities() -> None:
    torch.testing.assert_close(Block(Times(3.0))(X), 4 * X)
    assert ROUTES == ("both", "shortcut", "branch")


def test_bad_merge_is_named() -> None:
    with pytest.raises(ValueError, match="add, replace, concat, got 'multiply'"):
        Block(nn.Identity(), merge="multiply")
    with pytest.raises(ValueError, match="branch_channels"):
        Block(nn.Identity(), merge="concat")


# The parameter-free shortcut, against code with loops.


@pytest.mark.parametrize("size", [4, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("out_channels", [2, 3, 5])
@pytest.mark.parametrize("average", [False, True])
def test_shape_match_on_maps(size: int, stride: int, out_channels: int, average: bool) -> None:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    small = math.ceil(size / stride)
    expected = torch.zeros(2, out_channels, small, small)
    for channel in range(min(3, out_channels)):
        for row in range(small):
            for column in range(small):
                top, left = row * stride, column * stride
                window = x[:, channel, top : top + stride, left : left + stride]
                value = window.mean((1, 2)) if average else window[:, 0, 0]
                expected[:, channel, row, column] = value
    torch.testing.assert_close(ShapeMatch(3, out_channels, stride, average)(x), expected)


@pytest.mark.parametrize("out_features", [2, 3, 5])
def test_shape_match_on_vectors(out_features: int) -> None:
    x = torch.randn(4, 3)
    expected = torch.zeros(4, out_features)
    for feature in range(min(3, out_features)):
        expected[:, feature] = x[:, feature]
    assert torch.equal(ShapeMatch(3, out_features)(x), expected)


def test_shape_match_is_the_identity_where_shapes_agree() -> None:
    assert isinstance(shape_match(3, 3), nn.Identity)
    assert isinstance(shape_match(3, 3, stride=2), ShapeMatch)
    assert not list(shape_match(3, 8, 2).parameters())
