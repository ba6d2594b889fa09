"""Decoded images: what every reader returns and everything downstream takes."""

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


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Raise DataError, naming the first bad value and its row in `where`, if a label is outside 0..num_classes - 1."""
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where}, row {row}: label {int(labels[row])} is outside 0..{num_classes - 1}")
