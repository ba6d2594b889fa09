"""The paths of a residual network: their number by length, and the gradient that comes down a single one.

Veit et al. 2016, arXiv:1605.06431, sections 3 and 5. In a chain of n blocks that add a branch to a shortcut, every
block is passed through the one or the other: 2^n paths, whose length is the number of branches on them. The forward
pass is that of the whole network; on the way back a block's gradient goes through its branch alone or through its
shortcut alone. The gradients of all paths sum up to the gradient of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules import Network
from modules.blocks.block import Block

ROUTES = ("shortcut", "branch")


def counts_by_length(network: Network) -> list[int]:
    """How many paths of 0, 1, ..., n branches lead through the network's n blocks, counted block by block.

    A block that adds doubles the paths; a plain one (`replace`) leads through its branch alone.
    Raises ValueError for a block that concatenates, where no route carries the whole signal.
    """
    counts = [1]
    for name, block in network.named_blocks():
        if block.merge == "concat":
            raise ValueError(f"paths need blocks that add, but {name} is merged by {block.merge!r}")
        longer = [0, *counts]
        shorter = [*counts, 0] if block.merge == "add" else [0] * len(longer)
        counts = [a + b for a, b in zip(longer, shorter, strict=True)]
    return counts


class _Unfolded(NamedTuple):
    """One block's part of the graph, cut at its input and before its sum, so that each route can be walked alone."""

    x: Tensor
    ends: tuple[Tensor, Tensor]  # what shortcut and branch make of x
    starts: tuple[Tensor, Tensor]  # the same, cut off
    y: Tensor


class PathGradients:
    """The gradient of a batch's mean cross-entropy with respect to its images (N, C, H, W), path by path.

    The whole network is computed once, in the mode it is in: batch norm in training mode uses (and updates) the
    statistics of the batch. A block with stochastic depth counts as in evaluation, its branch times its probability.
    Raises ValueError for a block that is not merged by adding.
    """

    def __init__(self, network: Network, images: Tensor, labels: Tensor) -> None:
        self.images = images.detach().requires_grad_()
        self.names = network.order
        with torch.enable_grad():
            self.first = network.stem(self.images)
            self.blocks: list[_Unfolded] = []
            signal = self.first
            for name in self.names:
                block = network.block(name)
                if block.merge != "add":
                    raise ValueError(f"paths need blocks that add, but {name} is merged by {block.merge!r}")
                self.blocks.append(_unfold(block, signal))
                signal = self.blocks[-1].y
            last = _leaf(signal)
            loss = nn.functional.cross_entropy(network.head(last), labels)
        (self.at_last,) = torch.autograd.grad(loss, last)

    def scaled(self, branches: Collection[str]) -> tuple[Tensor, float]:
        """Gradient along the path that takes these blocks' branches and the others' shortcuts: (direction, log norm).

        The gradient at the images is direction * e^(log norm), where direction has norm 1; a path that carries nothing
        has log norm -inf. Norms are kept apart because a product of fifty factors leaves the range of floats.
        """
        direction, log_norm = _normalised(self.at_last, 0.0)
        for name, block in zip(reversed(self.names), reversed(self.blocks), strict=True):
            gradient = _along(block, ROUTES.index("branch" if name in branches else "shortcut"), direction)
            direction, log_norm = _normalised(gradient, log_norm)
            if log_norm == -math.inf:
                return torch.zeros_like(self.images), log_norm
        return _normalised(_product(self.first, self.images, direction), log_norm)


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _unfold(block: Block, x: Tensor) -> _Unfolded:
    x = _leaf(x)
    u = block.pre(x)
    branch = block.branch(u)
    if block.survival_prob < 1.0 and block.drop_per == "batch":
        branch = block.survival_prob * branch
    ends = block.shortcut(u), branch
    starts = _leaf(ends[0]), _leaf(ends[1])
    return _Unfolded(x, ends, starts, block.post(starts[0] + starts[1]))


def _along(block: _Unfolded, route: int, gradient: Tensor) -> Tensor:
    """The gradient at the block's input of what comes back along one route."""
    at_end = _product(block.y, block.starts[route], gradient)
    return _product(block.ends[route], block.x, at_end)


def _product(y: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
    """gradient times dy / dx; zero if y does not depend on x."""
    if y is x:
        return gradient
    (found,) = torch.autograd.grad(y, x, gradient, retain_graph=True, allow_unused=True, materialize_grads=True)
    return found


def _normalised(gradient: Tensor, log_norm: float) -> tuple[Tensor, float]:
    norm = torch.linalg.vector_norm(gradient, dtype=torch.float64).item()
    if norm == 0.0:
        return gradient, -math.inf
    return gradient / norm, log_norm + math.log(norm)


def sampled_norms(
    network: Network,
    batches: Sequence[tuple[Tensor, Tensor]],
    draws: int,
    generator: torch.Generator,
    on_path: Callable[[], object] = lambda: None,
) -> dict[int, list[float]]:
    """Length 0, 1, ..., n -> the norms of the gradients along `draws` random paths of that length, at the images.

    Draw d uses batch d modulo the number of batches, of (images (N, C, H, W), labels (N,)); `on_path` is called after
    each path.
    """
    names = list(network.order)
    norms: dict[int, list[float]] = {length: [] for length in range(len(names) + 1)}
    for index, (images, labels) in enumerate(batches):
        unfolded = PathGradients(network, images, labels)
        for length, found in norms.items():
            for _ in range(index, draws, len(batches)):
                chosen = {names[i] for i in torch.randperm(len(names), generator=generator)[:length].tolist()}
                found.append(math.exp(unfolded.scaled(chosen)[1]))
                on_path()
    return norms
