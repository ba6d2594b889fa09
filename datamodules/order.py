"""Which images come when: a function of (seed, epoch) and nothing else, the same for any number of processes."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from datamodules.augment import NUM_DRAWS


class BatchIndex(NamedTuple):
    """One process's share of a batch: rows of the training split, int64 (N,), and draws, float32 (N, 3) in [0, 1)."""

    indices: Tensor
    draws: Tensor


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by all parts of a key; neighbouring keys give unrelated numbers."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


class Batches(DistributedSampler[BatchIndex]):
    """Training batches: a fresh permutation per epoch, cut into global batches of which every rank takes its share.

    The shares of one global batch, joined in the order of ranks, are the batch that a single process would see, draws
    included. The rest that does not fill a batch is dropped. `set_epoch` chooses the permutation; Lightning calls it.
    It is a `DistributedSampler` so that Lightning does not divide the shares among the ranks a second time.
    batch_size: images over all ranks. Raises ValueError if it is not a positive multiple of world_size, or larger than
    the split.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch size {batch_size} does not divide among {world_size} processes without remainder")
        if num_images < batch_size:
            raise ValueError(f"batch size {batch_size} is larger than the training split ({num_images} images)")
        super().__init__(cast("Dataset[BatchIndex]", range(num_images)), world_size, rank, seed=seed)
        self.num_images = num_images
        self.batch_size = batch_size
        share = batch_size // world_size
        self.share = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self.num_images // self.batch_size

    def __iter__(self) -> Iterator[BatchIndex]:
        epoch = self.epoch
        order = torch.randperm(self.num_images, generator=generator("order", self.seed, epoch))
        for number in range(len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            draws = torch.rand(self.batch_size, NUM_DRAWS, generator=generator("draws", self.seed, epoch, number))
            yield BatchIndex(indices[self.share], draws[self.share])


class EvaluationBatches(DistributedSampler[Tensor]):
    """Every image of a split exactly once over all ranks: rank r takes rows r, r + W, ... in chunks of batch_size.

    A `DistributedSampler` as `Batches` is, but torch's own repeats rows to even out the ranks, and here none is.
    Raises ValueError if batch_size is not positive.
    """

    def __init__(self, num_images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size {batch_size}; allowed: 1 or more")
        super().__init__(cast("Dataset[Tensor]", range(num_images)), world_size, rank, shuffle=False)
        self.rows = range(rank, num_images, world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.rows), self.batch_size):
            yield torch.tensor(self.rows[start : start + self.batch_size])
