"""Transforms as matrices, poses and windows; whether a distortion is undone; the sampler against the paper's sums."""

import math
from typing import Any

import pytest
import torch

import datamodules
from ablations.probes.transformers.poses import local_affine, matrices, overlap, poses, thetas, transformers, windows
from ablations.probes.transformers.sampler_gradients import deviation
from ablations.probes.transformers.undoing import correlations, kept_upside_down, removed, undoing
from datamodules.made.made_data import MadeData
from modules import build
from modules.blocks.grids import MatrixGrid, SplineGrid
from modules.blocks.spatial_transformer import SpatialTransformer, TransformerDesign, transformer_block


def transformer(
    transform: str, size: int = 8, scale: float = 1.0, offset: tuple[float, float] = (0.0, 0.0)
) -> SpatialTransformer:
    design = TransformerDesign(transform, output_size=size, localisation="fc", scale=scale)
    return transformer_block(1, 16, design, offset).branch


def turned(degrees: float, scale: float = 1.0, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[[cos, sin, x], [-sin, cos, y], [0, 0, 1.0]]], dtype=torch.float64)


@pytest.fixture(scope="module")
def rts() -> MadeData:
    return datamodules.make(datamodules.load("digits"), "distorted_digits", kind="RTS", upside_down=[4])


# --- theta, matrices, windows ---


def test_thetas_are_those_of_every_image_in_order_and_leave_nothing_behind() -> None:
    torch.manual_seed(0)
    network = build("st_cnn", 10, 1, image_size=16, num_parameters=100_000, start="random").train()
    images = torch.rand(7, 1, 16, 16)
    passes: list[int] = []
    found = thetas(network, [(images[:4], None), (images[4:], None)], lambda: passes.append(1))
    ((name, module),) = transformers(network).items()
    with torch.no_grad():
        torch.testing.assert_close(found[name], module.theta(images))
    assert (len(passes), network.training) == (2, True)
    assert not module.localisation.get_submodule("theta")._forward_hooks


def test_no_images_no_thetas() -> None:
    with pytest.raises(ValueError, match="no images"):
        thetas(build("st_fcn", 10, 1, image_size=16, num_parameters=30_000), [])


@pytest.mark.parametrize("transform", ["affine", "attention", "translation", "projective", "tps"])
def test_matrices_map_the_window_as_the_grid_does(transform: str) -> None:
    module = transformer(transform, scale=0.5, offset=(0.2, -0.1))
    theta = module.grid.start[None].repeat(3, 1)
    if transform in ("affine", "projective"):
        theta = theta + 0.1 * torch.randn(3, theta.shape[1], generator=torch.Generator().manual_seed(1))
    matrix = matrices(module, theta)
    points = torch.cat([module.grid.points.double(), torch.ones(64, 1, dtype=torch.float64)], dim=1)
    mapped = points @ matrix.mT
    torch.testing.assert_close((mapped[..., :2] / mapped[..., 2:]).float(), module.grid(theta).flatten(1, 2))
    assert isinstance(module.grid, SplineGrid if transform == "tps" else MatrixGrid)


def test_a_projection_acts_in_the_middle_as_its_local_affine_transform() -> None:
    matrix = turned(20, 0.7, 0.2, -0.3)
    matrix[0, 2, :2] = torch.tensor([0.3, -0.2])
    affine, small = local_affine(matrix), 1e-6

    def at(matrix: torch.Tensor, x: float, y: float) -> torch.Tensor:
        value = matrix[0] @ torch.tensor([x, y, 1.0], dtype=torch.float64)
        return value[:2] / value[2]

    for x, y in ((0.0, 0.0), (small, 0.0), (0.0, small)):
        torch.testing.assert_close(at(affine, x, y), at(matrix, x, y), rtol=0, atol=1e-11)


@pytest.mark.parametrize("degrees", [-170.0, -90, 0, 35, 120])
def test_poses_of_similarities(degrees: float) -> None:
    pose = poses(turned(degrees, 0.6, 0.3, -0.4))
    assert float(pose.angle) == pytest.approx(degrees)
    assert float(pose.scale) == pytest.approx(0.6)
    assert pose.shift.tolist() == [[0.3, -0.4]]


def test_windows_are_the_boxes_around_what_is_sampled() -> None:
    module = transformer("attention")
    found = windows(module, torch.tensor([[0.5, 0.25, -0.25], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[-0.25, -0.75, 0.75, 0.25], [-1, -1, 1, 1]], dtype=torch.float64))


def test_overlap_of_boxes() -> None:
    box = torch.tensor([0.0, 0.0, 1.0, 1.0])
    others = torch.tensor([[0, 0, 1, 1], [0.5, 0, 1.5, 1], [1, 1, 2, 2], [3, 3, 2, 2.0]])
    torch.testing.assert_close(overlap(box.expand(4, 4), others), torch.tensor([1, 1 / 3, 0, 0]))
    assert float(overlap(others[3], others[3])) == 0.0


# --- undoing ---


def test_what_stands_upside_down_may_stay_so_while_angles_are_undone(rts: MadeData) -> None:
    truth = rts.truth["test"]
    half = torch.where(truth["labels"] == 4, 180.0, 0.0)
    back = torch.cat([turned(float(angle)) for angle in half])
    found = undoing(truth["matrix"].double() @ back, truth)
    assert dict(removed(found, truth["labels"]))["angle"] == pytest.approx(100)
    assert kept_upside_down(found, truth["labels"], 4) == 100
    assert kept_upside_down(found, truth["labels"], 5) == 0


def test_angles_up_to_a_right_one_are_ordered_and_half_of_a_shift_is_three_quarters_of_its_variation() -> None:
    truth = datamodules.make(datamodules.load("digits"), "distorted_digits", kind="RTS", angle=90.0).truth["test"]
    matrix = truth["matrix"].double().clone()
    matrix[:, :2, 2] /= 2
    found = undoing(matrix, truth)
    assert dict(correlations(found)) == pytest.approx({"angle": 1, "scale": 1, "shift": 1})
    assert dict(removed(found, truth["labels"])) == pytest.approx({"angle": 100, "scale": 100, "shift": 75})


def test_a_transformer_that_does_nothing_undoes_nothing(rts: MadeData) -> None:
    found = undoing(torch.eye(3, dtype=torch.float64).expand(len(rts.truth["test"]["matrix"]), 3, 3), rts.truth["test"])
    assert float((found.left - found.true.angle).abs().max()) < 1e-3


def test_what_does_not_vary_has_no_correlation_and_nothing_to_remove() -> None:
    truth = datamodules.make(datamodules.load("digits"), "distorted_digits", kind="E").truth["test"]
    found = undoing(truth["matrix"].double(), truth)
    assert list(dict(correlations(found))) == ["scale"]
    assert list(dict(removed(found, truth["labels"]))) == ["scale"]


# --- the sampler ---


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_the_sampler_is_the_papers_sums_inside_and_outside(sampling: str) -> None:
    draws = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, 6, 6, generator=draws)
    positions = 3 * torch.rand(2, 5, 5, 2, generator=draws) - 1.5
    assert deviation(images, positions, sampling) < 1e-12


def test_a_wrong_sampler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from ablations.probes.transformers import sampler_gradients
    from modules.blocks.sampling import sample

    monkeypatch.setattr(sampler_gradients, "sample", lambda x, p, s: sample(x, 1.001 * p, s))
    images, positions = torch.randn(1, 1, 6, 6), torch.rand(1, 4, 4, 2) - 0.5
    assert deviation(images, positions, "bilinear") > 1e-5


def centres(height: int, width: int) -> torch.Tensor:
    """Positions of all pixels' centres: (1, height, width, 2), where the sums have kinks."""
    y, x = ((2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1 for size in (height, width))
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)[None]


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(6, 6), (5, 8)])
def test_kinks_in_the_middle_of_pixels_are_no_deviation(sampling: str, size: tuple[int, int]) -> None:
    images = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(3))
    assert deviation(images, centres(*size), sampling) < 1e-12


@pytest.mark.parametrize("axis", [0, 1])
def test_a_wrong_slope_is_found_though_the_other_axis_stands_on_kinks(
    axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablations.probes.transformers import sampler_gradients
    from modules.blocks.sampling import sample

    def too_steep(x: torch.Tensor, positions: torch.Tensor, sampling: Any) -> torch.Tensor:
        return sample(x, positions.detach() + 1.001 * (positions - positions.detach()), sampling)

    images, positions = torch.randn(1, 1, 5, 8, generator=torch.Generator().manual_seed(4)), centres(5, 8)
    positions[..., axis] += 0.05
    assert deviation(images, positions, "bilinear") < 1e-12
    monkeypatch.setattr(sampler_gradients, "sample", too_steep)
    assert deviation(images, positions, "bilinear") > 5e-4
