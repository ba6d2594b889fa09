"""Failures of spatial transformers: each is counted where it is, and nowhere else."""

import pytest
import torch
from torch import Tensor

from modules.blocks.grids import Grid, MatrixGrid, SplineGrid
from modules.blocks.sampling import sample
from modules.training.transformer_health import LEAST_AREA, blank, folded, outside

SIZE = 16
TRANSFORMS = ("affine", "attention", "translation", "projective", "tps")


def grid(transform: str, scale: float = 1.0, offset: tuple[float, float] = (0.0, 0.0), size: int = SIZE) -> Grid:
    if transform == "tps":
        return SplineGrid(size, 4, scale, offset)
    return MatrixGrid(size, transform, scale, offset)


def found(where: Grid, theta: Tensor) -> tuple[list[bool], list[bool], list[bool]]:
    """Whether all positions are outside, the output is blank, the transform folds, per sample."""
    torch.manual_seed(0)
    positions = where(theta)
    output = sample(torch.rand(len(theta), 2, SIZE, SIZE), positions, "bilinear")
    is_outside = outside(positions).flatten(1).all(dim=1)
    return is_outside.tolist(), blank(output).tolist(), folded(where, theta, positions).tolist()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", [1, 7, SIZE, 60])
def test_the_identity_is_healthy(transform: str, size: int) -> None:
    where = grid(transform, size=size)
    assert found(where, where.start.expand(3, -1)) == ([False] * 3, [False] * 3, [False] * 3)
    assert not outside(where(where.start[None])).any()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("offset", [(3.0, 0.0), (0.0, -3.0), (2.1, 2.1)])
def test_a_window_elsewhere_is_outside_and_blank_and_not_folded(transform: str, offset: tuple[float, float]) -> None:
    where = grid(transform, 1.0, offset)
    assert found(where, where.start[None]) == ([True], [True], [False])


def test_half_a_window_is_not_outside_and_its_share_is_known() -> None:
    where = grid("translation")
    theta = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    assert found(where, theta) == ([False] * 2, [False] * 2, [False] * 2)
    assert outside(where(theta)).double().mean(dim=(1, 2)).tolist() == [0.5, 0.25]


@pytest.mark.parametrize("transform", ["affine", "attention", "projective", "tps"])
def test_a_window_of_no_size_is_folded_and_blank(transform: str) -> None:
    where = grid(transform, 1.0, (0.3, 0.2))
    nowhere = grid(transform, 1e-9, (0.3, 0.2)).start
    assert found(where, torch.stack([where.start, nowhere])) == ([False] * 2, [False, True], [False, True])


@pytest.mark.parametrize("transform", ["attention", "projective", "tps"])
def test_the_least_area(transform: str) -> None:
    where = grid(transform)
    theta = torch.stack([grid(transform, (factor * LEAST_AREA) ** 0.5).start for factor in (0.9, 1.1)])
    assert folded(where, theta, where(theta)).tolist() == [True, False]


def test_a_line_is_folded_and_a_mirror_image_is_not() -> None:
    for transform in ("affine", "projective", "tps"):
        where = grid(transform)
        line, mirror = torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
        thetas = []
        for linear in (line, mirror):
            if isinstance(where, SplineGrid):
                thetas.append((where.controls @ linear.mT).flatten())
            else:
                rows = torch.nn.functional.pad(linear, (0, 1)).flatten()
                thetas.append(torch.nn.functional.pad(rows, (0, where.num_numbers - 6)))
        theta = torch.stack(thetas)
        assert folded(where, theta, where(theta)).tolist() == [True, False], transform


def test_a_projection_folds_where_a_pixel_passes_the_horizon() -> None:
    where = grid("projective")
    edge = 0.99 / (1 - 1 / SIZE)  # leaves 0.01 at the last column of pixels
    tilts = [(0.0, 0.0), (edge - 0.01, 0.0), (edge + 0.01, 0.0), (0.0, -edge - 0.01), (0.6, 0.6), (-0.4, 0.4)]
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0, *tilt] for tilt in tilts])
    depth = 1 + where.points @ theta[:, 6:].mT
    assert folded(where, theta, where(theta)).tolist() == (depth < 0.01).any(dim=0).tolist()
    assert (depth < 0.01).any(dim=0).tolist() == [False, False, True, True, True, False]


def test_a_spline_folds_where_control_points_change_places() -> None:
    where = grid("tps")
    start = where.start.view(16, 2)
    swapped, bent = start.clone(), start.clone()
    swapped[[5, 6]] = start[[6, 5]]
    bent[5] += 0.1
    theta = torch.stack([start, swapped, bent]).flatten(1)
    assert folded(where, theta, where(theta)).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blank_is_every_channel_constant(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    constant = torch.tensor([0.0, -0.42, 300.0]).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    rounded = constant * (1 + 1e-7 * torch.rand(1, 3, 5, 5))
    one_channel = constant.clone()
    one_channel[0, 1, 2, 2] += 0.05
    outputs = torch.cat([constant, rounded, one_channel]).to(dtype)
    assert blank(outputs).tolist() == [True, True, False]
    assert blank(outputs.contiguous(memory_format=torch.channels_last)).tolist() == [True, True, False]
    assert blank(outputs[:, :, :1, :1]).tolist() == [False] * 3, "one pixel cannot vary"
