"""Spatial transformers: transforms, sampling and its gradients, deletion, and the networks around them."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor, nn

from modules import build
from modules.blocks.grids import Grid, MatrixGrid, SplineGrid, pixel_centres
from modules.blocks.sampling import sample
from modules.blocks.spatial_transformer import SpatialTransformer, TransformerDesign, transformer_block

MATRICES = ("affine", "attention", "translation", "projective")
TRANSFORMS = (*MATRICES, "tps")


def grid(transform: str, size: int, scale: float = 1.0, offset: tuple[float, float] = (0.0, 0.0)) -> Grid:
    if transform == "tps":
        return SplineGrid(size, 4, scale, offset)
    return MatrixGrid(size, transform, scale, offset)


# Sampling, against the sums over all pixels that the paper writes


def slow_sample(x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Equations 5 to 7: x (H, W) at positions (P, 2) in pixels gives V, dV/dU, dV/dx: (P), (P, H, W), (P, 2)."""
    values, by_pixel, by_position = [], torch.zeros(len(positions), *x.shape).double(), []
    for i, (u, v) in enumerate(positions.tolist()):
        value, slope_u, slope_v = 0.0, 0.0, 0.0
        for n, m in itertools.product(*map(range, x.shape)):
            near_u, near_v = max(0.0, 1 - abs(u - m)), max(0.0, 1 - abs(v - n))
            value += float(x[n, m]) * near_u * near_v
            by_pixel[i, n, m] = near_u * near_v
            slope_u += float(x[n, m]) * near_v * (0 if abs(m - u) >= 1 else 1 if m >= u else -1)
            slope_v += float(x[n, m]) * near_u * (0 if abs(n - v) >= 1 else 1 if n >= v else -1)
        values.append(value)
        by_position.append((slope_u, slope_v))
    return torch.tensor(values).double(), by_pixel, torch.tensor(by_position).double()


@pytest.fixture
def image_and_pixels() -> tuple[Tensor, Tensor]:
    """An image (5, 7) and 40 positions in pixels, some of them at the border and outside."""
    torch.manual_seed(0)
    return torch.randn(5, 7).double(), torch.rand(40, 2).double() * torch.tensor([9.0, 7.0]) - 1.5


def normalised(pixels: Tensor, height: int, width: int) -> Tensor:
    return ((2 * pixels + 1) / torch.tensor([width, height]) - 1).view(1, 1, -1, 2)


def test_bilinear_sampling_and_its_gradients_are_those_of_the_paper(image_and_pixels: tuple[Tensor, Tensor]) -> None:
    image, pixels = image_and_pixels
    expected, by_pixel, by_position = slow_sample(image, pixels)
    image.requires_grad_()
    pixels.requires_grad_()
    found = sample(image[None, None], normalised(pixels, 5, 7), "bilinear").flatten()
    torch.testing.assert_close(found, expected)
    assert (expected == 0).any()
    assert (expected != 0).any()
    for i in range(len(pixels)):
        to_image, to_position = torch.autograd.grad(found[i], (image, pixels), retain_graph=True)
        torch.testing.assert_close(to_image, by_pixel[i])
        torch.testing.assert_close(to_position[i], by_position[i])


def test_nearest_sampling_takes_one_pixel_and_gives_no_gradient_to_positions(
    image_and_pixels: tuple[Tensor, Tensor],
) -> None:
    image, pixels = image_and_pixels
    image.requires_grad_()
    pixels.requires_grad_()
    found = sample(image[None, None], normalised(pixels, 5, 7), "nearest").flatten()
    weights = torch.randn(len(pixels)).double()
    to_image, to_positions = torch.autograd.grad((found * weights).sum(), (image, pixels))
    by_pixel = torch.zeros(5, 7).double()
    for value, weight, (u, v) in zip(
        found.tolist(), weights, (pixels.detach() + 0.5).floor().int().tolist(), strict=True
    ):
        inside = 0 <= u < 7 and 0 <= v < 5
        assert value == (image[v, u].item() if inside else 0.0)
        if inside:
            by_pixel[v, u] += weight
    torch.testing.assert_close(to_image, by_pixel)
    assert to_positions.count_nonzero() == 0


@pytest.mark.parametrize("nearest", [False, True])
def test_sampling_tells_the_compiler_the_truth_about_itself(nearest: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    positions = torch.rand(2, 4, 6, 2).requires_grad_()
    torch.library.opcheck(torch.ops.cnn_ablations.sample.default, (x, positions, nearest))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gradients_through_transform_and_sampling(transform: str) -> None:
    torch.manual_seed(1)
    where = grid(transform, 4).double()
    x = torch.randn(2, 2, 5, 5).double().requires_grad_()
    theta = (where.start + 0.1 * torch.randn(2, where.num_numbers).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, theta: sample(x, where(theta), "bilinear"), (x, theta), eps=1e-7)


# Transforms


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", [1, 16, 28, 60])
def test_identity_gives_the_input_back(transform: str, size: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, size, size)
    where = grid(transform, size)
    positions = where(where.start.expand(2, -1))
    torch.testing.assert_close(positions, pixel_centres(size).float().view(1, size, size, 2).expand(2, -1, -1, -1),
                               rtol=0, atol=1e-7)  # fmt: skip
    torch.testing.assert_close(sample(x, positions, "bilinear"), x, rtol=0, atol=1e-5)
    assert torch.equal(sample(x, positions, "nearest"), x)


@pytest.mark.parametrize("transform", MATRICES)
def test_matrix_transforms(transform: str) -> None:
    """Against the homogeneous product written out."""
    torch.manual_seed(0)
    where = grid(transform, 6, scale=0.5)
    theta = where.start + 0.2 * torch.randn(3, where.num_numbers)
    zeros, ones = torch.zeros(3), torch.ones(3)
    half = 0.5 * ones
    rows = {
        "affine": lambda: [*theta.T, zeros, zeros, ones],
        "attention": lambda: [theta[:, 0], zeros, theta[:, 1], zeros, theta[:, 0], theta[:, 2], zeros, zeros, ones],
        "translation": lambda: [half, zeros, theta[:, 0], zeros, half, theta[:, 1], zeros, zeros, ones],
        "projective": lambda: [*theta.T, ones],
    }[transform]()
    matrix = torch.stack(rows, dim=1).view(3, 3, 3)
    points = nn.functional.pad(pixel_centres(6).float(), (0, 1), value=1.0)
    moved = torch.einsum("nij,pj->npi", matrix, points)
    expected = moved[:, :, :2] / moved[:, :, 2:]
    torch.testing.assert_close(where(theta).flatten(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_thin_plate_spline_against_scipy() -> None:
    torch.manual_seed(0)
    where = grid("tps", 7)
    theta = where.start + 0.2 * torch.randn(1, 32)
    along = torch.linspace(-1, 1, 4)
    controls = torch.stack([along.repeat(4), along.repeat_interleave(4)], dim=1)
    expected = RBFInterpolator(controls.double(), theta.view(16, 2).double(), kernel="thin_plate_spline")(
        pixel_centres(7).numpy()
    )
    torch.testing.assert_close(where(theta).view(49, 2), torch.from_numpy(expected).float(), rtol=0, atol=1e-5)
    # A pixel on a control point: r^2 log r^2 at 0.
    torch.testing.assert_close(where.at(theta, controls)[0], theta.view(16, 2), rtol=0, atol=1e-5)


def test_projection_beyond_the_horizon_stays_finite() -> None:
    where = grid("projective", 8)
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0, 5.0, 5.0]], requires_grad=True)
    x = torch.rand(1, 1, 8, 8)
    sample(x, where(theta), "bilinear").sum().backward()
    assert where(theta).isfinite().all()
    assert theta.grad.isfinite().all()


# The block


@pytest.mark.parametrize("localisation", ["fc", "conv", "fc_svhn", "conv_svhn"])
@pytest.mark.parametrize("size", [8, 16, 28, 61])
def test_a_fresh_transformer_is_the_identity_and_so_is_a_deleted_one(localisation: Any, size: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 2, size, size)
    block = transformer_block(2, size, TransformerDesign(localisation=localisation))
    torch.testing.assert_close(block(x), x, rtol=0, atol=1e-5)
    assert torch.equal(block(x, route="shortcut"), x)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("output_size", [5, 8, 24])
def test_a_deleted_transformer_resizes_as_the_identity_does(sampling: Any, output_size: int) -> None:
    x = torch.rand(2, 3, 16, 16)
    block = transformer_block(3, 16, TransformerDesign(output_size=output_size, sampling=sampling))
    assert block(x).shape == (2, 3, output_size, output_size)
    torch.testing.assert_close(block(x), block(x, route="shortcut"))


def test_half_size_samples_like_average_pooling() -> None:
    x = torch.rand(2, 3, 16, 16)
    block = transformer_block(3, 16, TransformerDesign(output_size=8))
    torch.testing.assert_close(block(x), nn.functional.avg_pool2d(x, 2))


def test_random_start_is_not_the_identity() -> None:
    x = torch.rand(2, 1, 16, 16)
    assert not torch.allclose(transformer_block(1, 16, TransformerDesign(start="random"))(x), x, atol=0.1)


def moved_transformer(transform: Any = "affine", **arguments: Any) -> SpatialTransformer:
    """One whose theta depends on the image."""
    torch.manual_seed(0)
    design = TransformerDesign(transform, localisation="fc", **arguments)
    transformer = transformer_block(1, 16, design).branch
    nn.init.normal_(transformer.localisation.get_parameter("theta.weight"), std=0.2)
    return transformer


def test_theta_can_be_seen_from_outside() -> None:
    transformer, x = moved_transformer(), torch.rand(3, 1, 16, 16)
    seen: list[Tensor] = []
    with transformer.localisation.get_submodule("theta").register_forward_hook(lambda *call: seen.append(call[2])):
        y = transformer(x)
    assert len(seen) == 1
    assert seen[0].shape == (3, 6)
    assert seen[0].std(dim=0).min() > 0
    assert torch.equal(seen[0], transformer.theta(x))
    assert torch.equal(y, sample(x, transformer.grid(seen[0]), "bilinear"))


def test_outline_in_pixels() -> None:
    transformer = moved_transformer("attention", output_size=5)
    theta = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, -0.5]])
    expected = [
        [[-0.5, -0.5], [15.5, -0.5], [15.5, 15.5], [-0.5, 15.5]],  # the outer edges of the first and last pixels
        [[5.5, -0.5], [13.5, -0.5], [13.5, 7.5], [5.5, 7.5]],
    ]
    torch.testing.assert_close(transformer.outline(theta), torch.tensor(expected))
    assert transformer.outline(theta, 10).shape == (2, 40, 2)
    spline = moved_transformer("tps")
    theta = spline.grid.start + 0.1 * torch.randn(1, 32)
    corner = (theta.view(16, 2)[15] + 1) * 8 - 0.5
    torch.testing.assert_close(spline.outline(theta)[0, 2], corner, rtol=0, atol=1e-4)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_positions_and_sampling_stay_in_full_precision_under_autocast(transform: str) -> None:
    transformer, x = moved_transformer(transform), torch.rand(3, 1, 16, 16)
    seen: list[Tensor] = []
    hook = transformer.localisation.get_submodule("theta").register_forward_hook(lambda *call: seen.append(call[2]))
    with hook, torch.autocast("cpu", torch.bfloat16):
        y = transformer(x)
        half = transformer(x.bfloat16())
    assert {theta.dtype for theta in seen} == {torch.float32}
    assert y.dtype == torch.float32
    assert torch.equal(y, sample(x, transformer.grid(seen[0]), "bilinear"))
    assert half.dtype == torch.bfloat16


def test_a_compiled_network_stays_whole_and_samples_as_it_did() -> None:
    torch.manual_seed(0)
    network = build("st_fcn", 10, 1, num_parameters=20_000, image_size=16)
    x = torch.rand(2, 1, 16, 16)
    expected = network(x)
    operations: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        operations.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    assert "cnn_ablations.sample.default" in operations
    assert not any("grid_sampl" in operation for operation in operations)
    torch.compiler.reset()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_neither_output_nor_gradient_changes_the_memory_format(memory_format: torch.memory_format) -> None:
    """Or the layers before and behind work on mixed formats."""
    torch.manual_seed(0)
    block = transformer_block(3, 16, TransformerDesign(localisation="fc_svhn", scale=0.9))
    x = torch.rand(2, 3, 16, 16)
    y = x.contiguous(memory_format=memory_format).requires_grad_() * 1  # what a layer in front would give
    gradients: list[Tensor] = []
    y.register_hook(gradients.append)
    moved = block(y)
    moved.square().sum().backward()
    assert moved.is_contiguous(memory_format=memory_format)
    assert gradients[0].is_contiguous(memory_format=memory_format)
    assert torch.equal(moved, block(x))
