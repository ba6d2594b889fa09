"""Full numbers of SVHN: Netzer et al. 2011, cropped as Goodfellow et al. 2014, arXiv:1312.6082, section 5.

A folder holds train/, test/ and, if it is to be used, extra/ (which then counts as training), each with 1.png, 2.png,
... and digitStruct.mat, as the authors' archives unpack. Jaderberg et al. 2015, arXiv:1506.02025, section 4.2, read
these numbers at 64 pixels and, cropped more loosely, at 128.

The crop is the box around all digits, 1.3 times as wide and high, squeezed to a square. From 64 pixels on, a larger
image shows more surroundings at the same resolution (128 pixels: 2.6 times the box). A crop ends where the image does.
Numbers of more than five digits are left out, and the log says how many.
Differs from the papers: Goodfellow et al. cut squares of 54 pixels at random from these; how much more the looser crops
show is not confirmed.
"""

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from datamodules.errors import DataError, one_line
from datamodules.sources.decoding import decode, opened, plain, uncompressed
from datamodules.sources.pixels import Decoded, Pixels

LONGEST = 5
NULL = 10
NUM_CLASSES = 11
MARGIN = 1.3
IMAGE_SIZE = 64
STRUCT = "digitStruct.mat"
FIELDS = ("left", "top", "width", "height", "label")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Number:
    """One image of a number: its file, its digits 0..9, and the box around them all, in pixels of the image."""

    file: Path
    digits: tuple[int, ...]
    box: tuple[float, float, float, float]


def find_files(root: Path) -> list[Path]:
    """digitStruct.mat and the images of every split, in a fixed order; raises DataError for a part that is missing."""
    found: list[Path] = []
    for split in _splits(root):
        if not (split / STRUCT).is_file():
            raise DataError(f"{split / STRUCT}: not found; unpack {split.name}.tar.gz of the full numbers again")
        images = sorted(split.glob("*.png"))
        if not images:
            raise DataError(f"{split}: no images; unpack {split.name}.tar.gz of the full numbers again")
        found += [split / STRUCT, *images]
    return found


def _splits(root: Path) -> list[Path]:
    for name in ("train", "test"):
        if not (root / name).is_dir():
            raise DataError(f"{root / name}: no such folder; expected train/, test/ and perhaps extra/ with {STRUCT}")
    return [root / name for name in ("train", "extra", "test") if (root / name).is_dir()]


def read_house_numbers(files: list[Path], image_size: int | None) -> Decoded:
    """Decode the files of `find_files`: labels int64 (N, 5), digits as they are read, then the null class 10.

    image_size None: 64 pixels. Raises DataError for damaged files and images, and for images that are missing.
    """
    size = IMAGE_SIZE if image_size is None else image_size
    splits = [(file, read_struct(file)) for file in files if file.name == STRUCT]
    there = set(files)
    for struct, numbers in splits:
        for number in numbers:
            if number.file not in there:
                raise DataError(f"{number.file}: not found, but {struct} names it; unpack the archive again")
    train = [number for file, numbers in splits if file.parent.name != "test" for number in numbers]
    test = [number for file, numbers in splits if file.parent.name == "test" for number in numbers]
    return Decoded(_decode(train, size), _decode(test, size), NUM_CLASSES)


def read_struct(file: Path) -> list[Number]:
    """The numbers that a digitStruct.mat (MATLAB 7.3, which is HDF5) describes, without those of more than five digits.

    Raises DataError if it is damaged, empty, or has a digit that is none.
    """
    import h5py

    try:
        with h5py.File(file, "r") as mat:
            names, boxes = mat["digitStruct/name"], mat["digitStruct/bbox"]
            numbers = [_number(mat, file, *each) for each in zip(names[:, 0], boxes[:, 0], strict=True)]
    except DataError:
        raise
    except Exception as error:  # in damaged bytes h5py meets OSError, KeyError, RuntimeError, OverflowError, ...
        raise DataError(f"{file}: damaged ({one_line(error)}); unpack {file.parent.name}.tar.gz again") from error
    short = [number for number in numbers if len(number.digits) <= LONGEST]
    if len(short) < len(numbers):
        log.info("%s: %d numbers of more than %d digits are left out", file, len(numbers) - len(short), LONGEST)
    if not short:
        raise DataError(f"{file}: no number of at most {LONGEST} digits")
    return short


def _number(mat: Any, file: Path, name: Any, boxes: Any) -> Number:
    """One entry: its name is a string, and each field a number, or one reference to a number for each digit."""
    image = file.parent / "".join(chr(letter) for letter in mat[name][:, 0])
    fields = {field: _values(mat, mat[boxes][field]) for field in FIELDS}
    labels = [int(label) for label in fields["label"]]
    wrong = [label for label in labels if not 1 <= label <= 10]
    if wrong or not labels:
        raise DataError(f"{file}, {image.name}: label {wrong[0] if wrong else 'missing'}; allowed: 1 to 10, which is 0")
    edges = [(low, [a + b for a, b in zip(low, size, strict=True)])
             for low, size in ((fields["left"], fields["width"]), (fields["top"], fields["height"]))]  # fmt: skip
    box = (min(edges[0][0]), min(edges[1][0]), max(edges[0][1]), max(edges[1][1]))
    if box[2] <= box[0] or box[3] <= box[1]:
        raise DataError(f"{file}, {image.name}: the box around its digits is empty ({box})")
    if not all(map(math.isfinite, box)):
        raise DataError(f"{file}, {image.name}: the box around its digits has no end ({box})")
    return Number(image, tuple(label % 10 for label in labels), box)


def _values(mat: Any, field: Any) -> list[float]:
    if len(field) == 1 and field.dtype.kind != "O":
        return [float(field[0, 0])]
    return [float(mat[reference][0, 0]) for reference in field[:, 0]]


def _decode(numbers: list[Number], size: int) -> Pixels:
    title = f"decoding {numbers[0].file.parent}"
    images = decode(numbers, partial(_cropped, size=size), size, title, lambda number: str(number.file))
    labels = torch.full((len(numbers), LONGEST), NULL)
    for row, number in enumerate(numbers):
        labels[row, : len(number.digits)] = torch.tensor(number.digits)
    return Pixels(images, labels)


def _cropped(number: Number, size: int) -> bytes:
    """The crop of one number as an uncompressed image file."""
    left, top, right, bottom = number.box
    grow = (MARGIN * max(1.0, size / IMAGE_SIZE) - 1) / 2
    x, y = grow * (right - left), grow * (bottom - top)
    with opened(number.file, str(number.file)) as image:
        colours = plain(image).convert("RGB")
        box = (max(0.0, left - x), max(0.0, top - y), min(colours.width, right + x), min(colours.height, bottom + y))
        if box[2] <= box[0] or box[3] <= box[1]:
            raise ValueError(f"its digits lie outside of it, at {number.box}")
        return uncompressed(colours.resize((size, size), Image.Resampling.BILINEAR, box=box))
