"""Images made from digits on the fly: each is a function of the digits, the seed, the epoch and its row, of no more.

A maker works in two steps. It describes samples (on the CPU, in double precision, from uniform numbers): labels, and
the true transform, box or partner of each. Then it paints what is described (batched, on any device). Descriptions are
kept, so that a study can compare what a network finds with what is true.

Validation and test images, and the training images that `evaluation_batches` gives, are made once and for all: they
depend on the split seed and on no run. Training images are made afresh in every epoch, or are those fixed ones.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.augment import Augment, normalise
from datamodules.errors import DataError
from datamodules.images import FixedBatches, ImageData, Split, WholeBatches
from datamodules.order import Batches, BatchIndex, generator
from datamodules.sources.decoding import resized
from datamodules.sources.pixels import Decoded, Pixels

VERSION = 1  # raised when a maker makes something else of the same numbers
SPLIT_KEYS = ("validation", "split_seed", "train_images", "drawn_by")  # of an identity; the source's
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Description = dict[str, Tensor]
"""Of N samples, on one device: `labels`, int64 (N,) or (N, D), and whatever else the maker tells, N rows each."""


class Maker(Protocol):
    """A frozen dataclass whose fields decide everything.

    name: a word for records. digit_size: width in pixels that it wants digits in. num_draws: uniform numbers per
    sample.
    """

    @property
    def name(self) -> str: ...
    @property
    def digit_size(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def num_draws(self) -> int: ...

    def describe(self, labels: Tensor, rows: Tensor, draws: Tensor) -> Description:
        """The samples of rows (N,) of a split whose digits have labels (M,); draws: float (N, num_draws) in [0, 1)."""

    def paint(self, digits: Tensor, description: Description) -> Tensor:
        """The images described, uint8 (N, S, S, C), from all digits of the split, uint8 (M, D, D)."""


class FreshBatches(Batches):
    """`Batches` with draws that belong to the row: how an epoch is cut into batches changes none."""

    def __init__(
        self, num_images: int, batch_size: int, seed: int, rank: int, world_size: int, *, num_draws: int
    ) -> None:
        super().__init__(num_images, batch_size, seed, rank, world_size)
        self.num_draws = num_draws

    def __iter__(self) -> Iterator[BatchIndex]:
        of_rows = fresh_draws(self.num_images, self.num_draws, self.seed, self.epoch)
        for batch in super().__iter__():
            yield BatchIndex(batch.indices, of_rows[batch.indices])


class MadeData(ImageData):
    """What a maker makes of every split of a source of digits; otherwise used as any `ImageData`.

    A batch of the training loader is a Description where images are fresh: they are painted on the device.
    fresh: training images are made anew in every epoch; False keeps the fixed ones.
    truth: split -> the description of its fixed images, in their order, on the CPU.
    Raises DataError if the images of the source are no single digits in grey.
    """

    def __init__(self, source: ImageData, maker: Maker, fresh: bool = True) -> None:
        if source.in_channels != 1 or source.test.labels.ndim != 1:
            raise DataError(f"{source.name}: {maker.name} is made of single digits in grey, which these images are not")
        digits = {split: _fitted(getattr(source, split), maker.digit_size) for split in SPLITS}
        truth, painted = {}, {}
        for split, pixels in digits.items():
            if len(pixels):
                draws = torch.rand(len(pixels), maker.num_draws, generator=generator("made", source.split_seed, split))
                truth[split] = maker.describe(pixels.labels, torch.arange(len(pixels)), draws)
                painted[split] = Pixels(_painted(maker, pixels.images[..., 0], truth[split]), truth[split]["labels"])
        fields = asdict(maker)  # type: ignore[call-overload]
        made = json.loads(json.dumps({"version": VERSION, "maker": type(maker).__name__, **fields}))
        super().__init__(
            Decoded(painted["train"], painted["test"], maker.num_classes),
            name=f"{source.name}-{maker.name}",
            digest=hashlib.sha256(json.dumps([source.identity["digest"], made]).encode()).hexdigest(),
            augment=Augment(),
            batch_size=source.batch_size,
            seed=source.seed,
            validation=0.0,
            drawn_test=source.drawn_test,
        )
        self.split_seed, self.whole_train = source.split_seed, source.whole_train
        self.val = painted.get("val", self.train[torch.arange(0)])
        self.maker, self.fresh, self.truth = maker, fresh, truth
        self.identity |= {
            **{key: source.identity[key] for key in SPLIT_KEYS if key in source.identity},
            "num_val": len(self.val),
            "source": source.identity["digest"],
            "made": {**made, "fresh": fresh},
        }
        self._digits = digits["train"]
        self._on_device: dict[torch.device, Tensor] = {}

    def described(self, epoch: int, rows: Tensor) -> Description:
        """The training samples of rows (N,) in an epoch of this seed, as training sees them if they are fresh."""
        draws = fresh_draws(len(self.train), self.maker.num_draws, self.seed, epoch)
        return self.maker.describe(self._digits.labels, rows, draws[rows])

    def train_dataloader(self) -> DataLoader[Any] | FixedBatches:
        """One epoch of this process's share of the global batches, described; fixed images if they are not fresh.

        Raises ValueError if the batch size does not divide among the processes, or exceeds the training split.
        """
        if not self.fresh:
            return super().train_dataloader()
        num_draws = self.maker.num_draws
        batches = FreshBatches(len(self.train), self.batch_size, self.seed, *self._place(), num_draws=num_draws)
        return self._loader(WholeBatches(len(self.train), self._described_batch), batches)

    def _described_batch(self, batch: BatchIndex) -> Description:
        return self.maker.describe(self._digits.labels, batch.indices, batch.draws)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """On the device: paint and normalise a described batch, treat any other as `ImageData` does."""
        if not isinstance(batch, dict):
            return super().on_after_batch_transfer(batch, dataloader_idx)
        device = batch["labels"].device
        if device not in self._on_device:
            self._on_device[device] = self._digits.images[..., 0].contiguous().to(device)
        _, mean, std = self._constants_on(device)
        return normalise(self.maker.paint(self._on_device[device], batch), mean, std), batch["labels"]


def fresh_draws(num_rows: int, num_draws: int, seed: int, epoch: int) -> Tensor:
    """Uniform numbers of all rows of a training split in one epoch: float32 (num_rows, num_draws) in [0, 1)."""
    return torch.rand(num_rows, num_draws, generator=generator("fresh", seed, epoch))


def chosen(labels: Tensor, wanted: Tensor, draws: Tensor, but: Tensor | None = None) -> Tensor:
    """Random rows, int64 (N,), whose label lies among the wanted.

    labels: (M,), whole numbers from 0. wanted: (N,), one each. draws: (N,). but: (N,), rows with that very label that
    are not taken where there are others.
    """
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=int(wanted.max()) + 1)
    first, num = (counts.cumsum(0) - counts)[wanted], counts[wanted]
    if but is None:
        return order[first + (draws * num).long()]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    number = (draws * (num - 1).clamp(min=1)).long()
    number += (number >= place[but] - first) & (num > 1)
    return order[first + number]


def _fitted(pixels: Pixels, size: int) -> Pixels:
    return pixels if pixels.images.shape[1] == size or not len(pixels) else resized(pixels, size)


def _painted(maker: Maker, digits: Tensor, description: Description) -> Tensor:
    """All samples, in parts, because sampling needs many times the memory of the pixels."""
    digits = digits.contiguous()
    parts = zip(*(values.split(500) for values in description.values()), strict=True)
    return torch.cat([maker.paint(digits, dict(zip(description, part, strict=True))) for part in parts])
