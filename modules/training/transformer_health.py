"""How a spatial transformer goes wrong, counted: windows outside the image, blank outputs, transforms that fold.

Jaderberg et al. 2015, arXiv:1506.02025, say nothing of it; these are the failures that users of spatial transformers
report. Out of such a state there is little way back: outside the image, and where the output does not vary, the
gradient of the sampling vanishes.

Not counted: a mirror image, which keeps everything that the image shows and can be undone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modules.blocks.grids import NEAREST_HORIZON, Grid, MatrixGrid

# The least area of the sampled window, as a share of the image's: a square of a hundredth of its width, which is less
# than a pixel up to 100 pixels.
LEAST_AREA = 1e-4
LEAST_VARIATION = 1e-4  # of a channel, as a share of its largest value: what rounding of positions alone can make


def outside(positions: Tensor) -> Tensor:
    """Which positions (..., 2) lie outside the image, [-1, 1] x [-1, 1]: booleans (...)."""
    return (positions.abs() > 1).any(dim=-1)


def blank(output: Tensor) -> Tensor:
    """Which outputs (N, C, H, W) show nothing, every channel constant: (N,); never those of a single pixel."""
    if output.shape[2:].numel() == 1:
        return output.new_zeros(len(output), dtype=torch.bool)
    low, high = output.amin(dim=(2, 3)), output.amax(dim=(2, 3))
    largest = torch.maximum(low.abs(), high.abs())
    rounding = 2 * torch.finfo(output.dtype).eps  # more than that in bf16
    return (high - low <= max(LEAST_VARIATION, rounding) * largest).all(dim=1)


def folded(grid: Grid, theta: Tensor, positions: Tensor) -> Tensor:
    """Which transforms cannot be undone: (N,), for theta (N, num_numbers) and the positions that the grid makes of it.

    All kinds: the window, mirrored or not, has less than LEAST_AREA of the image's area. Projection: a pixel lies
    behind the horizon or almost on it, see `MatrixGrid`. Thin plate spline: some pixels follow each other clockwise and
    others counterclockwise, the sign of the Jacobian between neighbours; its area is the mean over the pixels. An
    output of a single pixel shows no fold of a spline.
    """
    if not isinstance(grid, MatrixGrid):
        right = positions[:, :-1, 1:] - positions[:, :-1, :-1]
        down = positions[:, 1:, :-1] - positions[:, :-1, :-1]
        turns = ((right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]) * (grid.size / 2) ** 2).flatten(1)
        is_bent_over = (turns > 0).any(dim=1) & (turns < 0).any(dim=1)
        return is_bent_over | (turns.mean(dim=1).abs() < LEAST_AREA)
    change = theta.float() @ grid.spread.float() + grid.change.float()
    matrix = change.unflatten(1, (3, 3)) + torch.eye(3, device=change.device)
    # The Jacobian of a projection in front of the horizon has the sign of this determinant everywhere.
    area = (matrix[:, 0] * torch.linalg.cross(matrix[:, 1], matrix[:, 2])).sum(dim=1)
    found = area.abs() < LEAST_AREA
    if grid.projective:
        nearest = 1 - matrix[:, 2, :2].abs().sum(dim=1) * (1 - 1 / grid.size)  # at one of the four corner pixels
        found |= nearest < NEAREST_HORIZON
    return found
