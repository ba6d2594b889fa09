"""Every test has a cache folder of its own, so that none finds the pixels of another, or of the user."""

from collections.abc import Callable
from pathlib import Path

import pytest
from written_files import write_folder

import datamodules
from datamodules import ImageData


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ABLATIONS_CACHE", str(folder))
    return folder


@pytest.fixture
def complaint() -> Callable[..., str]:
    """The one line that data are refused with: `complaint("folder", root, image_size=8)`."""

    def ask(name: str, root: Path, **options: object) -> str:
        with pytest.raises(datamodules.DataError) as caught:
            datamodules.load(name, root, **options)
        said = str(caught.value)
        assert said.isprintable(), repr(said)
        return said

    return ask


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Class folders of two classes with four images of 12 pixels each."""
    return write_folder(tmp_path / "pets", [(12, 12)] * 4, ("cat", "dog"))


@pytest.fixture(scope="module")
def source() -> ImageData:
    return datamodules.load("digits", cache=False)
