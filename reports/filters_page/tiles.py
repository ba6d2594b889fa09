"""Small pictures of a page: arrays of numbers as PNG files, each pixel a square, embedded with their description."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ablations.harness.store.files import atomic_write_bytes
from reports.pages.embedding import data_uri

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]  # (H, W, 3)

PIXELS = 96  # the width that a tile is enlarged to, at most; larger pictures shrink to it


class Tile(NamedTuple):
    """A picture of the page: its file, its bytes as a data URI, what it shows, and the words below it."""

    file: str
    data: str
    alt: str
    caption: str


class Album:
    """Writes the pictures of one page into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.count = 0

    def add(self, name: str, picture: Picture, alt: str, caption: str = "") -> Tile:
        """Writes the picture as <number>-<name>.png at the size of a tile; raises OSError as `atomic_write_bytes`."""
        self.count += 1
        path = self.folder / f"{self.count:04d}-{name}.png"
        stream = io.BytesIO()
        Image.fromarray(_sized(picture)).save(stream, format="png", optimize=True)
        atomic_write_bytes(path, stream.getvalue())
        return Tile(f"{self.folder.name}/{path.name}", data_uri(stream.getvalue()), alt, caption)


def of_image(image: Tensor) -> Picture:
    """An image (C, H, W) in 0..1, grey or coloured; of other numbers of channels the mean."""
    values = image.detach().cpu().double().numpy()
    if len(values) not in (1, 3):
        values = values.mean(axis=0, keepdims=True)
    return _bytes(np.broadcast_to(values, (3, *values.shape[1:])).transpose(1, 2, 0))


def of_kernel(weights: Tensor) -> Picture:
    """A kernel (C, k, k) on its own scale: 0 is medium grey, the largest weight black or white (or a full colour)."""
    largest = float(weights.abs().max()) or 1.0
    return of_image(0.5 + weights / (2 * largest))


def of_signed(values: Tensor) -> Picture:
    """A map (H, W) with a sign: purple below 0, orange above, white at 0; 1 % of the pixels may be beyond the scale."""
    array = values.detach().cpu().double().numpy()
    limit = float(np.quantile(np.abs(array), 0.99)) or float(np.abs(array).max()) or 1.0
    return _coloured(0.5 + array / (2 * limit), "PuOr_r")


def of_heat(values: Tensor) -> Picture:
    """A map (H, W) from its smallest value, dark, to its largest, bright."""
    return _coloured(_unit(values), "viridis")


def overlaid(image: Tensor, heat: Tensor) -> Picture:
    """A heat map (H, W) over an image (C, H, W) in 0..1."""
    under, over = of_image(image).mean(axis=2, keepdims=True), _coloured(_unit(heat), "viridis")
    return np.asarray(0.4 * under + 0.6 * over).round().astype(np.uint8)


def outlined(image: Tensor, polygon: Sequence[tuple[float, float]]) -> Picture:
    """An image (C, H, W) in 0..1, enlarged, with a closed line over it; points as fractions of the width, x first."""
    drawn = Image.fromarray(_sized(of_image(image)))
    points = [(x * drawn.width, y * drawn.height) for x, y in polygon]
    pen = ImageDraw.Draw(drawn)
    for colour, width in (((0, 0, 0), 4), ((255, 176, 0), 2)):  # dark below, so that it is seen on any image
        pen.line([*points, points[0]], fill=colour, width=width, joint="curve")
    return np.asarray(drawn)


def _unit(values: Tensor) -> Array:
    array: Array = values.detach().cpu().double().numpy()
    low, high = float(array.min()), float(array.max())
    return (array - low) / (high - low) if high > low else np.zeros_like(array)


def _coloured(unit: Array, name: str) -> Picture:
    return _bytes(np.asarray(mpl.colormaps[name](np.clip(unit, 0, 1)))[..., :3])


def _bytes(unit: Array) -> Picture:
    return (np.clip(unit, 0, 1) * 255).round().astype(np.uint8)


def _sized(picture: Picture) -> Picture:
    """Every pixel a square of whole width, so that the tile is as near to PIXELS as that allows; shrunk if larger."""
    longest = max(picture.shape[:2])
    if longest > PIXELS:
        size = tuple(round(side * PIXELS / longest) for side in picture.shape[1::-1])
        return np.asarray(Image.fromarray(picture).resize((size[0], size[1]), Image.Resampling.BOX))
    factor = PIXELS // longest
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
