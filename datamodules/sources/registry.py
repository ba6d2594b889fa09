"""Where pixels come from: one registry, name -> Source, and how a source is found on disk."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.metadata import version
from pathlib import Path

from datamodules.augment import Augment
from datamodules.errors import DataError
from datamodules.sources import birds, folders, house_numbers, official, parquet
from datamodules.sources.decoding import resized
from datamodules.sources.pixels import Decoded

NO_AUGMENTATION = Augment()

LAYOUTS: dict[str, tuple[Callable[[Path], list[Path]], Callable[[list[Path], int | None], Decoded], str]] = {
    "folder": (
        folders.find_files, folders.read_folders,
        "a folder with train/<class>/*.png and test/<class>/*.png",
    ),
    "house_numbers": (
        house_numbers.find_files, house_numbers.read_house_numbers,
        "a folder with train/ and test/ of SVHN's full numbers, each with digitStruct.mat",
    ),
    "birds": (birds.find_files, birds.read_birds, "CUB_200_2011 as its archive unpacks"),
}  # fmt: skip
"""Sources that are folders of images: what finds the files below a root, what decodes them, and what they look like."""


@dataclass(frozen=True)
class Source:
    """One named data set.

    num_classes: None if it is counted. official_size: images in the training and test files as published, None if there
    is no such thing. shape: height, width, channels. augment: the usual training augmentation. drawn_test: this
    suite chose which images are the test split. torchvision: the class that can download it; files: what it downloads,
    relative to the root; read: their reader.
    """

    name: str
    num_classes: int | None = None
    official_size: tuple[int, int] | None = None
    shape: tuple[int, int, int] | None = None
    augment: Augment = NO_AUGMENTATION
    drawn_test: bool = False
    torchvision: str | None = None
    files: tuple[str, ...] = ()
    read: Callable[[list[Path]], Decoded] | None = None


@dataclass(frozen=True)
class Located:
    """A source found on disk: the files it is made of and the function that decodes them.

    tag: what besides the files decides the result (layout, version), for the cache.
    """

    files: list[Path]
    decode: Callable[[], Decoded]
    tag: str


def find(name: str) -> Source:
    """The source of that name; raises DataError with the nearest name and the list if there is none."""
    if isinstance(name, str) and name in SOURCES:
        return SOURCES[name]
    near = get_close_matches(str(name), SOURCES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(f"unknown data {name!r}{hint} (allowed: {', '.join(SOURCES)})")


def locate(source: Source, root: Path, image_size: int | None = None, download: bool = False) -> Located:
    """Find the files of a source below root; nothing is decoded yet.

    A named data set may lie there in torchvision's layout, used if all its files are there, or as parquet files at any
    depth. Raises DataError saying which path is missing and how to get it.
    """
    if source.name == "digits":
        tag = f"scikit-learn {version('scikit-learn')}"
        return Located([], partial(_decode_array, official.read_digits, image_size), tag)
    if source.torchvision is not None and download:
        official.download(source.torchvision, root)
    files = [root / file for file in source.files]
    missing = [file for file in files if not file.is_file()]
    if source.read is not None and not missing:
        return Located(files, partial(_decode_array, partial(source.read, files), image_size), "torchvision")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {_remedy(source)}")
    if source.name in LAYOUTS:
        find_files, read_files, _ = LAYOUTS[source.name]
        files = _regular(find_files(root))
        return Located(files, partial(read_files, files, image_size), source.name)
    if files := _regular(parquet.find_files(root)):
        return Located(files, partial(_decode_parquet, source, files, image_size), "parquet")
    raise DataError(f"{missing[0] if missing else root / '*.parquet'}: not found; {_remedy(source)}")


def reported_name(source: Source, root: Path, decoded: Decoded) -> str:
    """The name that tells the truth in records: the source's own only for its official number of images.

    Otherwise the name of the folder. Images that went through JPEG carry the quality: cifar10-jpeg75.
    """
    official = (len(decoded.train), len(decoded.test)) == source.official_size
    # The name becomes part of folder names, so nothing but plain characters survives.
    name = source.name if official else re.sub(r"[^A-Za-z0-9_.]+", "-", root.resolve().name).strip("-.") or source.name
    return name if decoded.jpeg_quality is None else f"{name}-jpeg{decoded.jpeg_quality}"


def _regular(files: list[Path]) -> list[Path]:
    """The files themselves; raises DataError for one that is none, such as a pipe, whose end may never come."""
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: {'not a file' if file.exists() else 'a link that leads nowhere'}")
    return files


def _decode_array(read: Callable[[], Decoded], image_size: int | None) -> Decoded:
    """Read a source that is stored as an array, and resize it if asked."""
    decoded = read()
    if image_size is None:
        return decoded
    return Decoded(resized(decoded.train, image_size), resized(decoded.test, image_size), decoded.num_classes)


def _decode_parquet(source: Source, files: list[Path], image_size: int | None) -> Decoded:
    """Read parquet files; those of a named data set must at least have its image shape."""
    decoded = parquet.read_parquet(files, source.num_classes, image_size)
    shape = tuple(decoded.train.images.shape[1:])
    expected = source.shape if image_size is None or source.shape is None else (image_size, image_size, source.shape[2])
    if expected is not None and shape != expected:
        raise DataError(
            f"{files[0]}: not {source.name}, its images are {' x '.join(map(str, shape))} and not "
            f"{' x '.join(map(str, expected))}; other data is read with the name 'parquet'"
        )
    return decoded


def _remedy(source: Source) -> str:
    if source.name in LAYOUTS:
        return f"point the data root at {LAYOUTS[source.name][2]}"
    parquet_files = "a folder with train-*.parquet and test-*.parquet as downloaded from a hub"
    if source.torchvision is None:
        return f"point the data root at {parquet_files}"
    return f"fetch {source.name} with --download, or point the data root at {parquet_files}"


def _mnist_like(name: str, dataset: str) -> Source:
    return Source(
        name,
        num_classes=10,
        official_size=(60_000, 10_000),
        shape=(28, 28, 1),
        augment=Augment(pad=2),
        torchvision=dataset,
        files=tuple(f"{dataset}/raw/{file}" for file in official.MNIST_FILES),
        read=official.read_mnist,
    )


def _cifar_like(num_classes: int, folder: str, files: tuple[str, ...]) -> Source:
    return Source(
        f"cifar{num_classes}",
        num_classes=num_classes,
        official_size=(50_000, 10_000),
        shape=(32, 32, 3),
        augment=Augment(pad=4, flip=True),
        torchvision=f"CIFAR{num_classes}",
        files=tuple(f"{folder}/{file}" for file in files),
        read=partial(official.read_cifar, f"CIFAR{num_classes}", num_classes),
    )


_ALL = (
    Source(
        "digits", num_classes=10, official_size=(1347, 450), shape=(16, 16, 1), augment=Augment(pad=1), drawn_test=True
    ),
    _mnist_like("mnist", "MNIST"),
    _mnist_like("fashion_mnist", "FashionMNIST"),
    _cifar_like(10, "cifar-10-batches-py", official.CIFAR10_FILES),
    _cifar_like(100, "cifar-100-python", official.CIFAR100_FILES),
    Source(
        "svhn",
        num_classes=10,
        official_size=(73_257, 26_032),
        shape=(32, 32, 3),
        augment=Augment(pad=4),
        torchvision="SVHN",
        files=official.SVHN_FILES,
        read=official.read_svhn,
    ),
    Source("folder"),
    Source("parquet"),
    Source("house_numbers", num_classes=house_numbers.NUM_CLASSES),
    Source("birds", num_classes=200, official_size=(5994, 5794), augment=Augment(flip=True)),
)
SOURCES = {source.name: source for source in _ALL}
