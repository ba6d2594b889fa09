"""Batched augmentation and normalisation, as pure functions of images and uniform draws.

He et al. 2015, arXiv:1512.03385, section 4.2: pad, crop at random, flip at random. Nothing here draws random numbers,
so the same draws give the same images on any device, rank or worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_DRAWS = 3
"""Uniform numbers per image: row offset, column offset, flip."""


@dataclass(frozen=True)
class Augment:
    """Which training augmentation: crop from an image padded by `pad` pixels on every side, flip half of the images."""

    pad: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad is {self.pad}; allowed: 0 or more pixels")

    def __call__(self, images: Tensor, draws: Tensor, fill: Tensor) -> Tensor:
        """Crop and flip: uint8 (N, H, W, C) to the same shape.

        draws: float32 (N, 3) in [0, 1), on the device of the images. fill: uint8 (C,), the colour of the padding; He
        et al. pad with zeros after the mean is subtracted, so it is the mean colour.
        """
        if not self.pad and not self.flip:
            return images
        num, height, width, channels = images.shape
        padded_height, padded_width = height + 2 * self.pad, width + 2 * self.pad
        padded = fill.repeat(padded_width).expand(num * padded_height, -1).contiguous()
        padded = padded.view(num, padded_height, padded_width, channels)
        padded[:, self.pad : self.pad + height, self.pad : self.pad + width] = images

        offsets = (draws[:, :2] * (2 * self.pad + 1)).int()
        first_rows = torch.arange(num, dtype=torch.int32, device=images.device) * padded_height + offsets[:, 0]
        rows = first_rows[:, None] + torch.arange(height, dtype=torch.int32, device=images.device)
        starts = (rows * padded_width + offsets[:, 1:]).flatten()
        # Every pixel starts a window as long as one row of the crop; windows overlap. Gathering whole rows, and whole
        # images for the flip, is three times as fast as gathering pixels.
        windows = padded.as_strided((num * padded_height * padded_width - width + 1, width * channels), (channels, 1))
        crops = windows.index_select(0, starts).view(num, height, width, channels)
        if not self.flip:
            return crops
        flipped = torch.arange(num, device=images.device) + num * (draws[:, 2] < 0.5)
        return torch.cat([crops, crops.flip(2)]).index_select(0, flipped)


def normalise(images: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> Tensor:
    """(images / 255 - mean) / std: uint8 (N, H, W, C) to float32 (N, C, H, W) in channels_last memory.

    mean, std: per channel, 0..1 scale. The permutation is a view, so the conversion to float is the only copy.
    """
    num, height, width, channels = images.shape
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device)
    std = torch.as_tensor(std, dtype=torch.float32, device=images.device)
    # Whole rows of W * C values, because an inner dimension of 3 keeps the CPU's vector units idle (7 times slower).
    scale = (1 / (255 * std)).repeat(width)
    offset = (-mean / std).repeat(width)
    rows = torch.addcmul(offset, images.reshape(num, height, width * channels).float(), scale)
    return rows.view(num, height, width, channels).permute(0, 3, 1, 2)
