"""Gradients of the sampler against the sums of the paper: Jaderberg et al. 2015, arXiv:1506.02025, equations 4 to 7.

Bilinear: V = sum over pixels (m, n) of U[n, m] max(0, 1 - |x - m|) max(0, 1 - |y - n|), with x and y in pixels. Then
dV/dU[n, m] is the product of the two factors, and dV/dx = sum U[n, m] max(0, 1 - |y - n|) s, where s is 0 if
|m - x| >= 1, 1 if m >= x, and -1 if m < x; dV/dy alike. Nearest: V = U at the nearest pixel, which does not change with
x and y. Everything in double precision, by dense sums over all pixels, as they are printed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modules.blocks.sampling import Sampling, sample

KINK = 1e-9  # pixels


def deviation(images: Tensor, positions: Tensor, sampling: Sampling, seed: int = 0) -> float:
    """The largest difference of value, dU, dx and dy between `sample` and the sums, as a share of each one's largest.

    A position in the middle of a pixel is left out of dx or dy: the sum has a kink there, and either slope is right.
    images: (N, C, H, W). positions: (N, S, S, 2), from -1 to 1, see `modules.blocks.spatial_transformer`. seed: of the
    weights with which the outputs' gradients are summed.
    """
    images = images.double().requires_grad_()
    positions = positions.double().requires_grad_()
    values = sample(images, positions, sampling)
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = torch.autograd.grad(
        (values * weights).sum(), [images, positions], allow_unused=True, materialize_grads=True
    )
    expected = _sums(images.detach(), positions.detach(), weights, sampling)
    width_height = torch.tensor(images.shape[:1:-1])
    pixels = ((positions.detach() + 1) * width_height - 1) / 2
    smooth = (pixels - pixels.round()).abs() > KINK
    pairs = zip((values.detach(), found[0], found[1] * smooth), (*expected[:2], expected[2] * smooth), strict=True)
    return max(_apart(one, other) for one, other in pairs)


def _sums(images: Tensor, positions: Tensor, weights: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Values, and the gradients of their weighted sum with respect to images and positions."""
    height, width = images.shape[2:]
    near_x, slope_x = _factors(positions[..., 0].flatten(1), width, sampling)  # (N, P, W)
    near_y, slope_y = _factors(positions[..., 1].flatten(1), height, sampling)
    flat = weights.flatten(2)
    values = torch.einsum("nchw,nph,npw->ncp", images, near_y, near_x).view_as(weights)
    to_images = torch.einsum("ncp,nph,npw->nchw", flat, near_y, near_x)
    to_x = torch.einsum("ncp,nchw,nph,npw->np", flat, images, near_y, slope_x) * width / 2
    to_y = torch.einsum("ncp,nchw,nph,npw->np", flat, images, slope_y, near_x) * height / 2
    return values, to_images, torch.stack([to_x, to_y], dim=-1).view_as(positions)


def _factors(along: Tensor, size: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What each of `size` pixels counts at positions (N, P), and how that changes with the position in pixels."""
    x = ((along + 1) * size - 1)[..., None] / 2
    pixels = torch.arange(size, dtype=along.dtype)
    if sampling == "nearest":
        near = (x.round() == pixels).to(along.dtype)
        return near, torch.zeros_like(near)
    slope = torch.where(pixels >= x, 1.0, -1.0).to(along.dtype)
    return (1 - (x - pixels).abs()).clamp(min=0), slope * ((pixels - x).abs() < 1)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1.0))
