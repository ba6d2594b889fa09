"""Files written whole or not at all: a killed process leaves the old content, never half of the new."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

PAGE = "report.html"  # in the folder of an ablation
CHART = ".plotly.json"  # how the name of an interactive chart ends, beside .png and .csv


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Replace the file by `content` in one step, durable when the call returns; a folder in its place is removed.

    Raises OSError if the folder is missing or the disk is full; the old file then still stands.
    """
    path = Path(path)
    # The temporary file lies in the same folder because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
        move_into_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move_into_place(temporary: Path, path: Path) -> None:
    """Gives a complete file its name in one step; both reach the disk first, contents before name.

    Raises OSError, for a folder of that name too, which may be a user's; the old file then still stands.
    """
    _to_disk(temporary)
    os.replace(temporary, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened; here the rename itself must reach the disk
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sweep(folder: Path, below: bool = True) -> None:
    """Removes the temporary files that killed processes left in the folder, where nobody else may be writing now.

    below: in the folders below it too.
    """
    for temporary in folder.glob("**/.*.tmp" if below else ".*.tmp"):
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Replace the file by `text` in UTF-8, line ends as given; raises OSError as `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as strict JSON, indented by 2, keys in their own order.

    Raises ValueError for NaN or infinity, which JSON does not know, and TypeError for what JSON cannot hold.
    """
    atomic_write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_npz(path: str | Path, **arrays: Any) -> None:
    """Write arrays as .npz in one step, making its folder; the same arrays give the same bytes."""
    import numpy as np

    stream = io.BytesIO()
    np.savez(stream, **arrays)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, stream.getvalue())
