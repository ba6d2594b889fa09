"""Where the pixels of a transformer's output lie on its input: Jaderberg et al. 2015, arXiv:1506.02025, section 3.2.

Positions run from -1 at the left and upper edge of the image to 1 at the right and lower edge, x first. They are edges
of pixels, not centres (`align_corners=False` in torch): the first of W pixels has its centre at 1 / W - 1. So equal
numbers mean the same place at every resolution, an output of half the size samples between pixels as average pooling
does, and the identity at equal size gives the input back up to rounding (1e-5 of its range at 60 pixels).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from modules.blocks.sampling import at_least_fp32, autocast_off

Transform = Literal["affine", "attention", "translation", "projective", "tps"]

# Which entries of the 3 x 3 matrix, counted row by row, each number of theta fills.
ENTRIES: dict[str, tuple[tuple[int, ...], ...]] = {
    "affine": ((0,), (1,), (2,), (3,), (4,), (5,)),
    "attention": ((0, 4), (2,), (5,)),
    "translation": ((2,), (5,)),
    "projective": ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,)),
}
NEAREST_HORIZON = 0.01  # the least denominator of a projection


def pixel_centres(size: int) -> Tensor:
    """The centres of size x size pixels, row by row: (size * size, 2), x first, in double precision."""
    along = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    return torch.cartesian_prod(along, along).flip(1)


class Grid(nn.Module, ABC):
    """Where the pixels of a size x size output lie on the input, given theta (N, num_numbers).

    Positions are the points of the output plus a linear function of what theta differs by from the identity, so that
    the identity is exact in any arithmetic.
    start: the theta of a sampled square of `scale` times the image's width, its centre at `offset`.
    basis_at: the functions, one per column, that this linear function weighs, at points (P, 2).
    """

    points: Tensor
    basis: Tensor
    start: Tensor

    def __init__(self, size: int, start: Tensor, basis_at: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.size, self.num_numbers, self.basis_at = size, len(start), basis_at
        points = pixel_centres(size)
        # Computed from the arguments alone: no part of the weights.
        self.register_buffer("points", points.float(), persistent=False)
        self.register_buffer("basis", basis_at(points).float(), persistent=False)
        self.register_buffer("start", start.float(), persistent=False)

    @abstractmethod
    def positions(self, theta: Tensor, points: Tensor, basis: Tensor) -> Tensor:
        """Where points (P, 2) of the output, with their basis, lie on the input: (N, P, 2)."""

    def forward(self, theta: Tensor) -> Tensor:
        """Maps theta to the positions of all pixels: (N, size, size, 2)."""
        theta = at_least_fp32(theta)
        with autocast_off(theta):
            positions = self.positions(theta, self.points.to(theta.dtype), self.basis.to(theta.dtype))
        return positions.unflatten(1, (self.size, self.size))

    def at(self, theta: Tensor, points: Tensor) -> Tensor:
        """Where any points (P, 2) of the output lie on the input: (N, P, 2)."""
        return self.positions(theta, points.to(theta), self.basis_at(points.double().cpu()).to(theta))


class MatrixGrid(Grid):
    """Transforms that a 3 x 3 matrix writes: affine, attention, translation, projective.

    theta: row by row, what the transform leaves free: affine (a, b, x, c, d, y), attention (scale, x, y), translation
    (x, y) at a fixed scale, projective all but the last entry, which is 1. Points of a projection that lie behind the
    horizon or almost on it (a denominator below 0.01) are taken to stand just before it, usually far outside the image.
    """

    spread: Tensor
    change: Tensor

    def __init__(self, size: int, transform: Transform, scale: float, offset: tuple[float, float]) -> None:
        start = torch.tensor([scale, 0, offset[0], 0, scale, offset[1], 0, 0, 1])
        entries = ENTRIES[transform]
        super().__init__(size, torch.stack([start[places[0]] for places in entries]), _plane)
        self.projective = transform == "projective"
        # The matrix minus the identity is theta @ spread + change.
        spread = torch.zeros(len(entries), 9)
        fixed = start.clone()
        for number, places in enumerate(entries):
            spread[number, list(places)] = 1
            fixed[list(places)] = 0
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("change", fixed - torch.eye(3).flatten(), persistent=False)

    def positions(self, theta: Tensor, points: Tensor, basis: Tensor) -> Tensor:
        change = (theta @ self.spread.to(theta.dtype) + self.change.to(theta.dtype)).unflatten(1, (3, 3)).mT
        if not self.projective:
            return points + basis @ change[:, :, :2]
        moved = basis @ change
        return (points + moved[:, :, :2]) / (1 + moved[:, :, 2:]).clamp(min=NEAREST_HORIZON)


class SplineGrid(Grid):
    """Thin plate spline through num x num control points, spread evenly from edge to edge.

    theta: where the control points lie on the input, row by row, (x, y) each. The spline is linear in them, so its
    system of equations is solved once, in double precision.
    """

    controls: Tensor

    def __init__(self, size: int, num: int, scale: float, offset: tuple[float, float]) -> None:
        controls = _controls(num)
        super().__init__(size, (scale * controls + torch.tensor(offset)).flatten(), partial(_spline, num=num))
        self.register_buffer("controls", controls.float(), persistent=False)

    def positions(self, theta: Tensor, points: Tensor, basis: Tensor) -> Tensor:
        return points + basis @ (theta.unflatten(1, (-1, 2)) - self.controls.to(theta.dtype))


def _plane(points: Tensor) -> Tensor:
    """(x, y, 1)."""
    return torch.cat([points, torch.ones_like(points[:, :1])], dim=1)


def _controls(num: int) -> Tensor:
    """num x num control points from edge to edge, row by row: (num * num, 2), x first, in double precision."""
    along = torch.linspace(-1, 1, num, dtype=torch.float64)
    return torch.cartesian_prod(along, along).flip(1)


def _spline(points: Tensor, num: int) -> Tensor:
    """At points (P, 2) the splines that are 1 at one control point and 0 at the others: (P, num * num)."""
    controls = _controls(num)
    above = torch.cat([_bending(controls, controls), _plane(controls)], dim=1)
    below = torch.cat([_plane(controls).mT, controls.new_zeros(3, 3)], dim=1)
    weights = torch.linalg.inv(torch.cat([above, below]))[:, : len(controls)]
    return torch.cat([_bending(points, controls), _plane(points)], dim=1) @ weights


def _bending(points: Tensor, controls: Tensor) -> Tensor:
    """r^2 log r^2 of the distances: (P, 2) and (K, 2) to (P, K); 0 at distance 0."""
    squares = (points[:, None] - controls).square().sum(-1)
    return torch.xlogy(squares, squares)
