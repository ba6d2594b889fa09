"""Every test has a cache folder of its own, so that none finds the pixels of another, or of the user."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ABLATIONS_CACHE", str(folder))
    return folder
