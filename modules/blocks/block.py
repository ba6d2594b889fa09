"""The block equation that every architecture is made of.

    u = pre(x)
    y = post(merge(shortcut(u), branch(u)))

merge is add (ResNet, Highway with branch T(u) * (H(u) - u)), replace (LeNet, VGG, NiN, plain networks) or concat
(DenseNet layers, U-Net skips). A block is told which route to take:

| route    | add               | replace     | concat             | what it is for                          |
|----------|-------------------|-------------|--------------------|-----------------------------------------|
| both     | shortcut + branch | branch      | [shortcut, branch] | the network as published                |
| shortcut | shortcut          | shortcut    | [shortcut, 0]      | the block deleted (Veit et al. 2016)    |
| branch   | branch            | branch      | [0, branch]        | the shortcut deleted; the long path     |

A plain block's shortcut is the parameter-free shape match and is used only when the block is deleted.

How the hard cases fit, with no other mechanism:

- Highway, gates coupled (C = 1 - T): the shortcut is the identity and the branch T(u) * (H(u) - u); a deleted block is
  one whose gate is shut. Gates apart: the shortcut is C(u) * u and the branch T(u) * H(u).
- DenseNet: each layer is a concat block, each transition a replace block whose pooling stands in `post`.
- Inception: a replace block whose branch holds parallel paths, each of them a block again
  (`modules.blocks.parallel`); a deleted path gives zeros.
- U-Net: a skip spans blocks, so levels are nested. One level is a concat block whose shortcut is the (cropped) skip and
  whose branch goes down, through the next level, and up again. Route "branch" is the network without that skip.
- Spatial transformer: a replace block whose shortcut is the identity (or a resize), anywhere, in a stem too; several in
  parallel are paths again.

A block inside another has a dotted name, see `modules.blocks.network`.

Stochastic depth (Huang et al. 2016, arXiv:1603.09382) is the same mechanism with a random route in training:
`survival_prob` is the probability in (0, 1] that a branch is kept. `drop_per="batch"` is the paper's rule: one draw per
mini-batch, a dropped branch is really skipped, and at test time the branch is scaled by `survival_prob`.
`drop_per="sample"` is timm's rule: one draw per sample, survivors are divided by `survival_prob`, nothing is scaled at
test time. Where exactly k blocks of a network are kept per mini-batch, the network draws for all of them (`is_kept`).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

Route = Literal["both", "shortcut", "branch"]
Merge = Literal["add", "replace", "concat"]
DropPer = Literal["batch", "sample"]

ROUTES: tuple[str, ...] = get_args(Route)


class ShapeMatch(nn.Module):
    """Parameter-free shortcut between two shapes: subsample by `stride`, then pad with zero channels or cut channels.

    Maps (N, C_in, H, W) to (N, C_out, H', W'), and (N, C_in) to (N, C_out). The pixels that are kept are the centres of
    the windows of a convolution with this kernel_size, stride and padding, so that H' and W' equal its own; the
    default, a 1x1 window, keeps every stride-th pixel.
    Option A of He et al. 2015, arXiv:1512.03385, section 3.3; `average=True` pools instead of subsampling, as
    Huang et al. 2016 do. Cutting channels is ours: no published residual block shrinks its width.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        average: bool = False,
        kernel_size: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.before = (kernel_size - 1) // 2 - padding  # pixels on each side whose windows do not exist
        self.after = kernel_size // 2 - padding
        if self.before < 0:
            raise ValueError(f"padding {padding} reaches beyond the centre of a window of {kernel_size}")
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if average and stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = self.pool(x)
        elif self.stride > 1 or self.before or self.after:
            rows, columns = (slice(self.before, size - self.after, self.stride) for size in x.shape[2:])
            x = x[:, :, rows, columns]
        extra = self.out_channels - self.in_channels
        if extra > 0:
            x = nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, extra))
        return x[:, : self.out_channels]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


def shape_match(
    in_channels: int, out_channels: int, stride: int = 1, average: bool = False, kernel_size: int = 1, padding: int = 0
) -> nn.Module:
    """The identity where the shapes agree, else `ShapeMatch`."""
    if in_channels == out_channels and stride == 1 and kernel_size // 2 == padding == (kernel_size - 1) // 2:
        return nn.Identity()
    return ShapeMatch(in_channels, out_channels, stride, average, kernel_size, padding)


class _WithZeroGradients(torch.autograd.Function):
    """Hands x on unchanged and gives each parameter a gradient of zero; x + 0 * sum of all costs two passes over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return gradients[0], *(torch.zeros_like(p) if asked else None for p, asked in needed)


def _through(module: nn.Module | None, x: Tensor) -> Tensor:
    """What the module makes of x; a bare identity is not called, which a chain of a hundred small blocks would feel."""
    if type(module) is nn.Identity and not (module._forward_hooks or module._forward_pre_hooks):
        return x
    assert module is not None
    found: Tensor = module(x)
    return found


class Block(nn.Module):
    """One unit of a network: `post(merge(shortcut(pre(x)), branch(pre(x))))`, with a route that can be changed.

    changes_shape: whether shortcut and branch change channels or resolution (a downsampling block); pooling in `post`,
        which a deletion leaves in place, does not count.
    branch_channels: channels of the branch's output; needed by merge="concat" alone, to write zeros in its place.
    Raises ValueError for an unknown merge, or concat without branch_channels.
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module | None = None,
        *,
        pre: nn.Module | None = None,
        post: nn.Module | None = None,
        merge: Merge = "add",
        changes_shape: bool = False,
        branch_channels: int = 0,
    ) -> None:
        super().__init__()
        if merge not in get_args(Merge):
            raise ValueError(f"merge must be one of {', '.join(get_args(Merge))}, got {merge!r}")
        if merge == "concat" and branch_channels < 1:
            raise ValueError("merge='concat' needs branch_channels, the number of channels the branch adds")
        self.pre = pre if pre is not None else nn.Identity()
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.branch = branch
        self.post = post if post is not None else nn.Identity()
        self.merge = merge
        self.changes_shape = changes_shape
        self.branch_channels = branch_channels
        self.route: Route = "both"
        self.survival_prob = 1.0
        self.drop_per: DropPer = "batch"
        self.is_kept: bool | None = None  # drawn by the network, see `Network.kept_blocks`; None: the block draws alone

    def forward(self, x: Tensor, route: Route | None = None) -> Tensor:
        """Maps x by the given route, or by the block's own if none is given."""
        route = route or self.route
        parts = self._modules
        u = _through(parts["pre"], x)
        if route == "shortcut":
            merged = self._shortcut_alone(u)
        elif route == "branch":
            merged = self._branch_alone(u)
        elif self.survival_prob < 1.0:
            merged = self._stochastic(u)
        elif self.merge == "add":
            merged = _through(parts["shortcut"], u) + self.branch(u)
        elif self.merge == "concat":
            merged = torch.cat([_through(parts["shortcut"], u), self.branch(u)], dim=1)
        else:
            merged = self.branch(u)
        return _through(parts["post"], merged)

    def _shortcut_alone(self, u: Tensor) -> Tensor:
        kept = self.shortcut(u)
        if self.merge != "concat":
            return kept
        return torch.cat([kept, kept.new_zeros(kept.shape[0], self.branch_channels, *kept.shape[2:])], dim=1)

    def _branch_alone(self, u: Tensor) -> Tensor:
        if self.merge != "concat":
            return self.branch(u)
        return torch.cat([torch.zeros_like(self.shortcut(u)), self.branch(u)], dim=1)

    def _stochastic(self, u: Tensor) -> Tensor:
        """Residual sum with a random branch in training and the rule's expectation at test time."""
        if self.drop_per == "sample":
            if not self.training:
                return self.shortcut(u) + self.branch(u)
            kept = torch.rand((u.shape[0],) + (1,) * (u.dim() - 1), device=u.device) < self.survival_prob
            return self.shortcut(u) + self.branch(u) * (kept / self.survival_prob).to(u.dtype)
        if not self.training:
            return self.shortcut(u) + self.survival_prob * self.branch(u)
        # One draw per mini-batch, from the CPU generator: reading it back never waits for a device.
        if torch.rand(()).item() < self.survival_prob if self.is_kept is None else self.is_kept:
            return self.shortcut(u) + self.branch(u)
        # Zero gradients instead of none: DistributedDataParallel sees every parameter used, ranks may draw on their
        # own, and weight decay and momentum go on for a skipped branch as in the authors' code.
        skipped: Tensor = _WithZeroGradients.apply(self.shortcut(u), *self.branch.parameters())
        return skipped

    def extra_repr(self) -> str:
        survival = f", survival_prob={self.survival_prob:.3f}/{self.drop_per}" if self.survival_prob < 1.0 else ""
        return f"merge={self.merge}, changes_shape={self.changes_shape}{survival}"
