"""Asking a trained network: what a probe is given, what it answers, and the file that keeps the answers."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ablations.harness.declare.ablation import Ablation
from ablations.harness.runtime import say
from ablations.harness.store.files import atomic_write_text, write_json
from ablations.harness.store.folders import make_way, remove
from ablations.harness.store.integrity import (
    archive_is_whole,
    changed,
    digest,
    note,
    noted,
    read_sealed,
    remembered,
    sealed,
)
from ablations.harness.store.records import Record, Records, as_csv, read_csv
from datamodules.images import ImageData
from modules import Network
from modules.weights import load_weights


class Measurement(NamedTuple):
    """One value that a probe measured; point: as `records.point` writes it."""

    point: str
    metric: str
    value: float
    unit: str


@dataclass(frozen=True)
class Subject:
    """A trained network with all that a probe may use.

    settings: the plan's. seed: the run's; a probe draws from generators seeded by it. on_pass: to be called after each
    pass over a batch, for the progress bar. snapshots: epoch -> weights after it, as many as the plan asks for.
    folder: where a probe may keep files while it works and for the figures. processes: how many it may use.
    """

    network: Network
    data: ImageData
    settings: Mapping[str, Any]
    arm: str
    seed: int
    device: torch.device
    on_pass: Callable[[], object] = lambda: None
    snapshots: Mapping[int, Path] = field(default_factory=dict)
    folder: Path = Path("probes")
    processes: int = 1

    def at(self, epoch: int) -> Network:
        """A copy of the network with its weights after that epoch; raises KeyError for one that was not kept."""
        network = copy.deepcopy(self.network)
        load_weights(network, self.snapshots[epoch])
        return network


def answers_file(ablation: Ablation, settings: Mapping[str, Any], arm: str, run_folder: Path) -> Path:
    """Where the answers of one arm's network to one ablation's probe lie; other settings are another file.

    By arm, because a probe may ask the baseline more than the others, and two arms may share a run.
    """
    return run_folder / "probes" / f"{ablation.name}-{digest({**settings, 'arm': arm})}.csv"


def kept_folder(ablation: Ablation, settings: Mapping[str, Any], arm: str, run_folder: Path) -> Path:
    """Where the probe keeps files beside those answers; it need not exist."""
    return answers_file(ablation, settings, arm, run_folder).with_suffix("")


def answers_damage(file: Path, weights: str = "") -> str:
    """Why answers cannot be used, in a few words; "" if they can.

    weights: digest of those that they must be of; "" where it is not known. Answers from before there were notes beside
    them are checked row by row.
    """
    try:
        beside = read_sealed(_notes(file))
    except FileNotFoundError:
        return remembered(_unreadable, file) if file.exists() else f"{file.name} is missing"
    except ValueError as error:
        return str(error)
    if weights and beside["weights"] not in ("", weights):
        return f"{file.name} is of other weights"
    return changed(file.parent, beside["files"])


def _unreadable(file: Path) -> str:
    try:
        read_csv(file)
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())
    return ""


def _notes(file: Path) -> Path:
    """What is noted of the answers lies beside them: of which weights, how many, and the digests of all files."""
    return file.with_suffix(".json")


def ask(ablation: Ablation, subject: Subject, run: str, run_folder: Path, weights: str = "") -> Records:
    """The probe's records on the subject, read from their file where the same question was asked before.

    weights: digest of the subject's. Answers that are damaged, or of other weights, are said to be and asked for again.
    """
    kept = answers_file(ablation, subject.settings, subject.arm, run_folder)
    wrong = answers_damage(kept, weights)
    if not wrong:
        return read_csv(kept)
    if kept.exists():
        say(f"  {subject.arm} seed {subject.seed}: {wrong}; asked again")
    _remove_damaged(kept, weights)
    measured: Iterable[Measurement] = ablation.probe(subject)
    rows = Records(Record(ablation.name, subject.arm, subject.seed, *m, run) for m in measured)
    kept.parent.mkdir(parents=True, exist_ok=True)
    text = as_csv(rows)
    beside = [file for file in sorted(kept.with_suffix("").rglob("*")) if file.is_file()]
    files = {kept.name: note(text.encode("utf-8")), **noted(kept.parent, beside)}
    # The notes first: answers without any are taken for those of the time before notes.
    write_json(_notes(kept), sealed({"weights": weights, "rows": len(rows), "files": files}))
    atomic_write_text(kept, text)
    return rows


def _remove_damaged(kept: Path, weights: str) -> None:
    """Removes answers, those files beside them that nobody could go on with, and at last what is noted of them."""
    folder, notes = kept.with_suffix(""), _notes(kept)
    make_way(kept.parent)
    make_way(folder)
    remove(kept)
    try:
        before = read_sealed(notes)
    except (FileNotFoundError, ValueError):
        before = {"weights": "", "files": {}}
    if weights and before["weights"] not in ("", weights):
        shutil.rmtree(folder, ignore_errors=True)
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        name = file.relative_to(kept.parent).as_posix()
        if name in before["files"]:
            bad = bool(changed(kept.parent, {name: before["files"][name]}))
        else:
            bad = file.suffix == ".npz" and not archive_is_whole(file)
        if bad:
            file.unlink()
    remove(notes)


def forget_unnoted_answers(run_folder: Path) -> None:
    """Removes all answers, and what lies beside them, of which it is not noted to which weights they belong."""
    folder = run_folder / "probes"
    kept = set()
    for notes in folder.glob("*.json"):
        with suppress(ValueError):
            if read_sealed(notes)["weights"]:
                kept.add(notes.stem)
    for path in sorted(folder.glob("*")):
        if (path.name if path.is_dir() else path.stem) in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
