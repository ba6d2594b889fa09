"""Spatial transformers: Jaderberg et al. 2015, arXiv:1506.02025, section 3.

A localisation network reads the input and gives theta; theta says where each output pixel lies on the input; the input
is sampled there (`modules.blocks.grids`, `modules.blocks.sampling`). Outside the image there are zeros.

theta of a forward pass is what the layer `localisation.theta` gives: `register_forward_hook` sees it.

Differs from the paper: theta, positions and sampling stay in fp32 whatever the training precision (bf16 knows two
digits of a position).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from modules.blocks.block import Block
from modules.blocks.grids import Grid, MatrixGrid, SplineGrid, Transform, pixel_centres
from modules.blocks.layers import check_choice, check_least, initialise, named
from modules.blocks.localisation import LOCALISATIONS, LocalisationName
from modules.blocks.parallel import Parallel
from modules.blocks.sampling import Sampling, autocast_off, sample

Start = Literal["identity", "random"]


def _memory_format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


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
        with autocast_off(features):
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
        self.localisation = named(features=features, theta=Theta(num_features, grid.num_numbers))
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


@dataclass(frozen=True)
class TransformerDesign:
    """What decides a transformer, or several in parallel, besides the images that they read.

    transform: `none` is for networks that can do without one. output_size: of each, in pixels; None keeps the input's.
    scale: width of the sampled square at the start, as a fraction of the image's; a translation keeps it for good.
    control_points: of a thin plate spline, per side. num_transformers: in parallel, their outputs side by side.
    tile: they start spread over the image instead of all in its middle.
    Raises ValueError for an unknown or impossible value.
    """

    transform: Transform | Literal["none"] = "affine"
    num_transformers: int = 1
    output_size: int | None = None
    localisation: LocalisationName = "conv"
    sampling: Sampling = "bilinear"
    start: Start = "identity"
    scale: float = 1.0
    tile: bool = False
    control_points: int = 4

    def __post_init__(self) -> None:
        check_choice("transform", self.transform, (*get_args(Transform), "none"))
        check_choice("localisation", self.localisation, tuple(LOCALISATIONS))
        check_choice("sampling", self.sampling, get_args(Sampling))
        check_choice("start", self.start, get_args(Start))
        if self.output_size is not None:
            check_least("output_size", self.output_size)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive, got {self.scale}")
        if self.transform == "tps":
            check_least("control_points", self.control_points, 2)


def transformer_block(
    in_channels: int, image_size: int, design: TransformerDesign, offset: tuple[float, float] = (0.0, 0.0)
) -> Block:
    """A spatial transformer as a block; deleted, it leaves the input, resized where the output has another size.

    offset: centre of the sampled square at the start. Raises ValueError for a design without a transform.
    """
    if design.transform == "none":
        raise ValueError(f"transform must be one of {', '.join(get_args(Transform))}, got 'none'")
    size = design.output_size or image_size
    grid: Grid
    if design.transform == "tps":
        grid = SplineGrid(size, design.control_points, design.scale, offset)
    else:
        grid = MatrixGrid(size, design.transform, design.scale, offset)
    transformer = SpatialTransformer(
        *LOCALISATIONS[design.localisation](in_channels, image_size), grid, design.sampling, design.start, image_size
    )
    same = size == image_size
    shortcut = None if same else Resize(size, design.sampling)
    return Block(transformer, shortcut, merge="replace", changes_shape=not same)


def tiles(num: int) -> list[tuple[float, float]]:
    """Centres (x, y) of `num` squares spread evenly over the image, row by row, as few columns as rows or fewer."""
    rows = math.ceil(math.sqrt(num))
    columns = math.ceil(num / rows)
    return [((2 * (i % columns) + 1) / columns - 1, (2 * (i // columns) + 1) / rows - 1) for i in range(num)]


def transformer_blocks(in_channels: int, image_size: int, design: TransformerDesign) -> list[Block]:
    """The transformers of a design, which read the same input."""
    offsets = tiles(design.num_transformers) if design.tile else [(0.0, 0.0)] * design.num_transformers
    return [transformer_block(in_channels, image_size, design, offset) for offset in offsets]


def parallel_transformers(in_channels: int, image_size: int, design: TransformerDesign) -> nn.Module:
    """One transformer block, or several named 1, 2, ... that give num_transformers * in_channels channels together."""
    blocks = transformer_blocks(in_channels, image_size, design)
    return blocks[0] if len(blocks) == 1 else Parallel({str(i): block for i, block in enumerate(blocks, start=1)})
