"""Data sets as their authors publish them: torchvision's own files, and the digits that come with scikit-learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch

from datamodules.errors import DataError, one_line
from datamodules.sources.pixels import Decoded, Pixels, check_labels

MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
CIFAR100_FILES = ("train", "test", "meta")
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
NUM_CLASSES = 10  # of everything here but CIFAR-100

# What torchvision's readers raise on damage: MNIST's parser asserts or runs off its buffer, CIFAR's and SVHN's check
# of MD5 sums raises RuntimeError. None of them names the file, so we do.
DAMAGE = (AssertionError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, OSError)


def download(dataset: str, root: Path) -> None:
    """Fetch both splits of a torchvision class into root, unless they lie there; raises DataError if that fails."""
    from torchvision import datasets

    kind = getattr(datasets, dataset)
    by_name = dataset == "SVHN"
    try:
        for split in ({"split": "train"}, {"split": "test"}) if by_name else ({"train": True}, {"train": False}):
            kind(str(root), **split, download=True)
    except (RuntimeError, URLError, OSError) as error:
        raise DataError(f"{dataset}: download to {root} failed ({one_line(error)})") from error


def read_digits() -> Decoded:
    """The 1797 digits of scikit-learn (8 x 8, values 0..16) as 16 x 16 x 1 with values 0..255.

    A quarter of them, 450 images, is the test split: stratified, fixed by seed 0.
    """
    # Takes two seconds to import, hence not at the top; the cache spares it after the first time.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    large = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    images = large.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    pixels = Pixels(images, torch.from_numpy(bunch.target).long())
    rows = np.arange(len(pixels))
    train, test = train_test_split(rows, test_size=0.25, random_state=0, stratify=bunch.target)
    return Decoded(pixels[torch.from_numpy(np.sort(train))], pixels[torch.from_numpy(np.sort(test))], NUM_CLASSES)


def read_mnist(files: list[Path]) -> Decoded:
    """MNIST and Fashion-MNIST: four idx files in the order of MNIST_FILES."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    def split(image_file: Path, label_file: Path) -> Pixels:
        images = _parse(read_image_file, image_file)
        labels = _parse(read_label_file, label_file)
        if len(images) != len(labels):
            raise DataError(f"{image_file}: {len(images)} images, but {len(labels)} labels in {label_file}")
        check_labels(labels, NUM_CLASSES, str(label_file))
        return Pixels(images.unsqueeze(-1), labels)

    return Decoded(split(files[0], files[1]), split(files[2], files[3]), NUM_CLASSES)


def read_cifar(dataset: str, num_classes: int, files: list[Path]) -> Decoded:
    """CIFAR10 or CIFAR100: the python pickles, read by torchvision once their MD5 sums are right (never before)."""
    from torchvision import datasets

    kind = getattr(datasets, dataset)
    folder = files[0].parent
    _check_md5(folder, [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]])

    def split(train: bool) -> Pixels:
        try:
            data = kind(str(folder.parent), train=train)
        except DAMAGE as error:
            raise _damaged(folder, error) from error
        labels = torch.tensor(data.targets)
        check_labels(labels, num_classes, f"{folder}, {'training' if train else 'test'} split")
        return Pixels(torch.from_numpy(np.ascontiguousarray(data.data)), labels)

    return Decoded(split(True), split(False), num_classes)


def read_svhn(files: list[Path]) -> Decoded:
    """SVHN, cropped digits: two .mat files; the digit 0, stored as label 10, becomes class 0."""
    from torchvision.datasets import SVHN

    _check_md5(files[0].parent, [SVHN.split_list[split][1:] for split in ("train", "test")])

    def split(name: str, file: Path) -> Pixels:
        data = _parse(lambda path: SVHN(str(Path(path).parent), split=name), file)
        labels = torch.from_numpy(data.labels)
        check_labels(labels, NUM_CLASSES, str(file))
        return Pixels(torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 2, 3, 1))), labels)

    return Decoded(split("train", files[0]), split("test", files[1]), NUM_CLASSES)


def _check_md5(folder: Path, sums: list[Any]) -> None:
    from torchvision.datasets.utils import check_integrity

    for name, md5 in sums:
        if not check_integrity(str(folder / name), md5):
            raise DataError(f"{folder / name}: damaged (MD5 mismatch); delete it and download it again")


def _parse(reader: Callable[[str], Any], file: Path) -> Any:
    try:
        return reader(str(file))
    except DAMAGE as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(f"{file}: damaged ({one_line(error)}); delete it and download it again")
