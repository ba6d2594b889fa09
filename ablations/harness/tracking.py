"""Weights & Biases beside the files: offline by default, and never a reason to lose a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from ablations.harness.runtime import say

PROJECT = "cnn-ablations"


class Tracker(WandbLogger):
    """One W&B run per trained run; the first failure is told in one line and ends tracking, not training.

    group: the ablation; job_type: the arm; config also holds arm, seed, claims and data, because W&B filters by config.
    """

    def __init__(self, out: Path, mode: str, *, group: str, job_type: str, name: str, tags: list[str], **config: Any):
        self._failed = False
        super().__init__(
            name=name, save_dir=str(out), project=PROJECT, offline=mode == "offline", group=group, job_type=job_type,
            tags=tags, config=config,
        )  # fmt: skip
        self._wandb_init.pop("anonymous", None)  # Lightning passes it, wandb warns of it

    def _guard(self, action: Any, *arguments: Any, **keywords: Any) -> None:
        try:
            action(*arguments, **keywords)
        except Exception as error:  # whatever a tracker raises: the files hold the run
            if self._failed:
                return
            self._failed = True
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
            say(f"  W&B stopped ({why}); the run goes on in its files")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if not self._failed:
            self._guard(super().log_metrics, dict(metrics), step)

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """The config is given at the start; Lightning's own copy of the network's arguments is not repeated."""

    def finish(self) -> None:
        """Ends the W&B run, also after a failure, so that the next one in this process is a run of its own."""
        if self._experiment is not None:
            self._guard(self._experiment.finish)


def tracker(out: Path, mode: str, **description: Any) -> Tracker | None:
    """A tracker, or None where W&B is disabled or not installed (said in one line)."""
    if mode == "disabled":
        return None
    try:
        import wandb  # noqa: F401

        return Tracker(out, mode, **description)
    except ImportError:
        say("  W&B is not installed; the run is recorded in its files alone")
    except Exception as error:  # a broken installation must not cost a run either
        say(f"  W&B does not start ({type(error).__name__}); the run is recorded in its files alone")
    return None
