"""A run's folder as a whole: thrown away, or replaced by its like; a kill in between leaves what can be told apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def discard(folder: Path) -> None:
    """Removes the folder without reading it; from the first moment on nothing is where a run would be looked for."""
    rest = _discarded(folder)
    remove(rest)
    with suppress(FileNotFoundError):
        folder.rename(rest)
    remove(rest)


def replace_by(folder: Path, new: Path) -> None:
    """Puts `new` in the place of the folder; see `settle` for a kill in between."""
    folder.rename(_old(folder))
    new.rename(folder)
    remove(_old(folder))
    with suppress(OSError):  # where runs lay before they took their places, if no other is there
        new.parent.rmdir()
        new.parent.parent.rmdir()


def settle(folder: Path) -> None:
    """Ends what was killed half-way: a replacement goes back to its beginning or to its end, remains are removed."""
    make_way(folder)
    if _old(folder).exists() and not folder.exists():
        _old(folder).rename(folder)
    for rest in (_old(folder), _discarded(folder)):
        remove(rest)


def is_settled(folder: Path) -> bool:
    """Whether nothing is left of a replacement or a removal."""
    return not _old(folder).exists() and not _discarded(folder).exists()


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _discarded(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.discarded")


def make_way(folder: Path) -> None:
    """Removes what stands in the place of a folder and is none: a file, a pipe, a link that leads nowhere."""
    if not folder.is_dir():
        remove(folder)


def make_way_for_files(folder: Path, names: Iterable[str]) -> None:
    """Removes folders that stand below this one in the place of the suite's own files."""
    for path in (folder / name for name in names):
        if path.is_dir():
            remove(path)


def remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
