"""Every test has a cache folder of its own, so that none finds the pixels of another, or of the user."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from written_files import random_images

import datamodules


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
            datamodules.load(name, root, **options)  # type: ignore[arg-type]
        said = str(caught.value)
        assert said.isprintable(), repr(said)
        return said

    return ask


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Class folders of two classes with four images of 12 pixels each."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number, image in enumerate(random_images(4, 12)):
                Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "pets"
