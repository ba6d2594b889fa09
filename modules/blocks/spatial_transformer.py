"""Spatial transformers: Jaderberg et al. 2015, arXiv:1506.02025, section 3.

A localisation network reads the input and gives theta; theta says where each output pixel lies on the input; the input
is sampled there. Positions run from -1 at the left and upper edge of the image to 1 at the right and lower edge, x
first. They are edges of pixels, not centres (`align_corners=False` in torch): the first of W pixels has its centre at
1 / W - 1. So equal numbers mean the same place at every resolution, an output of half the size samples between pixels
as average pooling does, and the identity at equal size gives the input back up to rounding (1e-5 of its range at 60
pixels). Outside the image there are zeros.

theta of a forward pass is what the layer `localisation.theta` gives: `register_forward_hook` sees it.

Differs from the paper: theta, positions and sampling stay in fp32 whatever the training precision (bf16 knows two
digits of a position).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from modules.blocks.block import Block
from modules.blocks.layers import check_choice, initialise
from modules.blocks.localisation import LOCALISATIONS, LocalisationName, check_least
from modules.blocks.parallel import Parallel

Transform = Literal["affine", "attention", "translation", "projective", "tps"]
Sampling = Literal["bilinear", "nearest"]
Start = Literal["identity", "random"]

# Which entries of the 3 x 3 matrix, counted row by row, each number of theta fills.
ENTRIES: dict[str, tuple[tuple[int, ...], ...]] = {
    "affine": ((0,), (1,), (2,), (3,), (4,), (5,)),
    "attention": ((0, 4), (2,), (5,)),
    "translation": ((2,), (5,)),
    "projective": ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,)),
}
NEAREST_HORIZON = 0.01  # the least denominator of a projection


def _autocast_off(x: Tensor) -> torch.autocast:
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)  # the meta device knows no autocast


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _memory_format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


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
        theta = _at_least_fp32(theta)
        with _autocast_off(theta):
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


# An operation of its own, so that torch.compile takes torch's sampling as it is: what it writes instead is slower and
# fails for some shapes, and left out of the compiled graph, sampling would break that in two.
@torch.library.custom_op("cnn_ablations::sample", mutates_args=())
def _sample(x: Tensor, positions: Tensor, nearest: bool) -> Tensor:
    return torch.ops.aten.grid_sampler_2d(x, positions, int(nearest), 0, False).contiguous()


@_sample.register_fake
def _(x: Tensor, positions: Tensor, nearest: bool) -> Tensor:
    return x.new_empty(*x.shape[:2], *positions.shape[1:3])


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.nearest = inputs[2]


def _sample_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, positions = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    to_x, to_positions = torch.ops.aten.grid_sampler_2d_backward(
        gradient, x, positions, int(ctx.nearest), 0, False, needed
    )
    return to_x if needed[0] else None, to_positions if needed[1] else None, None


_sample.register_autograd(_sample_backward, setup_context=_remember)


def sample(x: Tensor, positions: Tensor, sampling: Sampling) -> Tensor:
    """The values of x (N, C, H, W) at positions (N, H', W', 2): (N, C, H', W'), zeros outside, in the type of x.

    bilinear: the sum over all pixels n, m of x[n, m] * max(0, 1 - |v - n|) * max(0, 1 - |u - m|), with (u, v) the
    position in pixels (equation 5). nearest: the nearest pixel (equation 4), without a gradient for the positions.
    """
    values = _at_least_fp32(x)
    return _sample(values, positions.to(values.dtype), sampling == "nearest").to(x.dtype)


class _Planes(torch.autograd.Function):
    """Channels apart from one another, as sampling and flattening read them; the gradient goes back as x lies.

    Torch would copy once for each of both, and leave the gradient as it is, so that what comes before works on mixed
    formats: 5 % of a step of `st_svhn` with four transformers.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.memory_format = _memory_format(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=ctx.memory_format)


class Resize(nn.Module):
    """What is left of a deleted transformer: the input at the output's size, sampled as the identity would."""

    positions: Tensor

    def __init__(self, size: int, sampling: Sampling) -> None:
        super().__init__()
        self.size, self.sampling = size, sampling
        self.register_buffer("positions", pixel_centres(size).float().view(1, size, size, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return sample(x, self.positions.expand(len(x), -1, -1, -1), self.sampling)

    def extra_repr(self) -> str:
        return f"{self.size}, {self.sampling}"


class Theta(nn.Linear):
    """The last layer of a localisation network, in its weights' precision also under autocast."""

    def forward(self, features: Tensor) -> Tensor:
        with _autocast_off(features):
            return super().forward(features.to(self.weight.dtype))


class SpatialTransformer(nn.Module):
    """Samples its input where a network that reads it says: (N, C, W, W) to (N, C, size, size).

    features: the localisation network but for its last layer, which gives (N, num_features).
    start: `identity` is a last layer of zero weights whose bias is the grid's start (section 3.4), `random` is torch's
        own initialisation, which samples almost a single point.
    """

    def __init__(
        self, features: nn.Module, num_features: int, grid: Grid, sampling: Sampling, start: Start, image_size: int
    ) -> None:
        super().__init__()
        theta = Theta(num_features, grid.num_numbers)
        self.localisation = nn.Sequential(OrderedDict(features=features, theta=theta))
        self.grid = grid
        self.sampling, self.start, self.image_size = sampling, start, image_size
        self.initialise()

    def initialise(self) -> None:
        """Gives the localisation network its first weights."""
        initialise(self.localisation)
        theta = self.localisation.get_submodule("theta")
        assert isinstance(theta, Theta)
        theta.reset_parameters()
        if self.start == "identity":
            nn.init.zeros_(theta.weight)
            with torch.no_grad():
                theta.bias.copy_(self.grid.start)

    def theta(self, x: Tensor) -> Tensor:
        """The numbers of the transform of each image: (N, num_numbers)."""
        found: Tensor = self.localisation(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        planes = _Planes.apply(x)
        moved = sample(planes, self.grid(self.theta(planes)), self.sampling)
        return moved.contiguous(memory_format=_memory_format(x))

    def outline(self, theta: Tensor, num_per_side: int = 1) -> Tensor:
        """Where the edge of the output lies on the input, clockwise from its upper left corner, for pictures.

        Gives (N, 4 * num_per_side, 2), (x, y) in pixels of the input; 0 is the centre of the first pixel. One point per
        side gives the corners; the edges of a thin plate spline are curved.
        """
        steps = 2 * torch.arange(num_per_side, device=theta.device) / num_per_side - 1
        edge = torch.ones_like(steps)
        sides = [(steps, -edge), (edge, steps), (-steps, edge), (-edge, -steps)]
        points = torch.cat([torch.stack(side, dim=1) for side in sides])
        return ((self.grid.at(theta, points) + 1) * self.image_size - 1) / 2


def transformer_block(
    in_channels: int,
    image_size: int,
    *,
    transform: Transform = "affine",
    output_size: int | None = None,
    localisation: LocalisationName = "conv",
    sampling: Sampling = "bilinear",
    start: Start = "identity",
    scale: float = 1.0,
    offset: tuple[float, float] = (0.0, 0.0),
    control_points: int = 4,
) -> Block:
    """A spatial transformer as a block; deleted, it leaves the input, resized where the output has another size.

    output_size: width of the output in pixels, None for the input's. scale, offset: width of the sampled square at the
        start, as a fraction of the image's, and its centre; a translation keeps its scale for good.
    control_points: of a thin plate spline, per side. Raises ValueError for an unknown or impossible value.
    """
    check_choice("transform", transform, get_args(Transform))
    check_choice("localisation", localisation, tuple(LOCALISATIONS))
    check_choice("sampling", sampling, get_args(Sampling))
    check_choice("start", start, get_args(Start))
    size = image_size if output_size is None else output_size
    check_least("output_size", size)
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive, got {scale}")
    grid: Grid
    if transform == "tps":
        check_least("control_points", control_points, 2)
        grid = SplineGrid(size, control_points, scale, offset)
    else:
        grid = MatrixGrid(size, transform, scale, offset)
    transformer = SpatialTransformer(
        *LOCALISATIONS[localisation](in_channels, image_size), grid, sampling, start, image_size
    )
    same = size == image_size
    return Block(transformer, None if same else Resize(size, sampling), merge="replace", changes_shape=not same)


def tiles(num: int) -> list[tuple[float, float]]:
    """Centres (x, y) of `num` squares spread evenly over the image, row by row, as few rows as columns or fewer."""
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    return [((2 * (i % columns) + 1) / columns - 1, (2 * (i // columns) + 1) / rows - 1) for i in range(num)]


def parallel_transformers(
    num: int, in_channels: int, image_size: int, tile: bool = False, **arguments: Any
) -> nn.Module:
    """One transformer block, or several named 1, 2, ... that read the same input, their outputs side by side.

    Gives num * in_channels channels. tile: start spread over the image instead of all in its middle.
    """
    offsets = tiles(num) if tile else [(0.0, 0.0)] * num
    blocks = [transformer_block(in_channels, image_size, offset=offset, **arguments) for offset in offsets]
    return blocks[0] if num == 1 else Parallel({str(i): block for i, block in enumerate(blocks, start=1)})
