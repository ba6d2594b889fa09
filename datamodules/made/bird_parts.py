"""Images of two parts that must both be seen: the stand-in for birds.

Jaderberg et al. 2015, arXiv:1506.02025, section 4.3, find that transformers in parallel look at the head and the body
of a bird (`birds`). Here a head is a digit of the lower half of the classes, a body one of the upper half, and the
class is the pair (25 of ten digits). One part alone leaves five classes.

As of birds, the head is above the body: anywhere in the upper half of the image, the body anywhere in the lower one, so
that they never overlap; where in its half a part stands says nothing. Patches of other digits (`patches`) can stand
around them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.made.distorted_digits import Distortion, patch_width, sizes
from datamodules.made.made_data import Description, chosen
from datamodules.made.painting import CLUTTER_DRAWS, boxes, clutter, paste, paste_clutter, whole_places

if TYPE_CHECKING:
    from datamodules.images import ImageData


def two_parts(
    source: "ImageData", size: int | None = None, room: float = 140.0, patches: int = 0, patch_size: float = 6.0
) -> "HeadAndBody":
    """The maker of images of two parts, for `datamodules.make`.

    size: of the images, in pixels; None leaves the digits at the source's resolution. room: width of the image in
    pixels of a digit 28 pixels wide, so that a part is about as wide as a fifth of it. patches, patch_size: as
    `Distortion`. Raises ValueError for impossible values, and for a source of an odd number of classes.
    """
    Distortion(room=room, patches=patches, patch_size=patch_size)  # refuses what is impossible
    image_size, digit_size = sizes(source.image_size, size, room)
    if digit_size < 2 or image_size < 2 * digit_size:
        raise ValueError(
            f"room {room:g} at size {image_size}: parts of {digit_size} pixels; allowed: 2 to half the size"
        )
    if source.num_classes % 2:
        raise ValueError(f"{source.num_classes} classes of digits cannot be heads and bodies by halves")
    patch = patch_width(patch_size, room, image_size, digit_size)
    return HeadAndBody(source.num_classes, digit_size, image_size, patches, patch)


@dataclass(frozen=True)
class HeadAndBody:
    """A head and a body, labelled with the pair: half of the number of digits times the head, plus the body.

    A description tells for (head, body): `rows`, int64 (N, 2), and `boxes`, float32 (N, 2, 4), of their images as
    `painting` measures them.
    """

    num_digits: int
    digit_size: int
    image_size: int
    patches: int
    patch: int

    @property
    def name(self) -> str:
        return f"parts{self.image_size}"

    @property
    def num_classes(self) -> int:
        return (self.num_digits // 2) ** 2

    @property
    def num_draws(self) -> int:
        return 5 + CLUTTER_DRAWS * self.patches

    def describe(self, labels: Tensor, rows: Tensor, draws: Tensor) -> Description:
        """As `made.Maker`: one part is the digit of the row, the other any of the other half."""
        drawn, half = draws.double(), self.num_digits // 2
        is_head = labels[rows] < half
        other = chosen((labels >= half).long(), is_head.long(), drawn[:, 0])
        parts = torch.stack([torch.where(is_head, rows, other), torch.where(is_head, other, rows)], dim=1)
        lower = self.image_size - self.image_size // 2  # where the lower half begins
        down = whole_places(drawn[:, 1:3], self.image_size // 2 - self.digit_size) + torch.tensor([0, lower])
        places = torch.stack([whole_places(drawn[:, 3:5], self.image_size - self.digit_size), down], dim=2)
        pair = labels[parts]
        found = {
            "labels": half * pair[:, 0] + pair[:, 1] - half,
            "rows": parts,
            "places": places,
            "boxes": boxes(places, self.digit_size, self.image_size),
        }
        if self.patches:
            found |= clutter(drawn[:, 5:], rows, len(labels), self.patch, self.digit_size, self.image_size)
        return found

    def paint(self, digits: Tensor, description: Description) -> Tensor:
        places = description["places"]
        canvas = digits.new_zeros(len(places), self.image_size, self.image_size)
        for rows, place in zip(description["rows"].unbind(1), places.unbind(1), strict=True):
            paste(canvas, digits, rows, torch.zeros_like(place), place, self.digit_size)
        if self.patches:
            paste_clutter(canvas, digits, description, self.patch)
        return canvas.unsqueeze(-1)
