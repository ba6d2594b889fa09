"""Caltech-UCSD Birds-200-2011: Wah et al. 2011, 11,788 photographs of 200 species, with boxes and parts.

The folder is CUB_200_2011 as its archive unpacks, or the folder it lies in: images.txt, image_class_labels.txt,
train_test_split.txt, bounding_boxes.txt, images/, and parts/ for the places of 15 parts. Every photograph is cut to its
largest centred square and resized; boxes and parts are in the measure of that square, -1 to 1 as in `painting`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sources.decoding import centred_square, decode, opened, plain, uncompressed
from datamodules.sources.pixels import Decoded, Pixels, most_classes

IMAGE_SIZE = 224  # Jaderberg et al. 2015, arXiv:1506.02025, section 4.3: of the networks behind the transformers
FOLDER = "CUB_200_2011"
LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt")
PART_LISTS = ("parts/parts.txt", "parts/part_locs.txt")


@dataclass(frozen=True)
class Parts:
    """Where the birds of one split are, in the order of its images.

    names: of the parts. places: float32 (N, P, 2), (x, y). visible: bool (N, P); places of hidden parts say nothing.
    boxes: float32 (N, 4), around the whole bird. Places beyond -1 and 1 were cut off.
    """

    names: tuple[str, ...]
    places: Tensor
    visible: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class _Bird:
    number: str  # of the image, as the lists name it
    file: Path
    label: int


def find_files(root: Path) -> list[Path]:
    """The lists, then every photograph that they name; raises DataError for one that is missing."""
    home = _home(root)
    birds = [bird for split in (True, False) for bird in _birds(home, split)]
    missing = [bird.file for bird in birds if not bird.file.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: not found, but {home / 'images.txt'} names it; unpack {FOLDER}.tgz again")
    return [*(home / name for name in LISTS), *(bird.file for bird in birds)]


def read_birds(files: list[Path], image_size: int | None) -> Decoded:
    """Decode the files of `find_files`; image_size None: 224 pixels. Raises DataError for damaged lists and images."""
    home = files[0].parent
    size = IMAGE_SIZE if image_size is None else image_size
    train, test = _birds(home, training=True), _birds(home, training=False)
    num_classes = 1 + max(bird.label for bird in train + test)
    return Decoded(_decode(train, size), _decode(test, size), num_classes)


def read_parts(root: Path) -> tuple[Parts, Parts]:
    """Boxes and parts of the training and of the test photographs, in the order in which `read_birds` gives these.

    Raises DataError for missing or damaged lists and photographs.
    """
    home = _home(root)
    names = _table(home / PART_LISTS[0], 1)
    boxes = _numbers(home / LISTS[3], 4)
    columns = {number: index for index, number in enumerate(names)}
    found: dict[str, dict[int, list[float]]] = {}
    file = home / PART_LISTS[1]
    for line, (image, part, *values) in enumerate(_rows(file, 5), start=1):
        if part not in columns:
            raise DataError(f"{file}, line {line}: part {part} is not in {home / PART_LISTS[0]}")
        found.setdefault(image, {})[columns[part]] = _floats(values, file, line)

    def of(training: bool) -> Parts:
        birds = _birds(home, training)
        places, visible = torch.zeros(len(birds), len(names), 2), torch.zeros(len(birds), len(names), dtype=torch.bool)
        around = torch.zeros(len(birds), 4)
        for row, bird in enumerate(birds):
            if len(found.get(bird.number, {})) != len(names):
                raise DataError(
                    f"{file}: image {bird.number} has {len(found.get(bird.number, {}))} of {len(names)} parts"
                )
            square = _square(bird.file)
            for column, (x, y, is_visible) in found[bird.number].items():
                places[row, column], visible[row, column] = _in_square([x, y], square), bool(is_visible)
            x, y, width, height = _of(boxes, bird.number, home / LISTS[3])
            around[row] = _in_square([x, y, x + width, y + height], square)
        return Parts(tuple(" ".join(words) for words in names.values()), places, visible, around)

    return of(True), of(False)


def _home(root: Path) -> Path:
    """The folder with the lists: root, or CUB_200_2011 in it; raises DataError for a list that is missing."""
    home = root / FOLDER if (root / FOLDER).is_dir() else root
    for name in LISTS:
        if not (home / name).is_file():
            raise DataError(f"{home / name}: not found; expected {', '.join(LISTS)} and images/ as in {FOLDER}.tgz")
    return home


def _birds(home: Path, training: bool) -> list[_Bird]:
    """The images of one split, in the order of images.txt."""
    names, labels, splits = _table(home / LISTS[0], 1), _numbers(home / LISTS[1], 1), _numbers(home / LISTS[2], 1)
    most, found = most_classes(len(names)), []
    for number, words in names.items():
        label, is_training = _of(labels, number, home / LISTS[1])[0], _of(splits, number, home / LISTS[2])[0]
        if not 1 <= label <= most or label != int(label):
            raise DataError(f"{home / LISTS[1]}: image {number} has label {label:g}; allowed: 1 to {most}")
        if bool(is_training) is training:
            found.append(_Bird(number, home / "images" / " ".join(words), int(label) - 1))
    if not found:
        raise DataError(f"{home / LISTS[2]}: no {'training' if training else 'test'} images")
    return found


def _decode(birds: list[_Bird], size: int) -> Pixels:
    images = decode([bird.file for bird in birds], _coloured, size, f"decoding {FOLDER}")
    return Pixels(images, torch.tensor([bird.label for bird in birds]))


def _coloured(file: Path) -> bytes:
    """A photograph in colours; a few of them are grey."""
    with opened(file, str(file)) as image:
        return uncompressed(plain(image).convert("RGB"))


def _square(file: Path) -> tuple[float, float, float]:
    """The `centred_square` of a photograph."""
    with opened(file, str(file)) as image:  # reads the header alone
        return centred_square(image)


def _in_square(corners: list[float], square: tuple[float, float, float]) -> Tensor:
    """Pixels x, y, x, y, ... of a photograph to -1..1 over its square."""
    left, top, side = square
    return 2 * (torch.tensor(corners) - torch.tensor([left, top] * (len(corners) // 2))) / side - 1


def _rows(file: Path, columns: int) -> list[list[str]]:
    """The lines of a list, each of so many words or more."""
    if not file.is_file():  # nor a pipe, which would be waited for
        raise DataError(f"{file}: not found; unpack {FOLDER}.tgz again")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: damaged ({error}); unpack {FOLDER}.tgz again") from error
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) < columns:
            raise DataError(f"{file}, line {number}: {len(row)} columns; allowed: {columns}; unpack {FOLDER}.tgz again")
    return rows


def _table(file: Path, columns: int) -> dict[str, list[str]]:
    """Number of the image, or part -> the other columns, so many or more."""
    found = {row[0]: row[1:] for row in _rows(file, columns + 1)}
    if not found:
        raise DataError(f"{file}: empty; unpack {FOLDER}.tgz again")
    return found


def _numbers(file: Path, columns: int) -> dict[str, list[float]]:
    rows = enumerate(_table(file, columns).items(), start=1)
    return {number: _floats(values[:columns], file, line) for line, (number, values) in rows}


def _floats(values: list[str], file: Path, line: int) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise DataError(f"{file}, line {line}: {error}") from error


def _of(table: dict[str, list[float]], number: str, file: Path) -> list[float]:
    if number not in table:
        raise DataError(f"{file}: no line for image {number}; unpack {FOLDER}.tgz again")
    return table[number]
