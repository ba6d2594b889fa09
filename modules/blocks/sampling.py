"""Values of images at positions between their pixels: Jaderberg et al. 2015, arXiv:1506.02025, section 3.3.

In fp32 or better, whatever the precision around it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Sampling = Literal["bilinear", "nearest"]


def autocast_off(x: Tensor) -> torch.autocast:
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)  # the meta device knows no autocast


def at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


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
    values = at_least_fp32(x)
    return _sample(values, positions.to(values.dtype), sampling == "nearest").to(x.dtype)
