"""The training loss between the ends of epochs, for who watches a long run in W&B."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from ablations.harness.store.wandb_names import DIVERGED_KEY, STEP_LOSS_KEY

EVERY, BEYOND = 50, 200  # steps


class StepLosses(Callback):
    """Logs the loss every 50 steps of a run of more than 200; metrics.csv keeps its one row an epoch.

    A row's loss is the mean over the steps since the row before and over all processes. The rows are part of the
    checkpoint, so that a resumed run, which is a W&B run of its own, shows all of them once.
    Losses stay on their device until they are looked at, which is where `StopsOnNan` waits for it anyway.
    """

    def __init__(self, logger: Logger | None) -> None:
        self.logger = logger
        self.rows: list[dict[str, float]] = []
        self.step = 0  # of the last loss
        self.shared: list[float] = []  # losses since the last row, means over the processes
        self.own: list[torch.Tensor] = []  # those after them, of this process
        self.parts: list[torch.Tensor] = []  # of a step that is not complete: batches whose gradients are accumulated

    def on_train_batch_end(self, trainer: lightning.Trainer, _: Any, outputs: Any, *__: Any) -> None:
        self.parts.append(outputs["loss"])  # already divided by the number of batches of its step
        if trainer.global_step == self.step:
            return
        self.own.append(self.parts[0] if len(self.parts) == 1 else torch.stack(self.parts).sum())
        self.parts, self.step = [], trainer.global_step
        if self.step % EVERY == 0 and trainer.estimated_stepping_batches > BEYOND:
            self._share(trainer)
            mean = math.fsum(self.shared) / len(self.shared)
            if not math.isfinite(mean):  # the run ends here, and each of these losses is told
                return
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            row = {"step": self.step, STEP_LOSS_KEY: mean, "learning_rate": rate}
            self.rows.append(row)
            self.shared = []
            self._log(row)

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._share(trainer)  # because a checkpoint follows

    def _share(self, trainer: lightning.Trainer) -> None:
        """Means over the processes, in all of them, whether or not they log."""
        if self.own:
            self.shared += trainer.strategy.reduce(torch.stack(self.own), reduce_op="mean").tolist()
            self.own = []

    def log_divergence(self, step: int) -> None:
        """Logs every loss since the last row, up to the first that is not finite (rank 0's own), and the step."""
        if self.logger is None:
            return
        losses = [*self.shared, *(loss.item() for loss in self.own)]
        for at, loss in enumerate(losses, self.step - len(losses) + 1):
            self._log({"step": at, STEP_LOSS_KEY: loss})
            if not math.isfinite(loss):
                break
        self.logger.log_metrics({DIVERGED_KEY: step}, step)

    def _log(self, row: dict[str, float]) -> None:
        if self.logger is not None:
            self.logger.log_metrics(row, int(row["step"]))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "step": self.step, "shared": self.shared}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Also logs the rows, as `History` does."""
        self.rows, self.step, self.shared = state["rows"], state["step"], state["shared"]
        for row in self.rows:
            self._log(row)
