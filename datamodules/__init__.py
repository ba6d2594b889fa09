"""Data sets by name: `load("cifar10", root="data")` gives a LightningDataModule with its pixels in memory.

Importing this package costs nothing: torch and lightning come with the first `load`, so a command line can offer NAMES.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError

if TYPE_CHECKING:
    from datamodules.augment import Augment
    from datamodules.images import ImageData

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "folder", "parquet")

__all__ = ["NAMES", "Augment", "DataError", "ImageData", "load"]

_HOMES = {"Augment": "datamodules.augment", "ImageData": "datamodules.images"}


def load(
    name: str,
    root: str | Path = "data",
    *,
    seed: int = 0,
    batch_size: int = 128,
    augment: "Augment | None" = None,
    validation: float = 0.1,
    download: bool = False,
    image_size: int | None = None,
    cache: bool = True,
) -> "ImageData":
    """The data set `name` of NAMES, from the files below `root`, decoded (once, if cached) into memory.

    seed: order and augmentation of the training images. batch_size: images over all processes. augment: None is the
    usual one for this data. validation: fraction of the training files set aside. download: fetch missing files with
    torchvision. image_size: resize and crop every image to this square, in pixels. cache: keep the decoded pixels. The
    digits are embedded and need no root.
    Raises DataError, in one line, if the name is unknown, files are missing or damaged, or they hold something else;
    ValueError for an argument out of range.
    """
    from datamodules import cache as kept
    from datamodules.images import ImageData
    from datamodules.sources import find, locate, reported_name

    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}; allowed: 1 or more pixels")
    source, root = find(name), Path(root)
    located = locate(source, root, image_size, download)
    if cache:
        key = kept.fingerprint(root, located.files, name, image_size, located.tag)
        decoded, digest = kept.load_or_decode(kept.cache_file(name, root, image_size), key, located.decode)
    else:
        decoded = located.decode()
        digest = kept.digest(decoded)
    return ImageData(
        decoded,
        name=reported_name(source, root, decoded),
        digest=digest,
        augment=source.augment if augment is None else augment,
        batch_size=batch_size,
        seed=seed,
        validation=validation,
    )


def __getattr__(name: str) -> Any:
    """Classes that need torch, imported when they are first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
