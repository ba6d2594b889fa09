"""Images in memory as a LightningDataModule: splits, batches, augmentation and normalisation on the device."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Literal

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.augment import Augment, normalise
from datamodules.order import Batches, BatchIndex, EvaluationBatches, generator
from datamodules.sources.pixels import Decoded, Pixels
from datamodules.splits import drawn_anew, stratified_part, stratified_split

EVALUATION_BATCH_SIZE = 500

Split = Literal["train", "val", "test"]


class WholeBatches(Dataset[Any]):
    """A split whose items are whole batches, as `get` makes them of what the sampler gives; its length is in images."""

    def __init__(self, num_images: int, get: Callable[[Any], Any]) -> None:
        self.num_images, self.get = num_images, get

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: Any) -> Any:
        return self.get(index)


class FixedBatches:
    """The batches of a sampler's first epoch at every epoch: what `overfit_batches` asks for.

    No DataLoader, because Lightning then puts a sampler of single rows into it, and here an index is a batch.
    """

    def __init__(self, dataset: Dataset[Any], sampler: Sampler[Any]) -> None:
        self.dataset, self.indices = dataset, list(sampler)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Any]:
        return (self.dataset[index] for index in self.indices)


class ImageData(lightning.LightningDataModule):
    """A data set ready for training under any Trainer; a network gets float32 (N, C, H, W) and labels (N,).

    Images are in channels_last memory. Batches of the validation, test and predict loaders are what a network takes:
    normalised images and labels. Those of the training loader are not yet: images are uint8 (N, C, H, W), a quarter of
    the bytes for a GPU, and come with labels (N,) and the draws (N, 3) of their augmentation; the hook
    `on_after_batch_transfer`, which the Trainer calls, augments and normalises them on the device.
    Under a Trainer of several processes each loader gives the process's share: every image of an evaluation once.
    name: the name that records carry. digest: hash of the decoded data. batch_size: images over all processes. seed:
    orders and augments the training images, nothing else. validation: fraction of every class of the training files
    that is set aside, in [0, 1). train_images: so many of what remains, every class in proportion; None for all.
    drawn_test: the test split is no official one but was drawn from all images. split_seed: draws train_images, and
    where drawn_test the test and validation splits anew; None leaves these as they come.
    mean and std are per channel, 0..1 scale, over the training split as it remains. whole_train: how many images it
    would have without train_images.
    Raises ValueError if validation or train_images is out of range.
    """

    def __init__(
        self,
        decoded: Decoded,
        *,
        name: str,
        digest: str,
        augment: Augment,
        batch_size: int = 128,
        seed: int = 0,
        validation: float = 0.1,
        split_seed: int | None = None,
        train_images: int | None = None,
        drawn_test: bool = False,
    ) -> None:
        super().__init__()
        self.drawn_test, self.split_seed = drawn_test, 0  # of the validation split
        if drawn_test and split_seed is not None:
            decoded, self.split_seed = drawn_anew(decoded, split_seed), split_seed
        train_rows, val_rows = stratified_split(decoded.train.labels, decoded.num_classes, validation, self.split_seed)
        self.whole_train = len(train_rows)
        if train_images is not None:
            train_rows = train_rows[stratified_part(decoded.train.labels[train_rows], train_images, split_seed or 0)]
        self.train, self.val, self.test = decoded.train[train_rows], decoded.train[val_rows], decoded.test
        self.name = name
        self.num_classes = decoded.num_classes
        self.image_size: int = decoded.train.images.shape[1]
        self.in_channels: int = decoded.train.images.shape[3]
        self.mean, self.std = channel_statistics(self.train.images)
        self.augment = augment
        self.batch_size = batch_size
        self.seed = seed
        self.identity: dict[str, Any] = {
            "name": name,
            "digest": digest,
            "num_train": len(self.train),
            "num_val": len(self.val),
            "num_test": len(self.test),
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            "image_size": self.image_size,
            "validation": validation,
            "split_seed": self.split_seed,
            "augment": asdict(augment),
        }
        """Everything about the data that can change a number; batch size and seed belong to the run."""
        if train_images is not None:
            self.identity["train_images"] = train_images
        if split_seed is not None:
            self.identity = self.identity_of(split_seed)
        self._constants: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def identity_of(self, split_seed: int) -> dict[str, Any]:
        """The identity of the same data loaded with another split seed; the same one where that changes no split."""
        splits = {"split_seed": split_seed, "drawn_by": split_seed} if self.drawn_test else {}
        part = {"drawn_by": split_seed} if "train_images" in self.identity else {}
        return self.identity | splits | part

    def train_dataloader(self) -> DataLoader[Any] | FixedBatches:
        """One epoch of this process's share of the global batches.

        Raises ValueError if the batch size does not divide among the processes, or exceeds the training split.
        """
        batches = Batches(len(self.train), self.batch_size, self.seed, *self._place())
        return self._loader(WholeBatches(len(self.train), self._training_batch), batches)

    def _training_batch(self, batch: BatchIndex) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 images (N, C, H, W), labels (N,), draws (N, 3)."""
        chosen = self.train[batch.indices]
        return chosen.images.permute(0, 3, 1, 2), chosen.labels, batch.draws

    def val_dataloader(self) -> DataLoader[Any] | FixedBatches | list[Any]:
        """This process's share of the validation split; no loader at all if there is no such split."""
        return self._evaluation_loader(self.val) if len(self.val) else []

    def test_dataloader(self) -> DataLoader[Any] | FixedBatches:
        """This process's share of the test split."""
        return self._evaluation_loader(self.test)

    def predict_dataloader(self) -> DataLoader[Any] | FixedBatches:
        """This process's share of the test split; the whole of it, in order, where there is one process."""
        return self._evaluation_loader(self.test)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """On the device: augment and normalise the uint8 images of a training batch; gives float images and labels.

        A batch whose images are float has been normalised before and stays as it is.
        """
        images, labels, *draws = batch
        if images.dtype != torch.uint8:
            return images, labels
        fill, mean, std = self._constants_on(images.device)
        images = images.permute(0, 2, 3, 1)
        if draws:
            images = self.augment(images, draws[0], fill)
        return normalise(images, mean, std), labels

    def evaluation_batches(
        self,
        split: Split,
        batch_size: int = EVALUATION_BATCH_SIZE,
        device: str | torch.device = "cpu",
        limit: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels of a split on a device, in order, without augmentation and without a Trainer.

        limit: at most so many images, chosen at random but always the same. Raises ValueError for an unknown or empty
        split and for a size or limit below 1.
        """
        if split not in ("train", "val", "test"):
            raise ValueError(f"split {split!r}; allowed: train, val, test")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; allowed: 1 or more images, or None")
        pixels: Pixels = getattr(self, split)
        if not len(pixels):
            raise ValueError(f"the {split} split of {self.name} is empty")
        rows = torch.arange(len(pixels))
        if limit is not None and limit < len(pixels):
            # At random, because files are often sorted by class.
            chosen = torch.randperm(len(pixels), generator=generator("limit", self.split_seed, split))
            rows = chosen[:limit].sort().values
        return self._batches_of(pixels, rows, batch_size, torch.device(device))

    def _batches_of(
        self, pixels: Pixels, rows: Tensor, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        _, mean, std = self._constants_on(device)
        for chunk in EvaluationBatches(len(rows), batch_size):
            chosen = pixels[rows[chunk]]
            yield normalise(chosen.images.to(device), mean, std), chosen.labels.to(device)

    def _evaluation_loader(self, pixels: Pixels) -> DataLoader[Any] | FixedBatches:
        def get(rows: Tensor) -> tuple[Tensor, Tensor]:
            chosen = pixels[rows]
            return normalise(chosen.images, self.mean, self.std), chosen.labels

        batches = EvaluationBatches(len(pixels), EVALUATION_BATCH_SIZE, *self._place())
        return self._loader(WholeBatches(len(pixels), get), batches)

    def _loader(self, dataset: Dataset[Any], sampler: Sampler[Any]) -> DataLoader[Any] | FixedBatches:
        """The batches that a sampler names."""
        if getattr(self.trainer, "overfit_batches", 0):
            return FixedBatches(dataset, sampler)
        return DataLoader(dataset, sampler=sampler, batch_size=None)

    def _place(self) -> tuple[int, int]:
        """Among how many a Trainer shares data, and which share is this process's; one where there is no Trainer."""
        shares = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        return (shares["rank"], shares["num_replicas"]) if shares else (0, 1)

    def _constants_on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Padding colour (uint8), mean and std on a device, kept so that a step copies nothing but images."""
        if device not in self._constants:
            mean = torch.tensor(self.mean, dtype=torch.float32)
            fill = (mean * 255).round().to(torch.uint8)
            std = torch.tensor(self.std, dtype=torch.float32)
            self._constants[device] = (fill.to(device), mean.to(device), std.to(device))
        return self._constants[device]


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, 0..1 scale, of uint8 (N, H, W, C); exact, as they come from counts.

    A constant channel gets a standard deviation of 1, so that it can be divided by.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[3]):
        # In parts, because counting makes an int64 copy, eight times the size of the pixels; numpy is faster at it.
        parts = (part[..., channel].numpy().ravel() for part in images.split(1000))
        counts = sum(np.bincount(part, minlength=256) for part in parts)
        mean = np.average(values, weights=counts)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        means.append(float(mean))
        deviations.append(float(deviation) or 1.0)
    return tuple(means), tuple(deviations)
