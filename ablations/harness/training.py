"""One run: from a `Run` and its data to a folder with metrics, weights and `done`.

The folder is the state. `last.ckpt` is replaced at the end of every epoch, `done` is written last; a run that was
killed goes on after its last finished epoch and ends with the same weights, to the last bit on a CPU, because the order
of samples, augmentation and dropout are functions of (seed, epoch) or (seed, step) alone.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import Logger
from tqdm import tqdm

from ablations.harness import runtime
from ablations.harness.files import atomic_write_text, write_json
from ablations.harness.runs import Run, snapshot_files
from ablations.harness.transformer_watch import watches
from datamodules.augment import Augment
from datamodules.images import ImageData
from modules.cost import cost
from modules.epochs import Wrapped
from modules.recipe import Recipe
from modules.weights import save_weights
from modules.wrapped import wrapped

# Compiling takes 30 to 60 s on a CPU and halves a step at best: worth it from about seven epochs of CIFAR-10 on
# ResNet-20. Decided from the size of the work, not from a clock, so that a resumed run decides alike.
COMPILE_FROM_MULTIPLY_ADDS = 1.3e13


DIVERGED, INTERRUPTED = 3, 130  # exit codes of a run in a process of its own; the folder says the rest


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

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.resumed_from = trainer.current_epoch
        self.progress.update(trainer.global_step - self.progress.n)
        if self.logger is not None:
            for row in self.rows:  # a new W&B run after a resume shows the whole history
                self.logger.log_metrics(row, int(row["step"]))

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.progress.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # A last step can ruin the weights after a finite loss: the checkpoint before it stays.
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            raise Diverged(trainer.global_step, trainer.current_epoch)
        values = {name: value.item() for name, value in trainer.callback_metrics.items()}
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
            os.replace(partial, self.folder / "last.ckpt")
            atomic_write_text(self.folder / "metrics.csv", as_csv(self.rows))
        if self.logger is not None:
            self.logger.log_metrics(row, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


def as_csv(rows: list[dict[str, float]]) -> str:
    """The rows as text, with the columns of all of them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def compiles(run: Run, device: str) -> bool:
    """Whether the run is long enough for torch.compile; random routes would be compiled anew at every draw."""
    if device != "cpu" or not runtime.compiling_pays():
        return False
    module = _module(run)
    if module.network.kept_blocks or any(block.survival_prob < 1 for _, block in module.network.every_block()):
        return False
    shape = (run.data["in_channels"], run.data["image_size"], run.data["image_size"])
    per_image = cost(module.network, shape).multiply_adds
    return per_image * run.data["num_train"] * run.recipe.epochs >= COMPILE_FROM_MULTIPLY_ADDS


def _module(run: Run) -> Wrapped:
    identity = run.identity()
    sizes = (run.data["num_classes"], run.data["in_channels"])
    # Lists, because a checkpoint is read with weights_only=True and holds plain values.
    return wrapped(run.network, dict(run.arguments), json.loads(json.dumps(identity["recipe"])), *sizes)


def train(
    run: Run,
    data: ImageData,
    out: Path,
    logger: Logger | None = None,
    label: str = "",
    show_progress: bool = True,
    snapshots: int = 0,
) -> dict[str, Any]:
    """Trains the run, or goes on with it, tests it once with its last weights, and returns what `done` then says.

    snapshots: how many times the weights are kept on the way, see `runs.snapshot_files`.

    Raises Diverged (the folder then holds `diverged` and the last good checkpoint) and KeyboardInterrupt (the folder
    holds the last finished epoch).
    """
    folder = run.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(run.seed)
    module = _module(run)
    data = copy.copy(data)  # shares the pixels
    data.augment = data.augment if run.recipe.augmentation == "usual" else Augment()
    data.seed, data.batch_size, data.trainer = run.seed, run.recipe.batch_size, None
    # No more than one device, and no Apple GPU (whose arithmetic is not repeatable), unless asked for.
    accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    options = {"devices": 1, "accelerator": accelerator, **run.trainer, "precision": run.precision}
    steps = run.recipe.epochs * (len(data.train) // run.recipe.batch_size)
    with tqdm(total=steps, desc=label, unit="step", disable=not show_progress, leave=False, mininterval=0.5) as bar:
        history = History(folder, logger, bar)
        stops = StopsOnCtrlC()
        kept = Snapshots(module.network, snapshot_files(folder, run.recipe.epochs, snapshots))
        trainer = lightning.Trainer(
            **{
                "enable_progress_bar": False,
                "enable_model_summary": False,
                **options,
                "max_epochs": run.recipe.epochs,
                "logger": False,  # History logs, from the rows that metrics.csv holds
                "enable_checkpointing": True,
                "callbacks": [DrawsByStep(run.seed), StopsOnNan(), *watches(module.network), kept, history, stops],
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
            }
        )
        if trainer.is_global_zero:
            device = trainer.strategy.root_device.type
            processes = {"processes": trainer.world_size, "batch_per_process": data.batch_size // trainer.world_size}
            write_json(folder / "config.json", {**run.identity(), "name": run.name})
            write_json(folder / "environment.json", {**runtime.environment(device), **processes})
        if compiles(run, trainer.strategy.root_device.type):
            torch.compiler.reset()  # torch gives up silently after a few networks compiled in one process
            module.network.compile()
        checkpoint = folder / "last.ckpt"
        started = time.perf_counter()
        try:
            trainer.fit(
                module, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None, weights_only=True
            )
            if trainer.interrupted:
                raise KeyboardInterrupt
            seconds = time.perf_counter() - started
            tested = dict(trainer.test(module, datamodule=data, verbose=False)[0])
            if not all(map(math.isfinite, tested.values())):
                raise Diverged(trainer.global_step, run.recipe.epochs - 1)
        except Diverged as error:
            if trainer.is_global_zero:
                where = {"step": error.step, "epoch": error.epoch + 1, "why": str(error)}
                write_json(folder / "diverged", where)
            raise
        except SystemExit as error:  # how Lightning ends what Ctrl-C interrupted
            raise KeyboardInterrupt from error
        finally:
            stops.restore()
    if logger is not None:
        logger.log_metrics(tested, trainer.global_step)
    done: dict[str, Any] = {
        **tested,
        "epochs": run.recipe.epochs,
        "seconds": sum(row["seconds"] for row in history.rows),
        "wall_seconds": seconds,
        "images_per_second": history.rows[-1]["images_per_second"],
        "resumed_from_epoch": history.resumed_from,
    }
    if trainer.is_global_zero:
        # Again, because a kill may have come between the last checkpoint and its table.
        atomic_write_text(folder / "metrics.csv", as_csv(history.rows))
        save_weights(module.network, folder / "weights.safetensors")
        write_json(folder / "done", done)
    return done


def main(request_file: Path) -> None:
    """One run in processes of its own, as `python -m ablations.harness.training FILE`.

    Strategies such as DDP start the program again once per device; the program must then be this one run and nothing
    else. The file says which run, which data and which tracker (`write_request`).
    """
    import datamodules
    from ablations.harness.tracking import tracker

    request = json.loads(request_file.read_text())
    runtime.quiet()
    runtime.keep_freed_memory()
    data = datamodules.load(**request["load"])
    if request["make"]:
        data = datamodules.make(data, **request["make"])
    recipe = Recipe(**{**request["run"]["recipe"], "milestones": tuple(request["run"]["recipe"]["milestones"])})
    run = Run(**{**request["run"], "recipe": recipe, "data": data.identity})
    out = Path(request["out"])
    logger = tracker(Path(request["tracked_in"]), request["wandb"], **request["tracking"])
    try:
        train(run, data, out, logger, request["label"], sys.stderr.isatty(), request["snapshots"])
    except Diverged:
        raise SystemExit(DIVERGED) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        if logger is not None:
            logger.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
