"""Data sets by name: `load("cifar10", root="data")` gives a LightningDataModule with its pixels in memory.

`make(data, "distorted_digits", kind="RTS")` gives another one, made from the digits of the first on the fly.

Importing this package costs nothing: torch and lightning come with the first `load`, so a command line can offer NAMES.
"""

from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError

if TYPE_CHECKING:
    from datamodules.augment import Augment
    from datamodules.images import ImageData

NAMES = (
    "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "folder", "parquet", "house_numbers", "birds",
)  # fmt: skip

MAKERS = {
    "distorted_digits": "datamodules.made.distorted_digits",
    "digit_addition": "datamodules.made.digit_pairs",
    "same_digits": "datamodules.made.digit_pairs",
    "digit_sequences": "datamodules.made.digit_sequences",
    "two_parts": "datamodules.made.bird_parts",
}
"""What can be made from a source of digits -> the file with the function of that name."""

__all__ = ["MAKERS", "NAMES", "Augment", "DataError", "ImageData", "load", "make"]

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
    train_images: int | None = None,
    split_seed: int | None = None,
) -> "ImageData":
    """The data set `name` of NAMES, from the files below `root`, decoded (once, if cached) into memory.

    seed: order and augmentation of the training images. batch_size: images over all processes. augment: None is the
    usual one for this data. validation: fraction of the training files set aside. download: fetch missing files with
    torchvision. image_size: resize and crop every image to this square, in pixels. cache: keep the decoded pixels.
    train_images: so many images for training, every class in proportion; validation and test splits stay whole.
    split_seed: chooses them, and of the digits, which have no test split of their own, all splits. The digits are
    embedded and need no root.
    LightningCLI takes `jsonargparse.typing.class_from_function(load, ImageData)`.
    Raises DataError, in one line, if the name is unknown, files are missing or damaged, or they hold something else;
    ValueError for an argument out of range.
    """
    from datamodules.images import ImageData
    from datamodules.sources import cache as kept
    from datamodules.sources.pixels import check_decoded
    from datamodules.sources.registry import find, locate, reported_name

    if not isinstance(root, str | Path):
        raise ValueError(f"root is {root!r}; allowed: a path")
    if image_size is not None:
        _check_number("image_size", image_size, "1 or more pixels", least=1)
    _check_number("batch_size", batch_size, "1 or more images", least=1)
    _check_number("seed", seed, "a whole number")
    if train_images is not None:
        _check_number("train_images", train_images, "1 or more images", least=1)
    if split_seed is not None:
        _check_number("split_seed", split_seed, "a whole number")
    _check_number("validation", validation, "a fraction in [0, 1)", kind=Real, least=0)
    source, root = find(name), Path(root)
    try:
        located = locate(source, root, image_size, download)
        if cache:
            key = kept.fingerprint(root, located.files, name, image_size, located.tag)
            decoded, digest = kept.load_or_decode(kept.cache_file(name, root, image_size), key, located.decode)
        else:
            decoded = located.decode()
            digest = kept.digest(decoded)
    except OSError as error:  # no permission, a path beyond what the system takes, ...
        raise DataError(f"{error.filename or root}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise DataError(f"{root}: cannot be read (not enough memory)") from error
    check_decoded(decoded, str(root) if located.files else source.name)
    return ImageData(
        decoded,
        name=reported_name(source, root, decoded),
        digest=digest,
        augment=source.augment if augment is None else augment,
        batch_size=batch_size,
        seed=seed,
        validation=validation,
        split_seed=split_seed,
        train_images=train_images,
        drawn_test=source.drawn_test,
    )


def _check_number(name: str, value: Any, allowed: str, kind: Any = Integral, least: float | None = None) -> None:
    """Raise ValueError if an argument is no number of this kind (yes and no are none), or less than `least`."""
    if not isinstance(value, kind) or isinstance(value, bool) or (least is not None and not value >= least):
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}")


def make(source: "ImageData", name: str, *, fresh: bool = True, **arguments: Any) -> "ImageData":
    """What the maker `name` of MAKERS makes from a source of digits; arguments are those of the function of that name.

    fresh: training images are made anew in every epoch, instead of once. All values may be plain ones, as JSON has
    them. The identity of the result holds the source's and all arguments.
    Raises DataError if the source has no single digits in grey, ValueError for an unknown name or impossible arguments.
    """
    from inspect import signature

    from datamodules.made.made_data import MadeData

    if name not in MAKERS:
        raise ValueError(f"unknown maker {name!r}; allowed: {', '.join(MAKERS)}")
    maker = getattr(import_module(MAKERS[name]), name)
    try:
        signature(maker).bind(source, **arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; it takes {', '.join(list(signature(maker).parameters)[1:])}") from None
    return MadeData(source, maker(source, **arguments), fresh)


def __getattr__(name: str) -> Any:
    """Classes that need torch, imported when they are first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
