"""Distorted digits: Jaderberg et al. 2015, arXiv:1506.02025, section 4.1 and appendix A.4.

R: rotated. RTS: rotated, scaled and placed somewhere in an image 1.5 times as wide. P: scaled, and each corner moved, a
projection. E: scaled, and bent by a thin plate spline of 16 points. TC: placed somewhere in an image of 60 / 28 times
the width, among patches of other digits.

Lengths are in pixels of a digit image that is 28 pixels wide, as MNIST's; at another resolution they scale with it.
From the paper: all angles, RTS as a whole, the standard deviations of P and E, the six patches of TC. Not confirmed,
hence arguments: the scales of P and E, the 16 points, the 6 x 6 pixels of a patch.
Differs from the paper, or decided where it is silent: a digit is placed so that its unrotated image stays inside; TC
moves by whole pixels; corners that would fold the image are moved half as far, or a quarter, and so on; clutter lies
over the digit, and of two pixels the brighter is seen.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.made.made_data import Description
from datamodules.made.painting import (
    CLUTTER_DRAWS,
    centres,
    clutter,
    mapped,
    paste_clutter,
    rounded,
    sampled,
    whole_places,
)

if TYPE_CHECKING:
    from datamodules.images import ImageData
    from modules.blocks.grids import SplineGrid

CONTROLS = 4  # of the spline, per side
DIGIT = 28  # pixels, in which lengths are given
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
LEAST_TURN = 0.05  # of a projection: how sharp a corner may become, as a share of a right angle's area


@dataclass(frozen=True)
class Distortion:
    """What is drawn for each image; lengths in pixels of a digit 28 pixels wide.

    room: width of the image. angle: of the rotation, uniform up to so many degrees either way. scale: uniform between
    two ends. placed: anywhere in the room instead of in its middle. corners, bends: standard deviation by which each
    corner, or each of 16 points on the image, is moved along x and y. patches, patch_size: how many pieces of other
    digits, how wide. upside_down: digits that are turned by 180 degrees besides.
    Raises ValueError for impossible values.
    """

    room: float = DIGIT
    angle: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    placed: bool = False
    corners: float = 0.0
    bends: float = 0.0
    patches: int = 0
    patch_size: float = 6.0
    upside_down: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        least, most = self.scale
        if not 0 < least <= most < math.inf:
            raise ValueError(f"scale is {self.scale}; allowed: two positive numbers, the smaller first")
        if self.placed and most * DIGIT > self.room:
            raise ValueError(f"room is {self.room}; digits of {most * DIGIT:g} pixels have no place in it")
        for name in ("room", "angle", "corners", "bends", "patches"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 or more")
        if not 0 < self.patch_size <= DIGIT:
            raise ValueError(f"patch_size is {self.patch_size}; allowed: more than 0, up to {DIGIT} pixels")


KINDS = {
    "R": Distortion(angle=90.0),
    "RTS": Distortion(room=42, angle=45.0, scale=(0.7, 1.2), placed=True),
    "P": Distortion(scale=(0.75, 1.0), corners=5.0),
    "E": Distortion(scale=(0.75, 1.0), bends=1.5),
    "TC": Distortion(room=60, placed=True, patches=6),
}


def sizes(digit_size: int, size: int | None, room: float) -> tuple[int, int]:
    """Widths in pixels of the image and of the digit in it; size: of the image, None keeps the digit's resolution."""
    if size is None:
        return round(digit_size * room / DIGIT), digit_size
    return size, round(size * DIGIT / room)


def patch_width(patch_size: float, room: float, image_size: int, digit_size: int) -> int:
    """Width of a patch of clutter, in pixels of the image."""
    return min(digit_size, max(1, round(patch_size * image_size / room)))


def distorted_digits(
    source: "ImageData", kind: str = "RTS", size: int | None = None, **changes: Any
) -> "DistortedDigits":
    """The maker of one kind of KINDS, for `datamodules.make`.

    size: of the images, in pixels; None leaves the digits at the source's resolution. changes: of the kind's
    `Distortion`. Raises ValueError for unknown kinds and impossible values.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown distortion {kind!r}; allowed: {', '.join(KINDS)}")
    unknown = sorted(set(changes) - set(Distortion.__dataclass_fields__))
    if unknown:
        raise ValueError(f"unknown {unknown[0]!r}; a distortion has {', '.join(Distortion.__dataclass_fields__)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value for name, value in changes.items()
    }
    distortion = replace(KINDS[kind], **values)
    image_size, digit_size = sizes(source.image_size, size, distortion.room)
    if digit_size < 2:
        raise ValueError(f"size is {size}; too small for a digit")
    return DistortedDigits(kind, source.num_classes, digit_size, image_size, distortion)


@dataclass(frozen=True)
class DistortedDigits:
    """One distorted digit per image, in grey, with the label of the digit.

    A description tells `matrix`, float32 (N, 3, 3): where points (x, y, 1) of the digit's own image lie on the
    distorted one, both from -1 to 1. A transformer that undoes the distortion samples there, so its theta is comparable
    with it. `inverse` is its inverse, by which the image was sampled. `angle` in degrees, counter-clockwise; `scale`;
    `shift`, (N, 2), the digit's centre. E: `bends`, (N, 32), the theta of a `SplineGrid` of 4 x 4 points that maps the
    image before anything else: what stands at p is the digit at inverse(spline(p)).
    """

    kind: str
    num_classes: int
    digit_size: int
    image_size: int
    distortion: Distortion

    @property
    def name(self) -> str:
        return f"{self.kind}{self.image_size}"

    @property
    def num_draws(self) -> int:
        return 12 + 2 * CONTROLS**2 + CLUTTER_DRAWS * self.distortion.patches

    @property
    def patch(self) -> int:
        return patch_width(self.distortion.patch_size, self.distortion.room, self.image_size, self.digit_size)

    def describe(self, labels: Tensor, rows: Tensor, draws: Tensor) -> Description:
        """As `made.Maker`; the same columns of draws mean the same in every kind."""
        told, drawn = self.distortion, draws.double()
        kind = labels[rows]
        turned = torch.isin(kind, torch.tensor(told.upside_down, dtype=kind.dtype))
        placement = place(drawn[:, :4], told, self.digit_size, self.image_size, turned)
        matrix = placement.pop("matrix")
        pixel = 2 / told.room
        if told.corners:
            matrix = projection(matrix, normal(drawn[:, 4:12]).unflatten(1, (4, 2)) * told.corners * pixel)
        found = {"labels": kind, "rows": rows, **placement}
        found |= {"matrix": matrix.float(), "inverse": torch.linalg.inv(matrix).float()}
        if told.bends:
            along = torch.linspace(-1, 1, CONTROLS, dtype=torch.float64)
            points = torch.cartesian_prod(along, along).flip(1).flatten()
            found["bends"] = (points + normal(drawn[:, 12:44]) * told.bends * pixel).float()
        if told.patches:
            found |= clutter(drawn[:, 44:], rows, len(labels), self.patch, self.digit_size, self.image_size)
        return found

    def paint(self, digits: Tensor, description: Description) -> Tensor:
        x, y = centres(self.image_size, digits.device)
        if "bends" in description:
            x, y = bent(description["bends"], self.image_size)
        positions = mapped(description["inverse"], x, y, projective=self.distortion.corners > 0)
        canvas = rounded(sampled(digits.index_select(0, description["rows"]), positions))
        if self.distortion.patches:
            paste_clutter(canvas, digits, description, self.patch)
        return canvas.unsqueeze(-1)


def place(
    draws: Tensor, distortion: Distortion, digit_size: int, image_size: int, turned: Tensor | None = None
) -> Description:
    """Rotation, scale and place from draws (N, 4): angle (N,), scale (N,), shift (N, 2) and the matrix (N, 3, 3).

    turned: (N,), whose digits are turned by 180 degrees besides. The matrix is in double precision.
    """
    angle = (2 * draws[:, 0] - 1) * distortion.angle
    if turned is not None:
        angle = angle + 180 * turned
    least, most = distortion.scale
    scale = least + draws[:, 1] * (most - least)
    half_width = scale * digit_size / image_size
    shift = torch.zeros_like(draws[:, 2:4])
    if distortion.placed and not distortion.angle and least == most == 1:
        corner = whole_places(draws[:, 2:4], image_size - digit_size)  # whole pixels keep the digit sharp
        shift = (2 * corner + digit_size) / image_size - 1
    elif distortion.placed:
        shift = (2 * draws[:, 2:4] - 1) * (1 - half_width).clamp(min=0)[:, None]
    cos, sin = half_width * angle.deg2rad().cos(), half_width * angle.deg2rad().sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    # y points down, so this turns counter-clockwise as seen.
    rows = [cos, sin, shift[:, 0], -sin, cos, shift[:, 1], zero, zero, one]
    matrix = torch.stack(rows, dim=1).unflatten(1, (3, 3))
    return {"angle": angle.float(), "scale": scale.float(), "shift": shift.float(), "matrix": matrix}


def projection(matrix: Tensor, moves: Tensor) -> Tensor:
    """The projections (N, 3, 3) that map the corners of a digit where affine matrices do, each moved by (N, 4, 2).

    Moves that leave no convex quadrilateral are halved until they do.
    """
    corners = torch.tensor(CORNERS, dtype=matrix.dtype)
    start = corners @ matrix[:, :2, :2].mT + matrix[:, None, :2, 2]
    area = torch.linalg.det(matrix[:, :2, :2])[:, None]
    for _ in range(20):
        edges = (start + moves).roll(-1, 1) - (start + moves)
        after = edges.roll(-1, 1)
        turns = edges[..., 0] * after[..., 1] - edges[..., 1] * after[..., 0]
        folded = (turns < 4 * LEAST_TURN * area).any(1)
        if not folded.any():
            break
        moves = torch.where(folded[:, None, None], moves / 2, moves)
    target = start + moves
    # x' (g x + h y + 1) = a x + b y + c and the same for y': two equations for each corner.
    plane = torch.cat([corners, torch.ones(4, 1, dtype=matrix.dtype)], dim=1).expand(len(matrix), 4, 3)
    products = -target[..., None] * plane[:, :, None, :2]
    nothing = torch.zeros_like(plane)
    equations = torch.cat(
        [torch.cat([plane, nothing, products[:, :, 0]], dim=2), torch.cat([nothing, plane, products[:, :, 1]], dim=2)],
        dim=1,
    )
    found = torch.linalg.solve(equations, target.mT.flatten(1))
    return torch.cat([found, torch.ones_like(found[:, :1])], dim=1).unflatten(1, (3, 3))


def normal(draws: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), of 24 bits, to standard normal ones."""
    return torch.special.ndtri(draws + 2.0**-25)


def bent(bends: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """x and y (N, S, S) where splines of theta (N, 32) map all pixels: a `SplineGrid`, with x and y apart."""
    grid = _spline(image_size, bends.device)
    change = (bends.unflatten(1, (-1, 2)) - grid.controls).permute(2, 0, 1)
    positions = torch.matmul(change, grid.basis.mT).add_(grid.points.mT[:, None]).unflatten(2, (image_size, image_size))
    return positions[0], positions[1]


@cache
def _spline(image_size: int, device: torch.device) -> "SplineGrid":
    from modules.blocks.grids import SplineGrid

    return SplineGrid(image_size, CONTROLS, 1.0, (0.0, 0.0)).to(device)
