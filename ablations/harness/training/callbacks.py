"""What watches a training run at its steps and epochs: draws, Ctrl-C, divergence, kept weights, the table.

Lightning calls these around the LightningModule's own hooks; none changes a number of the run but `DrawsByStep`, which
makes every step's random numbers a function of (seed, step, rank).
"""

from __future__ import annotations

import csv
import io
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import Logger
from tqdm import tqdm

from ablations.harness.store.files import atomic_write_text, move_into_place
from modules.weights import save_weights


class Diverged(RuntimeError):
    """The loss is not a number any more; step: the optimiser step at which it was first seen."""

    def __init__(self, step: int, epoch: int) -> None:
        super().__init__(f"loss or weights are not finite at step {step} (epoch {epoch + 1})")
        self.step, self.epoch = step, epoch


class DrawsByStep(Callback):
    """Seeds torch before every training step by (seed, step, rank): dropout and skipped blocks survive a resume."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        key = (self.seed * 1_000_003 + trainer.global_step) * 1_009 + trainer.global_rank
        # Not torch.manual_seed, which spends half a millisecond a step on backends that are not there.
        torch.default_generator.manual_seed(key % 2**63)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(key % 2**63)


class StopsOnCtrlC(Callback):
    """Ends a run between two steps, where no library can swallow the interrupt; a second one ends it at once."""

    def __init__(self) -> None:
        self.asked = False

    def on_train_start(self, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # the only one that may hear signals
            signal.signal(signal.SIGINT, self.ask)

    def ask(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def on_train_end(self, *_: Any) -> None:
        self.restore()
        if self.asked:
            raise KeyboardInterrupt

    def restore(self) -> None:
        """Gives Ctrl-C back; also after a run that ended otherwise."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)


class StopsOnNan(Callback):
    """Ends a run whose loss is not finite, in all its processes alike.

    One process on a CPU looks at every loss; a GPU is waited for, and other processes are asked, every 50 steps only.
    """

    def __init__(self) -> None:
        self.first_bad: torch.Tensor | None = None

    def on_train_batch_end(self, trainer: lightning.Trainer, _: Any, outputs: Any, *__: Any) -> None:
        loss = outputs["loss"]
        never = torch.full_like(loss, math.inf, dtype=torch.float64)
        seen = torch.where(torch.isfinite(loss), never, torch.full_like(never, trainer.global_step))
        self.first_bad = seen if self.first_bad is None else torch.minimum(self.first_bad, seen)
        at_once = loss.device.type == "cpu" and trainer.world_size == 1
        if at_once or trainer.global_step % 50 == 0 or trainer.is_last_batch:
            step = trainer.strategy.reduce(self.first_bad, reduce_op="min").item()
            if math.isfinite(step):
                raise Diverged(int(step), trainer.current_epoch)


class Snapshots(Callback):
    """Keeps the weights after some epochs; they are part of the run, yet change no number of it."""

    def __init__(self, network: torch.nn.Module, files: dict[int, Path]) -> None:
        self.network, self.files = network, files

    def _keep(self, epoch: int, trainer: lightning.Trainer) -> None:
        if epoch in self.files and trainer.is_global_zero:
            self.files[epoch].parent.mkdir(exist_ok=True)
            save_weights(self.network, self.files[epoch])

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == 0:
            self._keep(0, trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._keep(trainer.current_epoch + 1, trainer)


class History(Checkpoint):
    """Writes metrics.csv and last.ckpt at the end of every epoch, each in one step.

    A `Checkpoint`, so that Lightning calls it after the module has logged its epoch. The rows are part of the
    checkpoint: a resumed run continues the table where the checkpoint stands, never twice.
    """

    def __init__(self, folder: Path, logger: Logger | None, progress: tqdm[Any]) -> None:
        self.folder, self.logger, self.progress = folder, logger, progress
        self.rows: list[dict[str, float]] = []
        self.started = 0.0
        self.resumed_from = 0
        self.is_validated = False

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.resumed_from = trainer.current_epoch
        self.progress.update(trainer.global_step - self.progress.n)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started, self.is_validated = time.perf_counter(), False

    def on_validation_end(self, *_: Any) -> None:
        self.is_validated = True

    def on_train_batch_end(self, *_: Any) -> None:
        self.progress.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # A last step can ruin the weights after a finite loss: the checkpoint before it stays.
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            raise Diverged(trainer.global_step, trainer.current_epoch)
        # Lightning keeps what was measured at the last validation, which need not be of this epoch.
        stale = () if self.is_validated else ("val/",)
        metrics = trainer.callback_metrics.items()
        values = {name: value.item() for name, value in metrics if not name.startswith(stale)}
        seconds = time.perf_counter() - self.started
        images = trainer.num_training_batches * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **dict(sorted(values.items())),
            "seconds": seconds,
            "images_per_second": images / seconds,
        }
        self.rows.append(row)
        self.progress.set_postfix({k: f"{v:.3g}" for k, v in values.items() if k.endswith(("loss", "top1_error"))})
        # Every process takes part in saving, rank 0 alone writes.
        partial = self.folder / ".last.ckpt.tmp"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            move_into_place(partial, self.folder / "last.ckpt")
            atomic_write_text(self.folder / "metrics.csv", as_csv(self.rows))
        if self.logger is not None:
            self.logger.log_metrics(row, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Also logs the rows: a W&B run after a resume shows the whole history, even if nothing is left to train."""
        self.rows = state["rows"]
        if self.logger is not None:
            for row in self.rows:
                self.logger.log_metrics(row, int(row["step"]))


def as_csv(rows: list[dict[str, float]]) -> str:
    """The rows as text, with the columns of all of them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
