"""A run: one network, recipe, data and seed. Its identity is the hash of everything that can change a number."""

from __future__ import annotations

import csv
import fcntl
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ablations.harness.store.integrity import changed, digest, read_sealed, weights_open
from modules import resolve
from modules.training.recipe import Recipe

# What `--trainer.*` may say without changing what is computed, only where and how it is shown.
EXECUTION_OPTIONS = frozenset(
    [
        "accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar", "enable_model_summary",
        "log_every_n_steps", "profiler", "benchmark", "inference_mode", "detect_anomaly", "default_root_dir",
    ]
)  # fmt: skip

ENDS = ("done", "diverged")  # the files that say of a run that it has ended, and how
TABLE, WEIGHTS, CHECKPOINT, CONFIG = "metrics.csv", "weights.safetensors", "last.ckpt", "config.json"

FORMAT = 1  # raised when the code changes what a run with the same settings computes


@dataclass(frozen=True)
class Run:
    """One training run; equal identities are one run, whatever ablation, arm, device or path asked for it.

    network, arguments: as for `modules.build`. data: `ImageData.identity`. trainer: options of lightning.Trainer that
    the user gave; those that only say where to compute are not part of the identity.
    """

    network: str
    arguments: Mapping[str, Any]
    recipe: Recipe
    data: Mapping[str, Any]
    seed: int
    trainer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """Of the training arithmetic: the user's option, else the recipe's; short forms are written out."""
        given = str(self.trainer.get("precision") or self.recipe.precision)
        return {"32": "32-true", "bf16": "bf16-mixed"}.get(given, given)

    def identity(self) -> dict[str, Any]:
        """Everything that can change a number, as plain values; defaults are written out."""
        recipe = asdict(self.recipe)
        del recipe["source"]  # says where the numbers come from, is none
        if recipe["gradient_clip"] is None:  # younger than the names of many runs
            del recipe["gradient_clip"]
        sizes = {"num_classes": self.data["num_classes"], "in_channels": self.data["in_channels"]}
        options = {k: v for k, v in self.trainer.items() if k not in EXECUTION_OPTIONS}
        return {
            "format": FORMAT,
            "network": {**resolve(self.network, self.arguments), **sizes},
            "recipe": {**recipe, "precision": self.precision},
            "data": dict(self.data),
            "seed": self.seed,
            "trainer": {k: v for k, v in options.items() if k != "precision"},
        }

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits of the identity."""
        return digest(self.identity())

    @cached_property  # every record of the run asks for it
    def name(self) -> str:
        """<builder>-<data>-s<seed>-<hash>, the name of the run's folder, the same for every name of one network."""
        identity = self.identity()
        return f"{identity['network']['builder']}-{self.data['name']}-s{self.seed}-{digest(identity)}"

    def folder(self, out: Path) -> Path:
        """Where the run lies below the root of everything written."""
        return out / "trained" / self.name


def outcome(folder: Path) -> dict[str, Any] | None:
    """What a run that ended says of itself: test metrics, or the step at which it diverged.

    None before its end, and where that cannot be read: `damage` says why.
    """
    for name in ENDS:
        try:
            return {"state": name, **read_sealed(folder / name)}
        except FileNotFoundError:
            continue
        except ValueError:
            break
    return None


def is_described(folder: Path) -> bool:
    """Whether it can be read in the folder what the run is; no number needs that, people do."""
    try:
        return bool(read_sealed(folder / CONFIG))
    except (FileNotFoundError, ValueError):
        return False


def damage(folder: Path, contents: bool = False) -> str:
    """What is wrong with the files of a run that has ended, in a few words; "" if nothing is, or before its end.

    contents: weights are compared by their digest, not by their size alone. Snapshots, which not everybody needs, are
    left to `snapshot_damage`.
    """
    for name in ENDS:
        try:
            notes = read_sealed(folder / name).get("files")
        except FileNotFoundError:
            continue
        except ValueError as error:
            return str(error)
        if notes is None:
            return f"{name} is damaged"
        weights = {key: notes[key] for key in (WEIGHTS,) if key in notes}  # a run that diverged has none
        table = {key: notes[key] for key in (TABLE,) if key in notes}  # and in its first epoch no table
        return changed(folder, table) or changed(folder, weights, contents)
    return ""


def weights_noted(folder: Path) -> str:
    """The digest of the weights of a run that has ended, as noted then; "" for one that diverged."""
    notes = (outcome(folder) or {}).get("files", {})
    return str(notes[WEIGHTS]["sha256"]) if WEIGHTS in notes else ""


def epochs_of(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, one for each finished epoch; none if the run diverged in its first."""
    try:
        with (folder / TABLE).open(newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        return []


def final_loss(folder: Path) -> float | None:
    """Training loss of a run's last epoch in nats; infinite for one that diverged.

    None for one that has not ended, or whose files are damaged.
    """
    found = outcome(folder)
    if found is None or damage(folder):
        return None
    if found["state"] == "diverged":
        return math.inf
    loss = float(epochs_of(folder)[-1]["train/loss"])
    return loss if math.isfinite(loss) else math.inf


def snapshot_damage(folder: Path, files: Iterable[Path], contents: bool = False) -> str:
    """What is wrong with the first of these snapshots that is missing or damaged; "" if none is."""
    notes = (outcome(folder) or {}).get("files", {})
    for file in files:
        name = file.relative_to(folder).as_posix()
        if name in notes:
            wrong = changed(folder, {name: notes[name]}, contents)
        else:
            is_whole = file.is_file() and weights_open(file)
            wrong = "" if is_whole else f"{name} is {'damaged' if file.exists() else 'missing'}"
        if wrong:
            return wrong
    return ""


def held(run: Run, out: Path) -> AbstractContextManager[None]:
    """Keeps other processes away from the run until exit; raises OSError if one of them has it."""
    return locked(f"run {run.name}", out / ".locks" / run.name)


@contextmanager
def locked(what: str, lock: Path, wait: bool = False) -> Iterator[None]:
    """Holds a lock file until exit; if another process has it, waits for it or raises OSError that says `what`."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        try:
            # The system lets go of it when the process ends.
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise OSError(f"another process is at {what}; wait for it, or give another --out") from None
        yield


def snapshot_epochs(epochs: int, snapshots: int) -> list[int]:
    """Evenly spread epochs, ascending: first 0, untrained, last all epochs; snapshots: how many at most, 0 for none."""
    return sorted({round(index * epochs / max(1, snapshots - 1)) for index in range(snapshots)})


def snapshot_files(folder: Path, epochs: int, snapshots: Iterable[int]) -> dict[int, Path]:
    """Epoch -> file of the weights after it, for all who want so many snapshots each, see `snapshot_epochs`."""
    wanted = {epoch for number in snapshots for epoch in snapshot_epochs(epochs, number)}
    return {epoch: folder / "snapshots" / f"epoch{epoch:04d}.safetensors" for epoch in sorted(wanted)}
