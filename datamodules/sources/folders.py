"""Class folders: root/train/<class>/*.png and root/test/<class>/*.png (or val); classes are numbered as sorted."""

from pathlib import Path

import torch

from datamodules.errors import DataError
from datamodules.sources.decoding import decode
from datamodules.sources.pixels import Decoded, Pixels

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def find_files(root: Path) -> list[Path]:
    """Every image of both splits, training first, sorted by class and name.

    Raises DataError if a split or its images are missing, or if the test split has a class that training lacks.
    """
    train, test = root / "train", root / ("test" if (root / "test").is_dir() or not (root / "val").is_dir() else "val")
    for split in (train, test):
        if not split.is_dir():
            raise DataError(f"{split}: no such folder; expected train/<class>/*.png and test/<class>/*.png")
    unknown = sorted(set(_classes(test)) - set(_classes(train)))
    if unknown:
        raise DataError(f"{test / unknown[0]}: a class that {train} does not have")
    return _images(train) + _images(test)


def read_folders(files: list[Path], image_size: int | None) -> Decoded:
    """Decode the images of `find_files`; the classes are those of the training split.

    Raises DataError for unreadable images and for images of mixed size or channel count.
    """
    train = [file for file in files if file.parent.parent.name == "train"]
    test = [file for file in files if file.parent.parent.name != "train"]
    classes = sorted({file.parent.name for file in train})
    return Decoded(_decode(train, classes, image_size), _decode(test, classes, image_size), len(classes))


def _decode(files: list[Path], classes: list[str], image_size: int | None) -> Pixels:
    number = {name: index for index, name in enumerate(classes)}
    images = decode(files, lambda file: file, image_size, f"decoding {files[0].parent.parent}")
    return Pixels(images, torch.tensor([number[file.parent.name] for file in files]))


def _classes(split: Path) -> list[str]:
    """The names of the class folders; a link that leads nowhere is an error, because its class would be missing."""
    found = []
    for folder in split.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            found.append(folder.name)
        elif folder.is_symlink() and not folder.exists():
            raise DataError(f"{folder}: a link that leads nowhere")
    return sorted(found)


def _images(split: Path) -> list[Path]:
    """The images of one split; an empty class is an error, because it would shift the number of every later one."""
    found: list[Path] = []
    for name in _classes(split):
        images = sorted(file for file in (split / name).iterdir() if file.suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(f"{split / name}: no images (allowed: {', '.join(sorted(SUFFIXES))})")
        found += images
    if not found:
        raise DataError(f"{split}: no class folders; expected {split}/<class>/*.png")
    return found
