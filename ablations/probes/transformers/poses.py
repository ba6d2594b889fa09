"""What spatial transformers find: the transforms of images, as matrices, poses and windows.

Jaderberg et al. 2015, arXiv:1506.02025, section 4. Positions run from -1 at the left and upper edge of an image to 1 at
the right and lower edge, x first, as in `modules.blocks.spatial_transformer`. Any network with `SpatialTransformer`s in
it. A matrix (3, 3) maps points of the sampled window, (-1, -1) to (1, 1), to where they lie on the transformer's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modules import Network
from modules.blocks.features import captured
from modules.blocks.grids import MatrixGrid, SplineGrid
from modules.blocks.network import evaluating
from modules.blocks.spatial_transformer import SpatialTransformer


class Pose(NamedTuple):
    """Of N similarities: angle in degrees, counter-clockwise as seen, in (-180, 180]; scale; shift (N, 2)."""

    angle: Tensor
    scale: Tensor
    shift: Tensor


def transformers(network: Network) -> dict[str, SpatialTransformer]:
    """The network's transformers by the names of their modules, in the order in which they stand."""
    return {name: found for name, found in network.named_modules() if isinstance(found, SpatialTransformer)}


@torch.no_grad()
def thetas(
    network: Network, batches: Iterable[tuple[Tensor, Any]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, Tensor]:
    """Transformer -> theta (N, K) of all images of all batches, in their order, on the CPU, in evaluation mode.

    batches: (images (N, C, H, W), anything). on_pass: called after each batch. Raises ValueError without an image.
    """
    last = {name: each.localisation.get_submodule("theta") for name, each in transformers(network).items()}
    found: dict[str, list[Tensor]] = {name: [] for name in last}
    with evaluating(network):
        for images, _ in batches:
            for name, theta in captured(network, last, images).items():
                found[name].append(theta.float().cpu())
            on_pass()
    if not all(found.values()):
        raise ValueError("no images to transform")
    return {name: torch.cat(parts) for name, parts in found.items()}


def matrices(transformer: SpatialTransformer, theta: Tensor) -> Tensor:
    """The transforms of theta (N, K) as matrices, float64 (N, 3, 3).

    A thin plate spline is no matrix: what is given is the affine transform that fits its control points best.
    """
    grid, theta = transformer.grid, theta.double().cpu()
    if isinstance(grid, SplineGrid):
        controls = grid.controls.double().cpu()
        plane = torch.cat([controls, torch.ones_like(controls[:, :1])], dim=1)
        affine = (torch.linalg.pinv(plane) @ theta.unflatten(1, (-1, 2))).mT
        last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(theta), 1, 3)
        return torch.cat([affine, last], dim=1)
    assert isinstance(grid, MatrixGrid)
    change = theta @ grid.spread.double().cpu() + grid.change.double().cpu()
    return change.unflatten(1, (3, 3)) + torch.eye(3, dtype=torch.float64)


def local_affine(matrix: Tensor) -> Tensor:
    """What matrices (N, 3, 3) do near the middle of the window: themselves, unless they are projections."""
    middle = matrix[:, :2, 2:] / matrix[:, 2:, 2:]
    linear = (matrix[:, :2, :2] - middle * matrix[:, 2:, :2]) / matrix[:, 2:, 2:]
    last = torch.tensor([0.0, 0.0, 1.0], dtype=matrix.dtype).expand(len(matrix), 1, 3)
    return torch.cat([torch.cat([linear, middle], dim=2), last], dim=1)


def poses(matrix: Tensor) -> Pose:
    """The similarity nearest to each of matrices (N, 3, 3), which are affine; scale: the root of the area's factor.

    Rotation by angle a is [[cos a, sin a], [-sin a, cos a]], because y points down. What mirrors has the rotation of
    the polar decomposition as well as it can be told, and the scale of its area.
    """
    linear = matrix[:, :2, :2]
    angle = torch.atan2(linear[:, 0, 1] - linear[:, 1, 0], linear[:, 0, 0] + linear[:, 1, 1]).rad2deg()
    return Pose(angle, torch.linalg.det(linear).abs().sqrt(), matrix[:, :2, 2])


def windows(transformer: SpatialTransformer, theta: Tensor, num_per_side: int = 8) -> Tensor:
    """Upright boxes around the sampled windows of theta (N, K): (N, 4), left, top, right, bottom, from -1 to 1."""
    pixels = transformer.outline(theta.to(transformer.grid.start), num_per_side).double().cpu()
    edge = (2 * pixels + 1) / transformer.image_size - 1
    return torch.cat([edge.amin(dim=1), edge.amax(dim=1)], dim=1)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) and (..., 4), as `windows` measures them; 0 if both are empty."""
    both = common(one, other)
    union = area(one) + area(other) - both
    return torch.where(union > 0, both / union.clamp(min=1e-12), torch.zeros_like(both))


def common(one: Tensor, other: Tensor) -> Tensor:
    """Area that boxes (..., 4) and (..., 4) have in common."""
    sides = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    return sides.clamp(min=0).prod(-1)


def area(box: Tensor) -> Tensor:
    """Area of boxes (..., 4); that of the whole image is 4."""
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)
