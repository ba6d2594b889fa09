"""What part of the image a unit can see, and what part it answers to.

`ReceptiveField` is the part that can reach a unit at all. It is computed by a gradient on a copy of the network in
which nothing can hide a path: positive weights alone, no ReLU, average in place of max pooling. `extent` is the
part that matters, as the gradient on real images says (Luo, Li, Urtasun & Zemel 2016, arXiv:1701.04128, section 2: the
effective receptive field; their measure is the area above 4.5 % of the peak, here it is a radius of inertia).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ablations.probes.filters.maps import outputs
from modules.blocks.network import Network, evaluating
from modules.blocks.spatial_transformer import SpatialTransformer


class Box(NamedTuple):
    """Rows top..bottom - 1 and columns left..right - 1 of the image."""

    top: int
    left: int
    bottom: int
    right: int


class ReceptiveField:
    """Boxes of the image that the units of a network's layers can see; images are (channels, size, size)."""

    def __init__(self, network: Network, channels: int, size: int) -> None:
        self.network = _transparent(network)
        draws = torch.Generator().manual_seed(0)
        # Positive and uneven, so that no product and no sampled position loses its gradient.
        self.image = 0.5 + torch.rand(1, channels, size, size, generator=draws, dtype=torch.float64)
        self.found: dict[tuple[str, int, int], Box] = {}

    def __call__(self, layer: str, row: int, column: int) -> Box:
        """What the unit at (row, column) of a layer's maps can see, cut at the image's edge.

        Raises ValueError if no gradient arrives, so that the field is unknown.
        """
        key = (layer, row, column)
        if key not in self.found:
            image = self.image.clone().requires_grad_()
            y = outputs(self.network, [layer], image)[layer]
            gradient = torch.autograd.grad(y[0, :, row, column].sum(), image)[0][0].abs().sum(dim=0)
            seen = gradient > 0  # exactly: a far corner of a deep network's field has a share of 1e-100
            if not bool(seen.any()):
                raise ValueError(f"no gradient shows what layer {layer} can see")
            rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
            self.found[key] = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        return self.found[key]


def extent(network: Network, names: Iterable[str], batches: Iterable[Tensor]) -> dict[str, float]:
    """Layer -> radius in pixels of the part of the image that its central unit answers to.

    The root mean square distance from the centre of the squared gradient, summed over channels and images: about 2 for
    a 5 x 5 kernel of noise. batches: images (N, C, H, W). A layer without any gradient gives NaN.
    """
    energy: dict[str, Tensor] = {}
    with evaluating(network):
        for images in batches:
            for name in names:
                x = images.detach().clone().requires_grad_()
                y = outputs(network, [name], x)[name]
                middle = y[:, :, y.shape[2] // 2, y.shape[3] // 2]
                gradient = torch.autograd.grad(middle.sum(), x)[0].double().square().sum(dim=(0, 1)).cpu()
                energy[name] = energy[name] + gradient if name in energy else gradient
    return {name: _radius(found) for name, found in energy.items()}


def _radius(energy: Tensor) -> float:
    """Root mean square distance of (H, W) from its centre of mass."""
    total = float(energy.sum())
    if total <= 0:
        return float("nan")
    rows, columns = (torch.arange(size, dtype=energy.dtype) for size in energy.shape)
    by_row, by_column = energy.sum(dim=1) / total, energy.sum(dim=0) / total
    variance = [
        float((share * (places - (share * places).sum()) ** 2).sum())
        for share, places in ((by_row, rows), (by_column, columns))
    ]
    return float(sum(variance) ** 0.5)


def _transparent(network: Network) -> Network:
    """A copy in double precision through which every path can be seen; spatial transformers stay as they are."""
    clear = copy.deepcopy(network).double().cpu().eval()
    kept = {part for m in clear.modules() if isinstance(m, SpatialTransformer) for part in m.modules()}
    for module in list(clear.modules()):
        if module in kept:
            continue
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d) and child not in kept:
                window = (child.kernel_size, child.stride, child.padding)
                setattr(module, name, nn.AvgPool2d(*window, ceil_mode=child.ceil_mode))
            elif isinstance(child, nn.ReLU) and child not in kept:
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for module in clear.modules():
            if module in kept:
                continue
            for parameter in module.parameters(recurse=False):
                parameter.fill_(1.0 / (parameter[0].numel() if parameter.dim() else 1))
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
    return clear
