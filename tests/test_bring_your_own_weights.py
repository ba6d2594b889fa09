"""The worked example of the front page: weights of another repository, whose network has the same shapes and another
function."""

import re
from itertools import pairwise

import pytest
import torch
from test_readme import PROGRAMS, run_program
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from modules import build

State = dict[str, Tensor]
(EXAMPLE,) = [text for text in PROGRAMS if "def from_akamaster" in text]
from_akamaster = run_program(EXAMPLE)["from_akamaster"]


class TheirBlock(nn.Module):
    """Two convolutions; where the width doubles, the shortcut takes every second pixel and pads on both sides."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.stride, self.extra = width // before, (width - before) // 2
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return relu(shortcut + self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))


class TheirNetwork(nn.Module):
    """conv1, bn1, layer1 to layer3 of n blocks, average pooling, linear."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [16] + [16] * n + [32] * n + [64] * n
        blocks = [TheirBlock(before, width) for before, width in pairwise(widths)]
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(*blocks[i * n : i * n + n]) for i in range(3))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
        return self.linear(x.mean((2, 3)))


@pytest.fixture(params=[20, 32])
def theirs(request: pytest.FixtureRequest) -> tuple[int, TheirNetwork]:
    """Depth and network with every weight and statistic drawn, so that no two channels are alike."""
    torch.manual_seed(request.param)
    network = TheirNetwork((request.param - 2) // 6).eval()
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.normal_(0, 0.2)
    return request.param, network


def naive(state: State) -> State:
    """The names alone."""
    outer = {"conv1": "stem.conv1", "bn1": "stem.bn1", "linear": "head.fc"}
    renamed = {}
    for name, tensor in state.items():
        block = re.sub(r"^layer(\d)\.(\d+)", lambda m: f"blocks.stage{m[1]}_block{int(m[2]) + 1}.branch", name)
        part, _, rest = name.partition(".")
        renamed[block if block != name else f"{outer[part]}.{rest}"] = tensor
    return renamed


IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(state: State, depth: int) -> Tensor:
    network = build(f"resnet{depth}").eval()
    network.load_state_dict(state)
    return network(IMAGES)


@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_mapped_weights_answer_as_theirs(theirs: tuple[int, TheirNetwork], prefix: str) -> None:
    depth, network = theirs
    mapped = from_akamaster({prefix + name: tensor for name, tensor in network.state_dict().items()})
    torch.testing.assert_close(logits(mapped, depth), network(IMAGES), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_renamed_weights_fit_and_answer_otherwise(theirs: tuple[int, TheirNetwork]) -> None:
    """Which nothing but their error can tell."""
    depth, network = theirs
    expected = network(IMAGES)
    found = logits(naive(network.state_dict()), depth)
    assert (found - expected).abs().mean() > 0.1 * expected.std()


@torch.no_grad()
def test_one_order_for_all_blocks_of_a_stage(theirs: tuple[int, TheirNetwork]) -> None:
    """Leaving the order out of a single tensor is another function too: the comparison sees every part of it."""
    depth, network = theirs
    expected = network(IMAGES)
    mapped, renamed = from_akamaster(network.state_dict()), naive(network.state_dict())
    changed = [name for name, tensor in mapped.items() if not torch.equal(tensor, renamed[name])]
    assert len(changed) > 20
    for name in changed:
        found = logits({**mapped, name: renamed[name]}, depth)
        assert not torch.allclose(found, expected, rtol=1e-4, atol=1e-4), name
