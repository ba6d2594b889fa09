"""Two digits in one sample, one in each channel: Jaderberg et al. 2015, arXiv:1506.02025, appendix A.1 and A.2.

Addition: two digits, each rotated, scaled and placed on its own, and their sum as the label (19 classes).
Co-localisation: two images of one and the same digit, each placed somewhere among patches of other digits; nobody says
where.

Lengths are in pixels of a digit 28 pixels wide, as in `distorted_digits`. Not confirmed, hence arguments: that the
digits of the addition are distorted as RTS, and the 16 patches of 6 x 6 pixels of co-localisation (`patches=0`:
translated only).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.made.distorted_digits import KINDS, Distortion, patch_width, place, sizes
from datamodules.made.made_data import Description, chosen
from datamodules.made.painting import (
    CLUTTER_DRAWS,
    boxes,
    centres,
    clutter,
    mapped,
    paste,
    paste_clutter,
    rounded,
    sampled,
    whole_places,
)

if TYPE_CHECKING:
    from datamodules.images import ImageData

RTS = KINDS["RTS"]


def digit_addition(
    source: "ImageData",
    size: int | None = None,
    angle: float = RTS.angle,
    scale: tuple[float, float] = RTS.scale,
    room: float = RTS.room,
    digits: int | None = None,
) -> "DigitAddition":
    """The maker of two digits to be added, for `datamodules.make`.

    size: of the images, in pixels; None leaves the digits at the source's resolution (42 pixels for MNIST). angle,
    scale, room: as `Distortion`. digits: how many of the source's, from 0 on, are added, None for all.
    Raises ValueError for impossible values.
    """
    digits = source.num_classes if digits is None else digits
    if not 2 <= digits <= source.num_classes:
        raise ValueError(f"digits is {digits}; allowed: 2 to {source.num_classes}")
    distortion = Distortion(room=room, angle=angle, scale=(scale[0], scale[1]), placed=True)
    image_size, digit_size = _sizes(source, size, room)
    return DigitAddition(2 * digits - 1, digit_size, image_size, distortion)


def same_digits(
    source: "ImageData",
    size: int | None = None,
    patches: int = 16,
    patch_size: float = 6.0,
    room: float = 84.0,
    same: bool = True,
) -> "SameDigits":
    """The maker of pairs for co-localisation, for `datamodules.make`.

    size: of the images, in pixels; None leaves the digits at the source's resolution (84 pixels for MNIST). patches,
    patch_size, room: as `Distortion`. same: False pairs any two digits, a control. Raises ValueError for impossible
    values.
    """
    Distortion(room=room, placed=True, patches=patches, patch_size=patch_size)  # refuses what is impossible
    image_size, digit_size = _sizes(source, size, room)
    patch = patch_width(patch_size, room, image_size, digit_size)
    return SameDigits(source.num_classes, digit_size, image_size, patches, patch, same)


def _sizes(source: "ImageData", size: int | None, room: float) -> tuple[int, int]:
    image_size, digit_size = sizes(source.image_size, size, room)
    if digit_size < 2:
        raise ValueError(f"size is {image_size}; too small for a digit")
    return image_size, digit_size


@dataclass(frozen=True)
class DigitAddition:
    """Two channels with one digit each, labelled with their sum.

    A description tells for both digits: `digits` and `rows`, int64 (N, 2); `matrix`, `inverse`, float32 (N, 2, 3, 3),
    `angle`, `scale`, (N, 2), and `shift`, (N, 2, 2), as `DistortedDigits` does.
    """

    num_classes: int
    digit_size: int
    image_size: int
    distortion: Distortion

    @property
    def name(self) -> str:
        return f"addition{self.image_size}"

    @property
    def num_draws(self) -> int:
        return 1 + 2 * 4

    def describe(self, labels: Tensor, rows: Tensor, draws: Tensor) -> Description:
        """As `made.Maker`: the first digit is that of the row among those that are added, in turn; the second any."""
        drawn = draws.double()
        added = (labels <= self.num_classes // 2).nonzero().flatten()
        both = added[torch.stack([rows % len(added), (drawn[:, 0] * len(added)).long()], dim=1)]
        each = drawn[:, 1:].reshape(-1, 4)
        placed = place(each, self.distortion, self.digit_size, self.image_size)
        matrix = placed.pop("matrix")
        placed |= {"matrix": matrix.float(), "inverse": torch.linalg.inv(matrix).float()}
        found = {name: value.unflatten(0, (-1, 2)) for name, value in placed.items()}
        return {"labels": labels[both].sum(1), "digits": labels[both], "rows": both, **found}

    def paint(self, digits: Tensor, description: Description) -> Tensor:
        positions = mapped(description["inverse"].flatten(0, 1), *centres(self.image_size, digits.device))
        values = sampled(digits.index_select(0, description["rows"].flatten()), positions)
        return rounded(values).unflatten(0, (-1, 2)).movedim(1, -1)


@dataclass(frozen=True)
class SameDigits:
    """Two channels, each an image of the same digit as another hand wrote it, at another place.

    With `same` False the second is any digit. A description tells for both: `rows`, int64 (N, 2); `boxes`, float32
    (N, 2, 4), of the digits' images as `painting` measures them; and the clutter.
    """

    num_classes: int
    digit_size: int
    image_size: int
    patches: int
    patch: int
    same: bool = True

    @property
    def name(self) -> str:
        kind = "pairs" if self.same else "any-pairs"
        return f"{kind}{self.image_size}" + (f"-{self.patches}patches" if self.patches else "")

    @property
    def num_draws(self) -> int:
        return 1 + 2 * (2 + CLUTTER_DRAWS * self.patches)

    def describe(self, labels: Tensor, rows: Tensor, draws: Tensor) -> Description:
        """As `made.Maker`: the first image shows the digit of the row, the second another of its class, or any."""
        drawn = draws.double()
        wanted = labels if self.same else torch.zeros_like(labels)
        both = torch.stack([rows, chosen(wanted, wanted[rows], drawn[:, 0], but=rows)], dim=1)
        each = drawn[:, 1:].reshape(2 * len(rows), -1)
        places = whole_places(each[:, :2], self.image_size - self.digit_size)
        found = {"places": places, "boxes": boxes(places, self.digit_size, self.image_size)}
        if self.patches:
            digits = both.flatten()
            found |= clutter(each[:, 2:], digits, len(labels), self.patch, self.digit_size, self.image_size)
        return {"labels": labels[rows], "rows": both, **{k: v.unflatten(0, (-1, 2)) for k, v in found.items()}}

    def paint(self, digits: Tensor, description: Description) -> Tensor:
        flat = {name: value.flatten(0, 1) for name, value in description.items() if name != "labels"}
        canvas = digits.new_zeros(len(flat["rows"]), self.image_size, self.image_size)
        paste(canvas, digits, flat["rows"], torch.zeros_like(flat["places"]), flat["places"], self.digit_size)
        if self.patches:
            paste_clutter(canvas, digits, flat, self.patch)
        return canvas.unflatten(0, (-1, 2)).movedim(1, -1)
