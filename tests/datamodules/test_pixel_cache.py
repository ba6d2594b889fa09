"""The cache: decoded once, believed only if structure, fingerprint and digest agree, never in the way."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from written_files import random_images, write_parquet_folder

import datamodules
from datamodules.sources import parquet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_parquet_folder(tmp_path / "tiny", random_images(40), torch.arange(40).numpy() % 10)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one image count with every decoding of a split."""
    counts: list[int] = []
    original = parquet.decode

    def counted(images: list[object], *arguments: object) -> torch.Tensor:
        counts.append(len(images))
        return original(images, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(parquet, "decode", counted)
    return counts


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_second_open_does_not_decode(root: Path, cache_folder: Path, decodings: list[int]) -> None:
    first = datamodules.load("parquet", root)
    second = datamodules.load("parquet", root)
    assert decodings == [30, 10]
    assert first.identity == second.identity
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    assert only_file(cache_folder).suffix == ".safetensors", "nothing unfinished may stay behind"


def test_identity_is_the_same_without_a_cache(root: Path, cache_folder: Path) -> None:
    assert datamodules.load("parquet", root, cache=False).identity == datamodules.load("parquet", root).identity
    assert only_file(cache_folder)


def rewritten(file: Path, **changed: torch.Tensor) -> None:
    """The file with its own description, and other tensors."""
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
    save_file({name: tensor.clone() for name, tensor in {**load_file(file), **changed}.items()}, file, metadata)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("somebody's notes, long enough to be taken for a header " * 10),
    "foreign tensors": lambda file: save_file({"weight": torch.zeros(3)}, file),
    "wrong tensors": lambda file: rewritten(file, train_images=torch.zeros(3)),
    "another pixel": lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])),
    "other labels": lambda file: rewritten(file, train_labels=load_file(file)["train_labels"].flip(0)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_or_foreign_files_are_rebuilt(
    root: Path, cache_folder: Path, decodings: list[int], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    before = datamodules.load("parquet", root).identity
    DAMAGE[damage](only_file(cache_folder))
    assert datamodules.load("parquet", root).identity == before
    assert "is not used and will be rebuilt: " in caplog.text
    datamodules.load("parquet", root)
    assert decodings == [30, 10] * 2, "rebuilt once, then used again"


def test_changed_sources_are_decoded_again(root: Path, decodings: list[int], caplog: pytest.LogCaptureFixture) -> None:
    before = datamodules.load("parquet", root)
    write_parquet_folder(root, random_images(40, seed=1), torch.arange(40).numpy() % 10)
    os.utime(root / "plain_text" / "test-00000-of-00001.parquet", ns=(0, 0))
    after = datamodules.load("parquet", root)
    assert "the source files have changed since" in caplog.text
    assert after.identity["digest"] != before.identity["digest"]
    assert decodings == [30, 10] * 2


def test_sizes_are_kept_apart(root: Path, cache_folder: Path, decodings: list[int]) -> None:
    for _ in range(2):
        assert datamodules.load("parquet", root).image_size == 32
        assert datamodules.load("parquet", root, image_size=8).image_size == 8
    assert decodings == [30, 10] * 2
    assert len(list(cache_folder.iterdir())) == 2


def test_unwritable_folder_is_one_warning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ABLATIONS_CACHE", str(tmp_path / "file"))
    assert datamodules.load("parquet", root).name == "tiny"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "decoded pixels are not kept" in caplog.text
