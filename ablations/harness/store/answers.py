"""The answers of a network to a probe, kept beside its run: one file for each probe with its settings, and its notes.

A file is named by the probe's name, version and settings alone, so that scripts share it; what it notes of itself says
of which weights it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablations.harness.store.files import atomic_write_text, write_json
from ablations.harness.store.folders import make_way, remove
from ablations.harness.store.integrity import (
    archive_is_whole,
    changed,
    digest,
    note,
    noted,
    read_sealed,
    sealed,
)
from ablations.harness.store.records import Records, as_csv


def answers_file(folder: Path, name: str, version: int, settings: Mapping[str, Any]) -> Path:
    """Where the answers to a probe lie in the folder of a run; other settings are another file.

    settings: plain values, all that the answers depend on besides the network and its data.
    """
    return folder / "probes" / f"{name}-{digest([version, dict(settings)])}.csv"


def kept_beside(file: Path) -> Path:
    """Where the probe keeps files beside those answers; it need not exist."""
    return file.with_suffix("")


def damage(file: Path, weights: str = "") -> str:
    """Why answers cannot be used, in a few words; "" if they can.

    weights: digest of those that they must be of; "" where it is not known.
    """
    try:
        beside = read_sealed(_notes(file))
    except FileNotFoundError:
        return f"{_notes(file).name} is missing"
    except ValueError as error:
        return str(error)
    if weights and beside["weights"] != weights:
        return f"{file.name} is of other weights"
    return changed(file.parent, beside["files"])


def _notes(file: Path) -> Path:
    """What is noted of the answers lies beside them: of which weights, how many, and the digests of all files."""
    return file.with_suffix(".json")


def keep(file: Path, rows: Records, weights: str) -> None:
    """Writes answers and what is noted of them and of the files beside them; weights: digest of those they are of."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = as_csv(rows)
    beside = [path for path in sorted(kept_beside(file).rglob("*")) if path.is_file()]
    files = {file.name: note(text.encode("utf-8")), **noted(file.parent, beside)}
    write_json(_notes(file), sealed({"weights": weights, "rows": len(rows), "files": files}))
    atomic_write_text(file, text)


def remove_damaged(file: Path, weights: str) -> None:
    """Removes answers, those files beside them that nobody could go on with, and at last what is noted of them."""
    folder, notes = kept_beside(file), _notes(file)
    make_way(file.parent)
    make_way(folder)
    remove(file)
    try:
        before = read_sealed(notes)
    except (FileNotFoundError, ValueError):
        before = {"weights": weights, "files": {}}
    if before["weights"] != weights:
        shutil.rmtree(folder, ignore_errors=True)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        name = path.relative_to(file.parent).as_posix()
        if name in before["files"]:
            bad = bool(changed(file.parent, {name: before["files"][name]}))
        else:
            bad = path.suffix == ".npz" and not archive_is_whole(path)
        if bad:
            path.unlink()
    remove(notes)


def forget_unnoted(run_folder: Path) -> None:
    """Removes all answers, and what lies beside them, of which it is not noted to which weights they belong."""
    folder = run_folder / "probes"
    kept = set()
    for notes in folder.glob("*.json"):
        with suppress(ValueError):
            read_sealed(notes)
            kept.add(notes.stem)
    for path in sorted(folder.glob("*")):
        if (path.name if path.is_dir() else path.stem) not in kept:
            remove(path)
