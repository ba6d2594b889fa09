"""Making a run whole: trained where it has not ended, trained again where what it left is damaged or not enough.

What is damaged is said in one line, and never judged.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from ablations.harness.execution.job import Job
from ablations.harness.runtime import say
from ablations.harness.store.answers import forget_unnoted
from ablations.harness.store.files import sweep
from ablations.harness.store.folders import discard, make_way, remove, replace_by
from ablations.harness.store.integrity import archive_is_whole, sha256
from ablations.harness.store.runs import CHECKPOINT, ENDS, TABLE, WEIGHTS, damage, outcome, snapshot_damage


def lack(job: Job, out: Path, contents: bool = False) -> str:
    """What the run below `out` lacks for this job, in a few words; "" for one that has ended and is whole.

    contents: weights and snapshots are compared by their digests, not by their sizes alone.
    """
    folder = job.run.folder(out)
    found, wrong = outcome(folder), damage(folder, contents)
    if wrong or found is None:
        return wrong or "the run has not ended"
    if found["state"] == "diverged":
        return ""
    return snapshot_damage(folder, job.snapshot_files(folder).values(), contents)


def make_finished(job: Job, train: Callable[[Job, Path], None]) -> None:
    """Trains the run; one that ended without the snapshots that are wanted now is trained again beside itself.

    train: trains the job's run below a folder, from its last checkpoint if there is one.
    """
    out = job.out
    folder, beside = job.run.folder(out), out / ".again"
    if job.fresh:
        discard(folder)
    if outcome(folder) is None or damage(folder, contents=True):
        _complete(job, out, train)
        return
    # What stands is replaced only when its like is complete.
    make_way(beside)
    new = job.run.folder(beside)
    sweep(new)
    if lack(job, beside, contents=True):
        _complete(job, beside, train)
    if (folder / "probes").is_dir() and sha256(folder / WEIGHTS) == sha256(new / WEIGHTS):
        # Answers of the very same network.
        shutil.copytree(folder / "probes", new / "probes", dirs_exist_ok=True)
    replace_by(folder, new)


def _complete(job: Job, out: Path, train: Callable[[Job, Path], None]) -> None:
    """Trains the run below `out` to its end, from its last checkpoint where that is whole and no snapshot is missed."""
    folder = job.run.folder(out)
    checkpoint = folder / CHECKPOINT
    wrong, passed = damage(folder, contents=True), None
    if checkpoint.exists():
        passed = _epochs(checkpoint)
        if passed is None:
            wrong = wrong or f"{CHECKPOINT} is damaged"
    wanted = job.snapshot_files(folder).items()
    behind = [file for epoch, file in wanted if passed is not None and epoch <= passed]
    if passed is None or snapshot_damage(folder, behind, contents=True):
        remove(checkpoint)
    if wrong:
        where = "from its last checkpoint" if checkpoint.exists() else "from its start"
        say(f"  {job.label}: {wrong}; trained again {where}")
    for name in ENDS:
        remove(folder / name)
    for name in (TABLE, WEIGHTS):
        if (folder / name).is_dir():  # nothing could be written in its place
            remove(folder / name)
    # Of other weights, perhaps; the rest say themselves of which they are.
    forget_unnoted(folder)
    train(job, out)


def _epochs(checkpoint: Path) -> int | None:
    """How many epochs the checkpoint has behind it; None for a damaged one."""
    if not archive_is_whole(checkpoint):  # torch does not look at the checksums
        return None
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return len(found["callbacks"]["History"]["rows"])
    except Exception:  # whatever else it is, no run of this suite goes on with it
        return None
