"""Every source on small files in its real format, and every way in which the files can be wrong."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image
from written_files import encoded, idx, random_images, write_cifar, write_mnist, write_parquet, write_parquet_folder

import datamodules
from datamodules import DataError
from datamodules.sources.registry import SOURCES, Source, find

Complaint = Callable[..., str]
LABELS = np.arange(40) % 10


def test_names_are_known_without_importing_torch() -> None:
    code = "import sys, datamodules; assert 'torch' not in sys.modules; print(' '.join(datamodules.NAMES))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert tuple(printed.split()) == tuple(SOURCES)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown data 'cifar_10'; did you mean cifar10\? \(allowed: digits, mnist"):
        find("cifar_10")


def test_digits() -> None:
    data = datamodules.load("digits")
    assert (data.name, data.num_classes, data.in_channels, data.image_size) == ("digits", 10, 1, 16)
    assert (len(data.train) + len(data.val), len(data.test)) == (1347, 450)
    assert data.train.images.max() > 240
    assert data.test.labels.bincount().min() >= 43
    assert data.augment == datamodules.Augment(pad=1)


@pytest.mark.parametrize(("name", "dataset"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_idx_files(tmp_path: Path, name: str, dataset: str) -> None:
    images = write_mnist(tmp_path / "few_digits", dataset)
    data = datamodules.load(name, tmp_path / "few_digits", validation=0)
    assert data.name == "few_digits", "80 images are not the official MNIST and must not be called so"
    assert torch.equal(data.train.images, torch.from_numpy(images).unsqueeze(-1))
    assert data.train.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("num_classes", [10, 100])
def test_cifar_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_classes: int) -> None:
    images, labels = write_cifar(tmp_path, num_classes, monkeypatch)
    data = datamodules.load(f"cifar{num_classes}", tmp_path, validation=0)
    assert np.array_equal(data.train.images.numpy(), images)
    assert np.array_equal(data.train.labels.numpy(), labels)
    assert (data.num_classes, len(data.test)) == (num_classes, 20)
    assert data.augment == datamodules.Augment(pad=4, flip=True)


def test_files_of_named_sources_are_those_of_torchvision() -> None:
    for name in ("cifar10", "cifar100"):
        kind = getattr(torchvision.datasets, name.upper())
        listed = {f"{kind.base_folder}/{file}" for file, _ in [*kind.train_list, *kind.test_list]}
        assert set(SOURCES[name].files) == {*listed, f"{kind.base_folder}/{kind.meta['filename']}"}


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two .mat files with labels 1..10, where 10 is the digit 0; gives the training pixels."""
    splits = dict(torchvision.datasets.SVHN.split_list)
    for seed, split in enumerate(("train", "test")):
        file = root / f"{split}_32x32.mat"
        labels = (np.arange(30) % 10 + 1).astype(np.uint8)[:, None]
        scipy.io.savemat(file, {"X": random_images(30, seed=seed).transpose(1, 2, 3, 0), "y": labels})
        splits[split] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", splits)
    return random_images(30, seed=0)


def test_svhn_mat_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_svhn(tmp_path, monkeypatch)
    data = datamodules.load("svhn", tmp_path, validation=0)
    assert np.array_equal(data.train.images.numpy(), images)
    assert data.train.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def write_class_folders(root: Path, sizes: tuple[int, ...] = (12,), test: str = "test") -> Path:
    for split in ("train", test):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = np.full((sizes[number % len(sizes)], 12, 3), 100 * label + number, np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize("test", ["test", "val"])
def test_class_folders(tmp_path: Path, test: str) -> None:
    data = datamodules.load("folder", write_class_folders(tmp_path / "my pets", test=test), validation=0.25)
    assert (data.name, data.num_classes, data.image_size) == ("my-pets", 2, 12)
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 8)
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4
    assert data.test.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 100, 101, 102, 103]


def test_class_folders_of_mixed_size(tmp_path: Path, complaint: Complaint) -> None:
    root = write_class_folders(tmp_path / "pets", sizes=(12, 16))
    assert re.search(r"0\.png is 12 x 12 x 3, .*1\.png is 16 x 12 x 3", complaint("folder", root))
    assert datamodules.load("folder", root, image_size=8).train.images.shape[1:] == (8, 8, 3)


def test_class_folders_that_are_wrong(tmp_path: Path, complaint: Complaint) -> None:
    assert re.search("train: no such folder", complaint("folder", tmp_path))
    root = write_class_folders(tmp_path / "pets")
    (root / "test" / "cow").mkdir()
    assert re.search(r"cow: a class that .*train does not have", complaint("folder", root))
    (root / "train" / "cow").mkdir()
    assert re.search("cow: no images", complaint("folder", root))


def test_greyscale_among_colours_is_refused(tmp_path: Path, complaint: Complaint) -> None:
    root = write_class_folders(tmp_path / "pets")
    Image.new("L", (12, 12)).save(root / "train" / "dog" / "3.png")
    assert re.search(r"12 x 12 x 3, .*3\.png is 12 x 12 x 1", complaint("folder", root))
    Image.new("RGBA", (12, 12)).save(root / "train" / "dog" / "3.png")
    assert re.search(r"3\.png: PIL mode RGBA; allowed: 1, L", complaint("folder", root))


def test_parquet_png_is_exact(tmp_path: Path) -> None:
    images = random_images(40)
    root = write_parquet_folder(tmp_path / "tiny", images, LABELS)
    data = datamodules.load("parquet", root, validation=0)
    assert (data.name, data.num_classes) == ("tiny", 10)
    assert np.array_equal(data.train.images.numpy(), images[:30])
    assert np.array_equal(data.test.images.numpy(), images[30:])
    assert data.train.labels.tolist() == LABELS[:30].tolist()


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 92, 100])
def test_parquet_jpeg_is_reported(tmp_path: Path, quality: int) -> None:
    root = write_parquet_folder(tmp_path / "tiny", random_images(40), LABELS, "JPEG", quality=quality)
    assert datamodules.load("parquet", root).name == f"tiny-jpeg{quality}"


def test_named_source_from_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint) -> None:
    root = write_parquet_folder(tmp_path / "tiny", random_images(40), LABELS)
    assert datamodules.load("cifar10", root).name == "tiny"
    official = Source("cifar10", 10, (30, 10), shape=(32, 32, 3))
    monkeypatch.setitem(SOURCES, "cifar10", official)
    assert datamodules.load("cifar10", root).name == "cifar10"
    assert re.search("not mnist, its images are 32 x 32 x 3 and not 28 x 28 x 1", complaint("mnist", root))


def test_torchvision_files_win_over_parquet(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_parquet_folder(tmp_path / "other", random_images(40), LABELS)
    assert datamodules.load("mnist", tmp_path).image_size == 28


def test_parquet_label_columns(tmp_path: Path, complaint: Complaint) -> None:
    data = [encoded(image) for image in random_images(4)]
    for split in ("train", "test"):
        file = write_parquet(tmp_path / f"{split}-0.parquet", data, [0, 5, 9, 1], image="img", label="fine_label")
        pq.write_table(pq.read_table(file).append_column("coarse_label", pa.array([0, 1, 1, 0])), file)
    assert datamodules.load("parquet", tmp_path, validation=0).train.labels.tolist() == [0, 5, 9, 1]
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}-0.parquet", data, [0, 1, 0, 1], label="answer")
    assert datamodules.load("parquet", tmp_path).num_classes == 2
    table = pq.read_table(tmp_path / "test-0.parquet").append_column("other", pa.array([0, 1, 1, 0]))
    pq.write_table(table, tmp_path / "test-0.parquet")
    assert re.search(
        r"test-0\.parquet: no integer column named label or fine_label in \['image'", complaint("parquet", tmp_path)
    )


def test_parquet_described_classes_count_even_if_unseen(tmp_path: Path) -> None:
    data = [encoded(image) for image in random_images(4)]
    described = json.dumps({"info": {"features": {"label": {"names": ["a", "b", "c"]}}}}).encode()
    for split in ("train", "test"):
        file = write_parquet(tmp_path / f"{split}.parquet", data, [0, 1, 0, 1])
        pq.write_table(pq.read_table(file).replace_schema_metadata({b"huggingface": described}), file)
    assert datamodules.load("parquet", tmp_path).num_classes == 3


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn", "parquet", "folder"])
def test_missing_files_say_how_to_get_them(tmp_path: Path, name: str, complaint: Complaint) -> None:
    remedy = "--download" if name not in ("parquet", "folder") else "point the data root at"
    for root in (tmp_path, tmp_path / "absent"):
        said = complaint(name, root)
        assert (remedy if name != "folder" else "train") in said
        assert str(root) in said


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint) -> None:
    offline = Mock(side_effect=RuntimeError("Error downloading:\nno route"))
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    assert re.search(
        r"MNIST: download to .* failed .Error downloading: no route", complaint("mnist", tmp_path, download=True)
    )


def test_damaged_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint) -> None:
    write_cifar(tmp_path, 10, monkeypatch)
    (tmp_path / "cifar-10-batches-py/data_batch_3").write_bytes(b"not what it was")
    assert re.search(r"data_batch_3: damaged \(MD5 mismatch\)", complaint("cifar10", tmp_path))


def test_damaged_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint) -> None:
    write_svhn(tmp_path, monkeypatch)
    (tmp_path / "test_32x32.mat").write_bytes(b"not what it was")
    assert re.search(r"test_32x32\.mat: damaged", complaint("svhn", tmp_path))


@pytest.mark.parametrize("contents", [b"", b"\0\0\x08\x03", b"\0\0\x08\x03\0\0\0\x28\0\0\0\x1c\0\0\0\x1c12345"])
def test_damaged_mnist(tmp_path: Path, contents: bytes, complaint: Complaint) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(contents)
    assert re.search(r"train-images-idx3-ubyte: damaged \(.+\)", complaint("mnist", tmp_path))


def test_labels_out_of_range_are_located(tmp_path: Path, complaint: Complaint) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.array([3] * 17 + [11] * 23)))
    assert re.search(r"train-labels-idx1-ubyte, row 17: label 11 is outside 0\.\.9", complaint("mnist", tmp_path))


def test_damaged_parquet(tmp_path: Path, complaint: Complaint) -> None:
    root = write_parquet_folder(tmp_path / "tiny", random_images(40), LABELS)
    file = root / "plain_text/train-00001-of-00002.parquet"
    good = [encoded(image) for image in random_images(15)]
    write_parquet(file, [*good[:9], None, *good[10:]], [0] * 15)
    assert "train-00001-of-00002.parquet, row 9: no image bytes" in complaint("parquet", root)
    write_parquet(file, good, [0] * 6 + [-1] + [0] * 8)
    assert re.search(r"train-00001-of-00002\.parquet, row 6: label -1 is outside 0\.\.9", complaint("cifar10", root))
    file.write_bytes(file.read_bytes()[:100])
    assert re.search(r"train-00001-of-00002\.parquet: not a readable parquet file", complaint("parquet", root))


def test_parquet_of_several_data_sets_is_refused(tmp_path: Path, complaint: Complaint) -> None:
    for name in ("one", "two"):
        write_parquet_folder(tmp_path / name, random_images(8), LABELS[:8])
    assert re.search(r"holds several data sets .*one.*two", complaint("parquet", tmp_path))


def test_parquet_without_a_test_split(tmp_path: Path, complaint: Complaint) -> None:
    data = [encoded(image) for image in random_images(4)]
    write_parquet(tmp_path / "train-0.parquet", data, [0, 1, 0, 1])
    assert re.search(r"but no test-\*\.parquet among them", complaint("parquet", tmp_path))
    write_parquet(tmp_path / "validation-0.parquet", data, [0, 1, 0, 1])
    assert len(datamodules.load("parquet", tmp_path).test) == 4


def test_image_size_resizes_arrays_and_files_alike(tmp_path: Path) -> None:
    write_mnist(tmp_path / "idx")
    images = random_images(40, 28, 1)
    write_parquet_folder(tmp_path / "parquet", np.concatenate([images, images[:14]]), np.arange(54) % 10)
    one = datamodules.load("mnist", tmp_path / "idx", image_size=32, validation=0)
    other = datamodules.load("mnist", tmp_path / "parquet", image_size=32, validation=0)
    assert one.train.images.shape == (40, 32, 32, 1)
    assert torch.equal(one.train.images, other.train.images)
