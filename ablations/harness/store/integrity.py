"""Whether files still are what was written: sizes and digests are noted at the end and compared before a file is used.

Nothing is hashed twice while it stays as it is. What is not noted yet is checked as far as its own format goes: the
header of weights, the checksums in an archive.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")
Notes = Mapping[str, Mapping[str, Any]]  # name below a folder -> bytes, sha256


def remembered(look: Callable[[Path], Found]) -> Callable[[Path], Found]:
    """A look at a file that is looked up where this process has looked before and the file was not written since."""
    once = cache(lambda file, _state: look(file))

    @wraps(look)
    def looked(file: Path) -> Found:
        state = file.stat()
        return once(file, (state.st_ino, state.st_size, state.st_mtime_ns))

    return looked


def digest(value: object) -> str:
    """Eight hexadecimal digits of a plain value, the same in every process."""
    text = json.dumps(value, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values with a `digest` of themselves, by which `read_sealed` knows that none has changed."""
    return {**content, "digest": digest(content)}


def read_sealed(file: Path) -> dict[str, Any]:
    """The values of a JSON file, sealed or without a digest and notes, as config.json.

    Raises FileNotFoundError without a file and ValueError, in a few words, for a damaged one.
    """
    try:
        if stat.S_ISFIFO(file.stat().st_mode):
            raise ValueError("a pipe, which would be waited for")
        return dict(_read_sealed(file))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError):  # also a link to itself, a file where its folder should be
        raise ValueError(f"{file.name} is damaged") from None


@remembered
def _read_sealed(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    content = {key: value for key, value in found.items() if key != "digest"}
    if ("digest" in found or "files" in found) and found.get("digest") != digest(content):
        raise ValueError("changed since it was written")
    return found


def noted(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and digest of the files, which lie below the folder, by their names there."""
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
    }


def note(content: bytes) -> dict[str, Any]:
    """Size and digest of what is about to be written."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def changed(folder: Path, notes: Notes, contents: bool = True) -> str:
    """What is wrong with the first file that is not as noted, in a few words; "" if all are.

    contents: digests too, and not sizes alone.
    """
    for name, note in notes.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        size = file.stat().st_size
        if size != note["bytes"]:
            return f"{name} has {size} bytes, {note['bytes']} were written"
        if contents and sha256(file) != note["sha256"]:
            return f"{name} has changed since it was written"
    return ""


@remembered
def sha256(file: Path) -> str:
    """Digest of the file's contents, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@remembered
def weights_open(file: Path) -> bool:
    """Whether the file is safetensors of the size that its header gives; the values are not looked at."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def archive_is_whole(file: Path) -> bool:
    """Whether every member of a zip file, as .npz and checkpoints of torch are, agrees with its checksum."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except Exception:  # damage can make the reader stumble anywhere
        return False
