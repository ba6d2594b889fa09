"""Images that a channel answers to most: Olah, Mordvintsev & Schubert 2017, "Feature visualization", Distill.

Reproduced: an image as a spectrum in which all frequencies count alike, colours that do not depend on each other, and a
small shift at every step. Differs: colours are those of the data set at hand instead of ImageNet's; of the article's
random transformations only the shift is used, because small images have nothing to spare for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ablations.probes.filters.maps import outputs
from modules.blocks.network import Network, evaluating

STEPS, RATE = 96, 0.05


class Maximised(NamedTuple):
    """Images (N, C, S, S) in 0..1, and the mean activation of each one's channel at the start and at the end."""

    images: Tensor
    before: list[float]
    after: list[float]


def colour_basis(images: Tensor) -> Tensor:
    """The square root of the colours' covariance over images (N, C, H, W), its largest column of length 1: (C, C)."""
    pixels = images.double().permute(1, 0, 2, 3).flatten(1)
    pixels = pixels - pixels.mean(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(pixels @ pixels.mT / pixels.shape[1])
    root = vectors * values.clamp(min=0).sqrt()
    longest = root.norm(dim=0).max()
    return (root / longest).float() if longest > 0 else torch.eye(len(pixels))


def maximise(
    network: Network,
    layer: str,
    channels: Sequence[int],
    size: int,
    colours: Tensor,
    normalise: Callable[[Tensor], Tensor],
    seed: int,
    steps: int = STEPS,
) -> Maximised:
    """Climbs the mean activation of each channel of a layer, from noise.

    size: of the images in pixels. colours: as `colour_basis` gives them. normalise: from 0..1 to what the network
    takes. The same seed gives the same images. Raises ValueError for a channel that the layer does not have.
    """
    draws = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    count = len(channels)
    frequencies = torch.sqrt(torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size) ** 2)
    scale = (size / frequencies.clamp(min=1 / size)).to(device)
    start = 0.01 * torch.randn(count, len(colours), *scale.shape, 2, generator=draws)
    spectrum = start.to(device).requires_grad_()
    optimiser = torch.optim.Adam([spectrum], lr=RATE)
    colours, shift = colours.to(device), max(1, size // 16)

    def picture() -> Tensor:
        waves = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(size, size)) / 4
        return torch.sigmoid(torch.einsum("cd,ndhw->nchw", colours, waves))

    def activation(images: Tensor) -> Tensor:
        y = outputs(network, [layer], normalise(images))[layer]
        if not all(0 <= channel < y.shape[1] for channel in channels):
            raise ValueError(f"layer {layer} has channels 0 to {y.shape[1] - 1}, got {list(channels)}")
        return y[range(count), list(channels)].mean(dim=(1, 2))

    with evaluating(network):
        with torch.no_grad():
            before = activation(picture())
        for _ in range(steps):
            by = torch.randint(-shift, shift + 1, (2,), generator=draws).tolist()
            objective = activation(torch.roll(picture(), shifts=by, dims=(2, 3))).sum()
            (spectrum.grad,) = torch.autograd.grad(-objective, spectrum)
            optimiser.step()
        with torch.no_grad():
            images = picture()
            after = activation(images)
    return Maximised(images.cpu(), before.tolist(), after.tolist())
