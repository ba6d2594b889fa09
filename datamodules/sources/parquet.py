"""Folders of parquet files as downloaded from a Hugging Face hub: train-*.parquet and test-*.parquet, at any depth.

One column holds the images, a struct {bytes, path}; one integer column holds the labels. No `datasets` package needed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datamodules.errors import DataError, one_line
from datamodules.sources.decoding import decode, jpeg_quality
from datamodules.sources.pixels import Decoded, Pixels, check_labels, most_classes

LABEL_COLUMNS = ("label", "fine_label")  # CIFAR-100 has fine_label and coarse_label


def find_files(root: Path) -> list[Path]:
    """Every parquet file below root that belongs to a split we read, sorted; empty if there is none at all.

    Raises DataError if the files lack a training or a test split, or belong to several data sets.
    """
    every = sorted(root.rglob("*.parquet"))
    if not every:
        return []
    splits: dict[str, list[Path]] = {}
    for file in every:
        splits.setdefault(_split_of(file), []).append(file)
    test = "validation" if "validation" in splits and "test" not in splits else "test"
    for split in ("train", test):
        if split not in splits:
            raise DataError(f"{root}: parquet files, but no {split}-*.parquet among them (found {every[0].name}, ...)")
        folders = sorted({str(file.parent) for file in splits[split]})
        if len(folders) > 1:
            raise DataError(f"{root}: holds several data sets ({', '.join(folders)}); point the data root at one")
    return splits["train"] + splits[test]


def read_parquet(files: list[Path], num_classes: int | None, image_size: int | None) -> Decoded:
    """Decode the files of `find_files`.

    num_classes None: taken from the hub's own description in the file, else the largest training label + 1.
    Raises DataError for damaged files and images, missing columns and labels out of range.
    """
    columns = [_read_columns(file) for file in files]
    train = [part for part in columns if _split_of(part.file) == "train"]
    test = [part for part in columns if _split_of(part.file) != "train"]
    if num_classes is None:
        num_classes = _described_classes(train[0].file) or _counted_classes(train)
    pixels = [_decode(parts, num_classes, image_size) for parts in (train, test)]
    # Last, because only now every image is known to be one.
    quality = jpeg_quality(train[0].read(0), train[0].where(0)) if len(train[0].labels) else None
    return Decoded(pixels[0], pixels[1], num_classes, quality)


@dataclass(frozen=True)
class _Columns:
    """The two columns of one file: images is an arrow array of compressed bytes, labels is int64 (N,)."""

    file: Path
    images: Any
    labels: torch.Tensor

    def where(self, row: int) -> str:
        return f"{self.file}, row {row}"

    def read(self, row: int) -> bytes:
        data = self.images[row].as_py()
        if not isinstance(data, bytes):
            raise DataError(
                f"{self.where(row)}: no image bytes" + ("" if data is None else f" but {type(data).__name__}")
            )
        return data


def _split_of(file: Path) -> str:
    """`train` of train-00000-of-00001.parquet, and of train/0000.parquet, the hub's converted form."""
    split = file.stem.split("-")[0]
    return file.parent.name if split.isdigit() else split


def _counted_classes(train: list[_Columns]) -> int:
    """The largest training label + 1; raises DataError for one that is no number of a class."""
    most = most_classes(sum(len(part.labels) for part in train))
    for part in train:
        check_labels(part.labels, most, str(part.file))
    return 1 + max((int(part.labels.max()) for part in train if len(part.labels)), default=0)


def _decode(parts: list[_Columns], num_classes: int, image_size: int | None) -> Pixels:
    """The pixels of one split, in the order of its files."""
    for part in parts:
        check_labels(part.labels, num_classes, str(part.file))
    rows = [(part, row) for part in parts for row in range(len(part.labels))]
    if not rows:
        raise DataError(f"{parts[0].file}: no rows")
    title = f"decoding {parts[0].file.name}"
    images = decode(rows, lambda at: at[0].read(at[1]), image_size, title, lambda at: at[0].where(at[1]))
    return Pixels(images, torch.cat([part.labels for part in parts]))


def _read_columns(file: Path) -> _Columns:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = _schema(file)
    image_column, label_column = _image_column(schema, file), _label_column(schema, file)
    for name in (image_column, label_column):
        if schema.names.count(name) > 1:
            raise DataError(f"{file}: {schema.names.count(name)} columns are named {name}; one is needed")
    with _reading(file):
        table = pq.read_table(file, columns=[image_column, label_column])
        images, labels = pc.struct_field(table[image_column], "bytes"), table[label_column]
        missing, numbers = labels.null_count, labels.to_numpy()
    if missing:
        raise DataError(f"{file}: {missing} rows have no value in column {label_column}")
    return _Columns(file, images, torch.tensor(numbers).long())


def _schema(file: Path) -> Any:
    import pyarrow.parquet as pq

    with _reading(file):
        return pq.read_schema(file)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raises DataError for whatever pyarrow meets in a damaged file: its own errors, OSError, OverflowError, ..."""
    try:
        yield
    except Exception as error:
        raise DataError(f"{file}: not a readable parquet file ({one_line(error)}); download it again") from error


def _image_column(schema: Any, file: Path) -> str:
    import pyarrow as pa

    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    if len(structs) != 1:
        raise DataError(f"{file}: {len(structs)} image columns (struct with bytes) in {schema.names}; one is needed")
    return str(structs[0])


def _label_column(schema: Any, file: Path) -> str:
    import pyarrow as pa

    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    named = [name for name in LABEL_COLUMNS if name in integers] or (integers if len(integers) == 1 else [])
    if not named:
        raise DataError(f"{file}: no integer column named {' or '.join(LABEL_COLUMNS)} in {schema.names}")
    return str(named[0])


def _described_classes(file: Path) -> int | None:
    """The number of class names in the description the hub writes into its files; None without one."""
    schema = _schema(file)
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return len(features[_label_column(schema, file)]["names"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
