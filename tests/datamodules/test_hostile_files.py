"""Files that are none, are too much, or are another thing than they say: one line before anything is decoded."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from written_files import encoded, idx, random_images, write_mnist, write_parquet, write_parquet_folder

import datamodules
from datamodules import DataError
from datamodules.sources.decoding import check_memory

LABELS = np.arange(40) % 10
SPLITS = ("train", "test")
Complaint = Callable[..., str]

pytestmark = pytest.mark.timeout(60)  # a pipe would be waited for


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder of parquet files with 30 training and 10 test images."""
    return write_parquet_folder(tmp_path / "tiny", random_images(40), LABELS)


# --- files that are none ---


NO_FILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (os.mkfifo, "not a file"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "not a file"),
    "a folder": (Path.mkdir, "not a file"),
    "a link to itself": (lambda file: file.symlink_to(file), "a link that leads nowhere"),
    "a link to nothing": (lambda file: file.symlink_to("nowhere"), "a link that leads nowhere"),
}


@pytest.mark.parametrize("kind", NO_FILE)
def test_what_is_no_file_is_not_read(pets: Path, table: Path, tmp_path: Path, kind: str, complaint: Complaint) -> None:
    make, message = NO_FILE[kind]
    make(pets / "train" / "dog" / "x.png")
    assert complaint("folder", pets).endswith(f"dog/x.png: {message}")
    make(table / "plain_text" / "train-x.parquet")
    assert complaint("parquet", table).endswith(f"train-x.parquet: {message}")
    write_mnist(tmp_path / "idx")
    file = tmp_path / "idx" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.unlink()
    make(file)
    assert "t10k-labels-idx1-ubyte: not found" in complaint("mnist", tmp_path / "idx")


def test_a_class_that_is_a_link_to_itself_is_named(pets: Path, complaint: Complaint) -> None:
    (pets / "train" / "cow").symlink_to(pets / "train" / "cow")
    assert complaint("folder", pets).endswith("cow: a link that leads nowhere")
    (pets / "train" / "cow").unlink()
    (pets / "train" / "cow").symlink_to(pets / "train")
    assert "cow: no images" in complaint("folder", pets)


def test_paths_that_no_system_takes(tmp_path: Path, complaint: Complaint) -> None:
    for name in datamodules.NAMES[1:]:
        assert "File name too long" in complaint(name, tmp_path / ("x" * 5000))
    (tmp_path / "loop").symlink_to("loop")
    assert "no such folder" in complaint("folder", tmp_path / "loop")
    assert "no such folder" in complaint("folder", tmp_path / "with\0zero")
    assert "no such folder" in complaint("folder", Path("/dev/zero"))


@pytest.mark.parametrize("name", ["two\nlines.png", "\x1b[2J.png", os.fsdecode(b"\xff.png")])
def test_names_of_files_do_not_reach_the_terminal_raw(pets: Path, name: str, complaint: Complaint) -> None:
    (pets / "train" / "cat" / name).write_bytes(b"no picture")
    assert "not a readable image" in complaint("folder", pets)  # and is one line, see there


# --- numbers beyond reason ---


@pytest.mark.parametrize("name", ["digits", "folder", "parquet", "mnist"])
def test_memory_is_counted_before_it_is_taken(
    pets: Path, table: Path, tmp_path: Path, name: str, complaint: Complaint
) -> None:
    write_mnist(tmp_path / "idx")
    root = {"folder": pets, "parquet": table, "mnist": tmp_path / "idx"}.get(name, tmp_path)
    assert "GiB; allowed: half of the" in complaint(name, root, image_size=10**6)


def test_the_bound_of_memory_is_where_it_is_said_to_be() -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    check_memory(memory // 2, (1, 1, 1), "here")
    with pytest.raises(DataError, match=r"here: .* images of 1 x 1 x 1 take .* GiB"):
        check_memory(memory // 2 + 1, (1, 1, 1), "here")


def test_many_rows_of_large_images_are_refused_by_their_size(tmp_path: Path, complaint: Complaint) -> None:
    """The file is small: equal values are stored once. Decoded they would fill 5,600 GiB."""
    count = 2_000_000
    image = encoded(np.zeros((1000, 1000, 1), np.uint8))
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([image]))
    images = pa.StructArray.from_arrays([column], ["bytes"])
    for split in SPLITS:
        file = tmp_path / "many" / f"{split}-0.parquet"
        file.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": images, "label": np.zeros(count, np.int64)}), file)
    assert "train-0.parquet, row 0: 2000000 images of 1000 x 1000 x 1 take" in complaint("parquet", tmp_path / "many")


@pytest.mark.parametrize("label", [1000, 10**9, 2**62])
def test_labels_that_number_no_classes(tmp_path: Path, label: int, complaint: Complaint) -> None:
    images = [encoded(image) for image in random_images(4)]
    for split in SPLITS:
        write_parquet(tmp_path / f"{split}-0.parquet", images, [0, 1, label, 1])
    assert complaint("parquet", tmp_path).endswith(f"train-0.parquet, row 2: label {label} is outside 0..999")


def test_labels_of_more_than_a_thousand_classes(tmp_path: Path) -> None:
    image = encoded(np.zeros((1, 1, 1), np.uint8))
    for split in SPLITS:
        write_parquet(tmp_path / f"{split}-0.parquet", [image] * 1200, list(range(1200)))
    assert datamodules.load("parquet", tmp_path).num_classes == 1200


# --- two splits that do not go together ---


IDX = {
    "smaller tests": (np.zeros((40, 14, 14)), LABELS, "training images are 28 x 28 x 1, test images 14 x 14 x 1; all"),
    "no tests": (np.zeros((0, 28, 28)), LABELS[:0], "t10k-images-idx3-ubyte: damaged"),
    "images of nothing": (np.zeros((40, 0, 28)), LABELS, "t10k-images-idx3-ubyte: damaged"),
    "fewer labels": (np.zeros((40, 28, 28)), LABELS[:39], "40 images, but 39 labels in"),
    "two dimensions": (np.zeros((40, 28)), LABELS, "t10k-images-idx3-ubyte: damaged"),
    "labels in a square": (np.zeros((40, 28, 28)), LABELS.reshape(5, 8), "t10k-labels-idx1-ubyte: damaged"),
}


@pytest.mark.parametrize("name", IDX)
def test_idx_files_that_do_not_fit(tmp_path: Path, name: str, complaint: Complaint) -> None:
    images, labels, message = IDX[name]
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    assert message in complaint("mnist", tmp_path)


@pytest.mark.parametrize("claimed", [41, 2_000_000, 2**31 - 1])
def test_idx_headers_that_claim_more(tmp_path: Path, claimed: int, complaint: Complaint) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    data = file.read_bytes()
    file.write_bytes(data[:4] + claimed.to_bytes(4, "big") + data[8:])
    assert "train-images-idx3-ubyte: damaged (" in complaint("mnist", tmp_path)


def test_idx_files_that_are_not_square(tmp_path: Path, complaint: Complaint) -> None:
    write_mnist(tmp_path)
    for split in ("train", "t10k"):
        (tmp_path / f"MNIST/raw/{split}-images-idx3-ubyte").write_bytes(idx(np.zeros((40, 28, 14))))
    assert "28 x 14 x 1, not a square" in complaint("mnist", tmp_path)
    assert datamodules.load("mnist", tmp_path, image_size=14).image_size == 14


def test_a_compressed_idx_file_is_no_idx_file(tmp_path: Path, complaint: Complaint) -> None:
    import gzip

    write_mnist(tmp_path)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(gzip.compress(file.read_bytes()))
    assert "train-images-idx3-ubyte: damaged (" in complaint("mnist", tmp_path)


@pytest.mark.parametrize("name", ["folder", "parquet"])
def test_test_images_of_another_size(pets: Path, table: Path, name: str, complaint: Complaint) -> None:
    write_parquet(table / "plain_text/test-00000-of-00001.parquet", [encoded(random_images(1, 16)[0])] * 4, [0] * 4)
    for file in (pets / "test").rglob("*.png"):
        Image.new("RGB", (16, 16)).save(file)
    said = complaint(name, {"folder": pets, "parquet": table}[name])
    assert "test images 16 x 16 x 3; all must have one channel count and one size" in said


# --- parquet columns of other shapes ---


def column_of(kind: pa.DataType, value: object) -> pa.Table:
    return pa.table({"image": pa.array([value] * 8, kind), "label": [0, 1] * 4})


PNG = encoded(random_images(1)[0])
COLUMNS = {
    "bytes without a struct": (column_of(pa.binary(), PNG), "0 image columns (struct with bytes)"),
    "a list of structs": (
        column_of(pa.large_list(pa.struct([("bytes", pa.binary())])), [{"bytes": PNG}]), "0 image columns",
    ),
    "text": (column_of(pa.struct([("bytes", pa.string())]), {"bytes": "no"}), "row 0: no image bytes but str"),
    "a path alone": (
        column_of(pa.struct([("bytes", pa.binary()), ("path", pa.string())]), {"path": "0.png"}),
        "row 0: no image bytes",
    ),
    "a struct in a struct": (
        column_of(pa.struct([("bytes", pa.struct([("bytes", pa.binary())]))]), {"bytes": {"bytes": PNG}}),
        "row 0: no image bytes but dict",
    ),
    "two of one name": (
        pa.Table.from_arrays([pa.array([{"bytes": PNG}]), pa.array([1]), pa.array([2])], ["image", "label", "label"]),
        "2 columns are named label",
    ),
    "labels in words": (pa.table({"image": [{"bytes": PNG}], "label": ["cat"]}), "no integer column named label"),
    "no labels at all": (
        pa.table({"image": [{"bytes": PNG}] * 2, "label": pa.array([None, None], pa.int64())}), "2 rows have no value",
    ),
    "no rows": (column_of(pa.struct([("bytes", pa.binary())]), {"bytes": PNG}).slice(0, 0), "no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_another_shape(tmp_path: Path, name: str, complaint: Complaint) -> None:
    made, message = COLUMNS[name]
    for split in SPLITS:
        pq.write_table(made, tmp_path / f"{split}-0.parquet")
    said = complaint("parquet", tmp_path)
    assert message in said
    assert "train-0.parquet" in said


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary(len(PNG)), pa.dictionary(pa.int32(), pa.binary())])
def test_bytes_of_other_types_are_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.StructArray.from_arrays([pa.array([PNG] * 8).cast(kind)], ["bytes"])
    for split in SPLITS:
        pq.write_table(pa.table({"image.of.all": column, "label": [0, 1] * 4}), tmp_path / f"{split}-0.parquet")
    assert len(datamodules.load("parquet", tmp_path).test) == 8


@pytest.mark.parametrize("described", [b"\xff", b"[" * 10**5, b"null", json.dumps({"info": [1]}).encode()])
def test_a_description_that_is_none_is_not_believed(table: Path, described: bytes) -> None:
    for file in table.rglob("*.parquet"):
        pq.write_table(pq.read_table(file).replace_schema_metadata({b"huggingface": described}), file)
    assert datamodules.load("parquet", table).num_classes == 10


# --- arguments that came from a file of options ---


@pytest.mark.parametrize(("name", "value"), [
    *(("root", value) for value in (None, 3)),
    *(("image_size", value) for value in (True, 2.5, "32", 0)),
    *(("seed", value) for value in (None, "0")),
    *(("batch_size", value) for value in (None, 0, 2.0)),
    *(("validation", value) for value in (None, "0.1", float("nan"), 1)),
])  # fmt: skip
def test_arguments_of_another_kind(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {value!r}; allowed: "):
        datamodules.load("digits", **{name: value})


@pytest.mark.parametrize("name", [None, 3, [], "digit"])
def test_names_of_another_kind(name: object) -> None:
    with pytest.raises(DataError, match="unknown data"):
        datamodules.load(name)


def test_the_cache_is_no_pipe(table: Path, cache_folder: Path) -> None:
    first = datamodules.load("parquet", table)
    (file,) = cache_folder.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert datamodules.load("parquet", table).identity == first.identity
    shutil.rmtree(cache_folder)
    assert torch.equal(datamodules.load("parquet", table).test.images, first.test.images)
