"""Numbers of no digit to five, one label per place and a null class: the stand-in for street numbers.

Jaderberg et al. 2015, arXiv:1506.02025, section 4.2, read the numbers of SVHN (`house_numbers`) from crops around them,
which are stretched to a square. Here digits stand side by side, stretched likewise: a number fills most of the width,
whatever its length, and half of the height or more, somewhere in a square image.

Differs from SVHN: grey, black background, digits of one width, not slanted, and all lengths equally often.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.made.made_data import Description
from datamodules.made.painting import centres, mapped, rounded, sampled

if TYPE_CHECKING:
    from datamodules.images import ImageData

WIDEST = 2  # a number of one digit is no wider than this part of the image: a half


def digit_sequences(
    source: "ImageData",
    size: int | None = None,
    longest: int = 5,
    wide: tuple[float, float] = (0.8, 1.0),
    tall: tuple[float, float] = (0.5, 1.0),
) -> "DigitSequences":
    """The maker of numbers, for `datamodules.make`.

    size: of the images, in pixels; None is twice the source's, up to 64, as a multiple of 16 (MNIST 64, the embedded
    digits 32). longest: most digits. wide, tall: how much of the width it could fill, and of the height, a number
    fills, uniform between two ends. Raises ValueError for impossible values.
    """
    image_size = min(64, 16 * -(-2 * source.image_size // 16)) if size is None else size
    if image_size < 8:
        raise ValueError(f"size is {image_size}; allowed: 8 or more pixels")
    if longest < 1:
        raise ValueError(f"longest is {longest}; allowed: 1 or more digits")
    for name, ends in (("wide", wide), ("tall", tall)):
        if not 0 < ends[0] <= ends[1] <= 1:
            raise ValueError(f"{name} is {tuple(ends)}; allowed: two fractions in (0, 1], the smaller first")
    return DigitSequences(source.num_classes, image_size, longest, (wide[0], wide[1]), (tall[0], tall[1]))


@dataclass(frozen=True)
class DigitSequences:
    """Labels (N, longest): the digits from left to right, then the null class, which is the last.

    A description tells `length`, int64 (N,), and `boxes`, float32 (N, longest, 4), of each digit's image as `painting`
    measures them; boxes of places without a digit are where it would stand.
    """

    num_digits: int
    image_size: int
    longest: int
    wide: tuple[float, float]
    tall: tuple[float, float]

    @property
    def name(self) -> str:
        return f"sequences{self.image_size}"

    @property
    def digit_size(self) -> int:
        """A quarter of the image, so that sampling a narrow digit skips few of its pixels."""
        return self.image_size // 4

    @property
    def num_classes(self) -> int:
        return self.num_digits + 1

    @property
    def num_draws(self) -> int:
        return 5 + self.longest - 1

    def describe(self, labels: Tensor, rows: Tensor, draws: Tensor) -> Description:
        """As `made.Maker`: the first digit, if any, is that of the row, the others are any."""
        drawn = draws.double()
        length = (drawn[:, 0] * (self.longest + 1)).long()
        written = torch.cat([rows[:, None], (drawn[:, 5:] * len(labels)).long()], dim=1)
        empty = torch.arange(self.longest) >= length[:, None]
        width, height = (_between(ends, drawn[:, column]) for column, ends in ((1, self.wide), (2, self.tall)))
        width = width / length.clamp(min=WIDEST)  # of one digit, as a fraction of the image
        left = (1 - width * length) * drawn[:, 3]
        top = (1 - height) * drawn[:, 4]
        lefts = left[:, None] + width[:, None] * torch.arange(self.longest)
        tops = top[:, None].expand_as(lefts)
        sides = [lefts, tops, lefts + width[:, None], tops + height[:, None]]
        return {
            "labels": labels[written].masked_fill(empty, self.num_digits),
            "rows": written,
            "length": length,
            "boxes": (2 * torch.stack(sides, dim=-1) - 1).float(),
        }

    def paint(self, digits: Tensor, description: Description) -> Tensor:
        """As `made.Maker`: all digits of a number in one strip, which is sampled once."""
        rows, places = description["rows"], description["boxes"]
        strips = digits.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        strips = strips * (description["labels"] < self.num_digits)[:, :, None, None]
        strips = strips.movedim(1, 2).flatten(2)
        start, end = places[:, 0, :2], places[:, -1, 2:]
        # What maps the image to the strip: from where it starts and ends to -1 and 1.
        scale = 2 / (end - start)
        inverse = torch.diag_embed(torch.cat([scale, torch.ones_like(scale[:, :1])], dim=1))
        inverse[:, :2, 2] = -1 - scale * start
        return rounded(sampled(strips, mapped(inverse, *centres(self.image_size, digits.device)))).unsqueeze(-1)


def _between(ends: tuple[float, float], draws: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * draws
