"""Decoded images: what every reader returns and everything downstream takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.errors import DataError


@dataclass(frozen=True)
class Pixels:
    """One split in memory.

    images: uint8, (N, H, W, C), H == W, C is 1 or 3, or 2 for pairs. labels: int64, (N,), or (N, D) for sequences of D
    places, values 0..num_classes - 1.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8, self.images.dtype
        assert self.images.ndim == 4, self.images.shape
        assert self.labels.dtype == torch.int64, self.labels.dtype
        assert self.labels.ndim in (1, 2), self.labels.shape
        assert len(self.labels) == len(self.images), (self.labels.shape, self.images.shape)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "Pixels":
        # index_select copies whole images; indexing with [] is 20 times slower on a batch.
        return Pixels(self.images.index_select(0, rows), self.labels.index_select(0, rows))


@dataclass(frozen=True)
class Decoded:
    """A data set as its files hold it, before any validation split.

    jpeg_quality: 1..100, the quality its images were compressed with, or None if they were stored without loss (or the
    compression is no news, as in a folder of photographs).
    """

    train: Pixels
    test: Pixels
    num_classes: int
    jpeg_quality: int | None = None


def most_classes(images: int) -> int:
    """How many classes so many images may have: not more than images, but a small part of ImageNet may have its 1000.

    A larger label is the number of something else, and every class costs memory in a network.
    """
    return max(images, 1000)


def check_decoded(decoded: Decoded, where: str) -> None:
    """Raise DataError, naming `where`, for an empty split and for images that are not all squares of one size."""
    shapes = {
        name: tuple(pixels.images.shape) for name, pixels in (("training", decoded.train), ("test", decoded.test))
    }
    for name, (count, *shape) in shapes.items():
        if 0 in (count, *shape):
            raise DataError(f"{where}: {count} {name} images of {in_words(shape)}; allowed: 1 or more")
    train, test = (shape[1:] for shape in shapes.values())
    if train != test:
        raise DataError(
            f"{where}: training images are {in_words(train)}, test images {in_words(test)}; all must have one channel "
            "count and one size (image_size=... resizes and crops)"
        )
    if train[0] != train[1]:
        raise DataError(f"{where}: {in_words(train)}, not a square; image_size=... resizes and crops every image")


def in_words(shape: Sequence[int]) -> str:
    """A shape as it stands in messages: 32 x 32 x 3."""
    return " x ".join(map(str, shape))


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Raise DataError, naming the first bad value and its row in `where`, if a label is outside 0..num_classes - 1."""
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where}, row {row}: label {int(labels[row])} is outside 0..{num_classes - 1}")
