"""What a kill would leave: a picture of a folder before each operation on its files, and with half of what was written.

Nothing is cleaned up in a picture, as no `finally` is reached after a kill -9, and what Python still holds in its
buffers is not there.
"""

import hashlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

OPERATIONS = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.link": 2}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_watching = []


class State(NamedTuple):
    """A folder's content just before an operation; half: the file written last, if but half of it is there."""

    operation: str
    name: str
    half: str
    content: dict[str, bytes | None]  # None for a folder


@contextmanager
def states_of(folder, patch):
    """Collects the states of the folder, each once, while the block changes its files."""
    import modules.weights

    found, seen = [], set()
    pending = []

    def record(operation, name):
        content = {
            path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))
        }
        cut = [(name, content[name]) for name in pending if content.get(name)]
        pending.clear()
        halves = [(written, {**content, written: whole[: len(whole) // 2]}) for written, whole in cut]
        for half, each in (("", content), *halves):
            key = hashlib.sha256(repr(sorted(each.items())).encode()).digest()
            if key not in seen:
                seen.add(key)
                found.append(State(operation, name, half, each))

    def relative(path):
        try:
            return Path(os.fsdecode(path)).absolute().relative_to(folder).as_posix()
        except (TypeError, ValueError):
            return None

    def hear(event, arguments):
        if event == "open":
            path, _, flags = arguments
            names = [relative(path)] if not isinstance(path, int) and (flags or 0) & WRITING else []
        elif event in OPERATIONS:
            names = [relative(path) for path in arguments[: OPERATIONS[event]]]
            if event in ("os.remove", "os.rmdir") and arguments[-1] != -1:  # below an open folder: shutil.rmtree
                names = [os.fsdecode(arguments[0])]
        else:
            return
        inside = [name for name in names if name is not None]
        if inside:
            record(event, inside[-1])
            if event == "open":
                pending.extend(inside)

    flush, save = os.fsync, modules.weights.save_file

    def flushing(number):
        record("os.fsync", "")
        flush(number)

    def saving(tensors, path, *more):  # not written by Python, so that nobody hears of it
        record("save_file", relative(path))
        save(tensors, path, *more)
        pending.append(relative(path))

    patch.setattr(os, "fsync", flushing)
    patch.setattr(modules.weights, "save_file", saving)
    if not _watching:
        sys.addaudithook(_hear)
    _watching.append(hear)
    try:
        yield found
    finally:
        _watching[-1] = None
        record("end", "")


def _hear(event, arguments):
    """The hook itself cannot be taken away again."""
    if _watching and _watching[-1] is not None:
        hear, _watching[-1] = _watching[-1], None  # not while it reads the files
        try:
            hear(event, arguments)
        finally:
            _watching[-1] = hear


def put_back(content, folder):
    """Makes the folder what it was in a state."""
    for name, data in sorted(content.items()):
        path = folder / name
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
