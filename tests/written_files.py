"""Small data sets in their real formats, as files that tests write for themselves."""

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision
from PIL import Image


def random_images(count: int, size: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def encoded(image: np.ndarray, form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, form, **options)
    return buffer.getvalue()


def write_folder(
    root: Path, sizes: Sequence[tuple[int, int]] = ((16, 16),) * 4, classes: Sequence[str] = ("a", "b")
) -> Path:
    """Writes root/{train,test}/<class>/<number>.png, one image of every size, and gives root back."""
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number, size in enumerate(sizes):
                Image.new("RGB", size, (number * 10,) * 3).save(root / split / name / f"{number}.png")
    return root


def write_parquet(file: Path, images: Sequence[bytes | None], labels: Sequence[int], **names: str) -> Path:
    """One file as the hub writes it; names may give other column names for `image` and `label`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {names.get("image", "image"): pa.array(structs, kind), names.get("label", "label"): pa.array(labels)}
    pq.write_table(pa.table(columns), file, row_group_size=7)
    return file


def write_parquet_folder(root: Path, images: np.ndarray, labels: np.ndarray, form: str = "PNG", **options: int) -> Path:
    """Two training files and one test file, in a subfolder; the last quarter is the test split."""
    data = [encoded(image, form, **options) for image in images]
    half, cut = len(data) * 3 // 8, len(data) * 3 // 4
    write_parquet(root / "plain_text" / "train-00000-of-00002.parquet", data[:half], labels[:half].tolist())
    write_parquet(root / "plain_text" / "train-00001-of-00002.parquet", data[half:cut], labels[half:cut].tolist())
    write_parquet(root / "plain_text" / "test-00000-of-00001.parquet", data[cut:], labels[cut:].tolist())
    return root


def write_cifar(root: Path, num_classes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Both splits of a small CIFAR as pickles whose MD5 sums torchvision is told; gives training pixels and labels."""
    kind = torchvision.datasets.CIFAR10 if num_classes == 10 else torchvision.datasets.CIFAR100
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    key = "labels" if num_classes == 10 else "fine_labels"
    images, labels = [], []
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    files = [(which, entry[0]) for which in ("train_list", "test_list") for entry in getattr(kind, which)]
    for seed, (which, name) in enumerate(files):
        batch = random_images(20, seed=seed)
        values = [(row * 7 + seed) % num_classes for row in range(20)]
        contents = pickle.dumps({"data": batch.transpose(0, 3, 1, 2).reshape(20, -1), key: values})
        (folder / name).write_bytes(contents)
        lists[which].append([name, hashlib.md5(contents).hexdigest()])
        if which == "train_list":
            images.append(batch)
            labels += values
    meta = pickle.dumps({kind.meta["key"]: [str(label) for label in range(num_classes)]})
    (folder / kind.meta["filename"]).write_bytes(meta)
    for which, entries in lists.items():
        monkeypatch.setattr(kind, which, entries)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    return np.concatenate(images), np.array(labels)


def idx(array: np.ndarray) -> bytes:
    """As an idx file holds bytes of any shape."""
    return np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, dataset: str = "MNIST", count: int = 40) -> np.ndarray:
    """Four idx files; gives the training pixels (N, 28, 28). Labels count 0..9."""
    raw = root / dataset / "raw"
    raw.mkdir(parents=True)
    for seed, prefix in enumerate(("train", "t10k")):
        images = random_images(count, 28, 1, seed)[..., 0]
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    return random_images(count, 28, 1, 0)[..., 0]
