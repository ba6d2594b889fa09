"""Which images come when: a function of (seed, epoch) and nothing else, the same for any number of processes."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from datamodules.augment import NUM_DRAWS


class BatchIndex(NamedTuple):
    """One process's share of a batch: rows of the training split, int64 (N,), and draws, float32 (N, 3) in [0, 1)."""

    indices: Tensor
    draws: Tensor


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by all parts of a key; neighbouring keys give unrelated numbers."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


class Batches(Sampler[BatchIndex]):
    """Training batches: a fresh permutation per epoch, cut into global batches of which every rank takes its share.

    The shares of one global batch, joined in the order of ranks, are the batch that a single process would see, draws
    included. The rest that does not fill a batch is dropped. `set_epoch` chooses the permutation; Lightning calls it.
    batch_size: images over all ranks. Raises ValueError if it is not a positive multiple of world_size, or larger than
    the split.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch size {batch_size} does not divide among {world_size} processes without remainder")
        if num_images < batch_size:
            raise ValueError(f"batch size {batch_size} is larger than the training split ({num_images} images)")
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        share = batch_size // world_size
        self.share = slice(rank * share, (rank + 1) * share)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images // self.batch_size

    def __iter__(self) -> Iterator[BatchIndex]:
        epoch = self.epoch
        order = torch.randperm(self.num_images, generator=generator("order", self.seed, epoch))
        for number in range(len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            draws = torch.rand(self.batch_size, NUM_DRAWS, generator=generator("draws", self.seed, epoch, number))
            yield BatchIndex(indices[self.share], draws[self.share])


class EvaluationBatches(Sampler[Tensor]):
    """Every image of a split exactly once over all ranks: rank r takes rows r, r + W, ... in chunks of batch_size.

    No row is repeated to even out the ranks, unlike in torch's DistributedSampler; ranks may differ by one row.
    Raises ValueError if batch_size is not positive.
    """

    def __init__(self, num_images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size {batch_size}; allowed: 1 or more")
        self.rows = range(rank, num_images, world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.rows), self.batch_size):
            yield torch.tensor(self.rows[start : start + self.batch_size])
