"""One run: from a `Run` and its data to a folder with metrics, weights and `done`.

The folder is the state. `last.ckpt` is replaced at the end of every epoch, `done` is written last; a run that was
killed goes on after its last finished epoch and ends with the same weights, to the last bit on a CPU, because the order
of samples, augmentation and dropout are functions of (seed, epoch) or (seed, step) alone.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger
from tqdm import tqdm

from ablations.harness import runtime
from ablations.harness.store.files import atomic_write_text, write_json
from ablations.harness.store.integrity import noted, sealed
from ablations.harness.store.runs import CHECKPOINT, CONFIG, TABLE, WEIGHTS, Run, snapshot_files
from ablations.harness.training.callbacks import (
    Diverged,
    DrawsByStep,
    History,
    Snapshots,
    StopsOnCtrlC,
    StopsOnNan,
    as_csv,
)
from ablations.harness.training.lengths import epochs_between_validations, steps
from ablations.harness.training.step_losses import StepLosses
from ablations.harness.training.transformer_watch import watches
from datamodules.augment import Augment
from datamodules.images import ImageData
from modules.blocks.cost import cost
from modules.training.lightning_network import LightningNetwork
from modules.training.tasks import lightning_network
from modules.weights import save_weights

# Compiling takes 30 to 60 s on a CPU and halves a step at best: worth it from about seven epochs of CIFAR-10 on
# ResNet-20. Decided from the size of the work, not from a clock, so that a resumed run decides alike.
COMPILE_FROM_MULTIPLY_ADDS = 1.3e13


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


def _module(run: Run) -> LightningNetwork:
    identity = run.identity()
    sizes = (run.data["num_classes"], run.data["in_channels"])
    # Lists, because a checkpoint is read with weights_only=True and holds plain values.
    return lightning_network(run.network, dict(run.arguments), json.loads(json.dumps(identity["recipe"])), *sizes)


def train(
    run: Run,
    data: ImageData,
    out: Path,
    logger: Logger | None = None,
    label: str = "",
    show_progress: bool = True,
    snapshots: Sequence[int] = (),
) -> dict[str, Any]:
    """Trains the run, or goes on with it, tests it once with its last weights, and returns what `done` then says.

    snapshots: how many times each who wants some has the weights kept on the way, see `runs.snapshot_files`.

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
    with tqdm(
        total=steps(run), desc=label, unit="step", disable=not show_progress, leave=False, mininterval=0.5,
        position=runtime.progress_line,
    ) as bar:  # fmt: skip
        history, losses = History(folder, logger, bar), StepLosses(logger)
        stops = StopsOnCtrlC()
        kept = Snapshots(module.network, snapshot_files(folder, run.recipe.epochs, snapshots))
        watching = watches(module.network)
        trainer = lightning.Trainer(
            **{
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "check_val_every_n_epoch": epochs_between_validations(run),
                **options,
                "max_epochs": run.recipe.epochs,
                "logger": False,  # History logs, from the rows that metrics.csv holds
                "enable_checkpointing": True,
                "callbacks": [DrawsByStep(run.seed), losses, StopsOnNan(), *watching, kept, history, stops],
                "num_sanity_val_steps": 0,
            }
        )
        if trainer.is_global_zero:
            device = trainer.strategy.root_device.type
            processes = {"processes": trainer.world_size, "batch_per_process": data.batch_size // trainer.world_size}
            write_config(run, folder)
            environment = runtime.environment(device)
            write_json(folder / "environment.json", {**environment, **processes})
        if compiles(run, trainer.strategy.root_device.type):
            torch.compiler.reset()  # torch gives up silently after a few networks compiled in one process
            module.network.compile()
        checkpoint = folder / CHECKPOINT
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
                _end(folder, "diverged", where, history)
            losses.log_divergence(error.step)
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
        done["commit"] = environment.get("commit", "")
        save_weights(module.network, folder / WEIGHTS)
        done = _end(folder, "done", done, history)
    return done


def write_config(run: Run, folder: Path) -> None:
    """Writes what the run is to config.json in its folder."""
    write_json(folder / CONFIG, {**run.identity(), "name": run.name})


def _end(folder: Path, name: str, said: dict[str, Any], history: History) -> dict[str, Any]:
    """Writes the file that says how the run ended, with notes of the files that stay; returns what it says."""
    # The table again, because a kill may have come between the last checkpoint and it.
    if history.rows:
        atomic_write_text(folder / TABLE, as_csv(history.rows))
    else:
        (folder / TABLE).unlink(missing_ok=True)  # of a try whose checkpoint was lost
    kept = [*([folder / TABLE] if history.rows else []), *([folder / WEIGHTS] if name == "done" else [])]
    kept += sorted((folder / "snapshots").glob("*.safetensors"))
    said = sealed({**said, "files": noted(folder, kept)})
    write_json(folder / name, said)
    return said
