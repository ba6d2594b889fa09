"""A run: one network, recipe, data and seed. Its identity is the hash of everything that can change a number."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modules import resolve
from modules.recipe import Recipe

# What `--trainer.*` may say without changing what is computed, only where and how it is shown.
EXECUTION_OPTIONS = frozenset(
    [
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "enable_progress_bar",
        "enable_model_summary",
        "log_every_n_steps",
        "profiler",
        "barebones",
        "benchmark",
        "inference_mode",
        "detect_anomaly",
        "default_root_dir",
        "plugins",
    ]
)

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

    @property
    def name(self) -> str:
        """<builder>-<data>-s<seed>-<hash>, the name of the run's folder, the same for every name of one network."""
        identity = self.identity()
        return f"{identity['network']['builder']}-{self.data['name']}-s{self.seed}-{digest(identity)}"

    def folder(self, out: Path) -> Path:
        """Where the run lies below the root of everything written."""
        return out / "trained" / self.name


def digest(value: object) -> str:
    """Eight hexadecimal digits of a plain value, the same in every process."""
    text = json.dumps(value, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def outcome(folder: Path) -> dict[str, Any] | None:
    """What a run that ended says of itself: test metrics, or the step at which it diverged; None before its end."""
    for name in ("done", "diverged"):
        try:
            return {"state": name, **json.loads((folder / name).read_text())}
        except FileNotFoundError:
            continue
    return None


@contextmanager
def held(run: Run, out: Path) -> Iterator[None]:
    """Keeps other processes away from the run until exit; raises OSError if one of them has it."""
    lock = out / ".locks" / run.name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends
        except BlockingIOError:
            raise OSError(f"another process is at run {run.name}; wait for it, or give another --out") from None
        yield


def snapshot_files(folder: Path, epochs: int, snapshots: int) -> dict[int, Path]:
    """Epoch -> file of the weights after it, for evenly spread epochs: first 0, untrained, last all epochs.

    snapshots: how many at most; 0 for none.
    """
    spread = {round(index * epochs / max(1, snapshots - 1)) for index in range(snapshots)}
    return {epoch: folder / "snapshots" / f"epoch{epoch:04d}.safetensors" for epoch in sorted(spread)}
