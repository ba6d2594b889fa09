"""SVHN's full numbers in their own format: folders of images, each with a digitStruct.mat of MATLAB 7.3."""

import logging
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from written_files import random_images

import datamodules
from datamodules.sources.house_numbers import read_struct

Refused = Callable[[Path], str]
Digits = list[tuple[float, tuple[float, float, float, float]]]  # of one image: label 1..10, (left, top, width, height)


def write_struct(file: Path, numbers: list[Digits]) -> None:
    """As MATLAB writes it: references to strings and to groups whose fields are a number, or references to numbers."""
    with h5py.File(file, "w") as mat:
        names = mat.create_dataset("digitStruct/name", (len(numbers), 1), h5py.ref_dtype)
        boxes = mat.create_dataset("digitStruct/bbox", (len(numbers), 1), h5py.ref_dtype)
        for row, digits in enumerate(numbers):
            letters = np.array([[ord(letter)] for letter in f"{row + 1}.png"], np.uint16)
            names[row, 0] = mat.create_dataset(f"#refs#/name{row}", data=letters).ref
            group = mat.create_group(f"#refs#/box{row}")
            boxes[row, 0] = group.ref
            columns = {"label": [d[0] for d in digits]}
            columns |= {field: [d[1][i] for d in digits] for i, field in enumerate(("left", "top", "width", "height"))}
            for field, values in columns.items():
                if len(values) == 1:
                    group.create_dataset(field, data=np.array([values], np.float64))
                    continue
                column = group.create_dataset(field, (len(values), 1), h5py.ref_dtype)
                for index, value in enumerate(values):
                    at = f"#refs#/{field}{row}-{index}"
                    column[index, 0] = mat.create_dataset(at, data=np.array([[value]], np.float64)).ref


def digits(*labels: float, left: float = 20, width: float = 10) -> Digits:
    return [(label, (left + width * place, 10, width, 20)) for place, label in enumerate(labels)]


def write_split(folder: Path, numbers: list[Digits], seed: int = 0) -> np.ndarray:
    """Noise of 100 x 50 pixels, (N, 50, 100, 3), and the file that describes it."""
    folder.mkdir(parents=True)
    images = np.concatenate([random_images(len(numbers), 50, 3, seed), random_images(len(numbers), 50, 3, seed + 1)], 2)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{row + 1}.png")
    write_struct(folder / "digitStruct.mat", numbers)
    return images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_split(tmp_path / "train", [digits(1, 10, 3), digits(7), digits(1, 2, 3, 4, 5), digits(9, 9)] * 5)
    write_split(tmp_path / "test", [digits(10), digits(1, 2)], seed=5)
    return tmp_path


def test_labels_and_sizes(root: Path) -> None:
    data = datamodules.load("house_numbers", root)
    assert (data.image_size, data.in_channels, data.num_classes) == (64, 3, 11)
    assert data.test.labels.tolist() == [[0, 10, 10, 10, 10], [1, 2, 10, 10, 10]]
    assert len(data.train) + len(data.val) == 20
    first = torch.cat([data.train.labels, data.val.labels])[:, 0]
    assert first.bincount().tolist() == [0, 10, 0, 0, 0, 0, 0, 5, 0, 5]
    assert datamodules.load("house_numbers", root, image_size=32).image_size == 32


@pytest.mark.parametrize(("image_size", "width", "height"), [(64, 26, 26), (128, 52, 50), (32, 26, 26)])
def test_crop(tmp_path: Path, image_size: int, width: int, height: int) -> None:
    """A box of 20 x 20 pixels, 1.3 or 2.6 times as large, about its middle (50, 25)."""
    numbers = [digits(1, 2, left=40)]
    numbers = [[(label, (left, 15.0, w, h)) for label, (left, _, w, h) in numbers[0]]]
    images = write_split(tmp_path / "train", numbers)
    write_split(tmp_path / "test", numbers)
    data = datamodules.load("house_numbers", tmp_path, image_size=image_size, validation=0)
    box = (50 - width / 2, max(0, 25 - height / 2), 50 + width / 2, min(50, 25 + height / 2))
    whole = Image.fromarray(images[0])
    expected = whole.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    assert np.array_equal(data.train.images[0].numpy(), np.asarray(expected))


def test_extra_images_count_as_training(root: Path) -> None:
    write_split(root / "extra", [digits(5)] * 3, seed=9)
    data = datamodules.load("house_numbers", root, validation=0)
    assert data.train.labels[-3:].tolist() == [[5, 10, 10, 10, 10]] * 3
    assert len(data.train) == 23


def test_longer_numbers_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_split(tmp_path / "train", [digits(1, 2, 3, 4, 5, 6), digits(4, 4)])
    with caplog.at_level(logging.INFO):
        numbers = read_struct(tmp_path / "train" / "digitStruct.mat")
    assert [number.digits for number in numbers] == [(4, 4)]
    assert numbers[0].box == (20, 10, 40, 30)
    assert "1 numbers of more than 5 digits are left out" in caplog.text


def test_the_cache_is_used_and_sees_changes(root: Path) -> None:
    first = datamodules.load("house_numbers", root)
    assert datamodules.load("house_numbers", root).identity == first.identity
    write_struct(root / "test" / "digitStruct.mat", [digits(3), digits(1, 2)])
    assert datamodules.load("house_numbers", root).test.labels[0, 0] == 3


@pytest.fixture
def refused(complaint: Callable[..., str]) -> Refused:
    """The one line that the folder is refused with."""
    return lambda root: complaint("house_numbers", root, cache=False)


@pytest.mark.parametrize(("folder", "message"), [
    ("nowhere", "nowhere: no such folder; point the data root at a folder with train/ and test/ of SVHN's"),
    ("train", "train/train: no such folder; expected train/, test/"),
])  # fmt: skip
def test_folders_without_the_splits(root: Path, folder: str, message: str, refused: Refused) -> None:
    assert message in refused(root / folder)


@pytest.mark.parametrize(
    ("kept", "reason"),
    [(slice(3000), ".+"), (slice(0), ".*file signature not found.*"), (slice(8, None), ".*file signature not found.*")],
)
def test_damaged_descriptions(root: Path, kept: slice, reason: str, refused: Refused) -> None:
    struct = root / "test" / "digitStruct.mat"
    struct.write_bytes(struct.read_bytes()[kept])
    said = refused(root)
    assert re.search(rf"test/digitStruct\.mat: damaged \({reason}\); unpack test\.tar\.gz again", said)


def test_descriptions_without_boxes(root: Path, refused: Refused) -> None:
    with h5py.File(root / "test" / "digitStruct.mat", "w") as mat:
        mat.create_dataset("digitStruct/name", (1, 1), h5py.ref_dtype)
    assert re.search(r"test/digitStruct\.mat: damaged \(.*bbox", refused(root))


@pytest.mark.parametrize(("numbers", "message"), [
    ([digits(11), digits(1)], r"test/digitStruct\.mat, 1\.png: label 11; allowed: 1 to 10, which is 0"),
    ([digits(1, width=0), digits(1)], r"test/digitStruct\.mat, 1\.png: the box around its digits is empty"),
    ([digits(1, left=math.nan), digits(1)], r"test/digitStruct\.mat, 1\.png: the box around its digits has no end"),
    ([digits(1, width=math.inf), digits(1)], r"test/digitStruct\.mat, 1\.png: the box around its digits has no end"),
    ([digits(math.inf), digits(1)], r"test/digitStruct\.mat: damaged \(cannot convert float infinity to integer\)"),
    ([digits(1), digits(1, left=500)], r"test/2\.png: not a readable image .its digits lie outside of it"),
    ([digits(1)] * 3, r"test/3\.png: not found, but .*test/digitStruct\.mat names it"),
])  # fmt: skip
def test_descriptions_that_no_image_can_have(root: Path, numbers: list[Digits], message: str, refused: Refused) -> None:
    write_struct(root / "test" / "digitStruct.mat", numbers)
    said = refused(root)
    assert re.search(message, said)


@pytest.mark.timeout(60)
def test_an_image_that_is_a_pipe_is_not_waited_for(root: Path, refused: Refused) -> None:
    (root / "test" / "2.png").unlink()
    os.mkfifo(root / "test" / "2.png")
    assert refused(root).endswith("test/2.png: not a file")


def test_sizes_beyond_the_memory_and_transparent_images(
    root: Path, refused: Refused, complaint: Callable[..., str]
) -> None:
    assert "images of 1000000 x 1000000 x 1 take" in complaint("house_numbers", root, image_size=10**6)
    Image.new("RGBA", (100, 50)).save(root / "test" / "2.png")
    assert "test/2.png: PIL mode RGBA; allowed" in refused(root)


def test_damaged_and_missing_files(root: Path, refused: Refused) -> None:
    (root / "test" / "2.png").write_bytes(b"no image")
    assert "test/2.png: not a readable image" in refused(root)
    (root / "test" / "digitStruct.mat").unlink()
    assert "test/digitStruct.mat: not found; unpack test.tar.gz of the full numbers again" in refused(root)
