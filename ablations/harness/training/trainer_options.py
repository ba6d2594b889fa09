"""Which options of lightning.Trainer a run may have: those that are refused say why, and values that only fail, or do
nothing, after the start are found before it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_LENGTH = "the recipe says how long a run trains; --budget chooses among plans"
REFUSED = {
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps"), _LENGTH),
    "max_time": "a run would depend on the clock; " + _LENGTH,
    "fast_dev_run": "it leaves nothing to judge; --budget smoke proves the machinery",
    "overfit_batches": "it validates on what it trains on; limit_train_batches trains on less",
    "num_sanity_val_steps": "a run starts with training",
    "limit_predict_batches": "nothing is predicted",
    "logger": "metrics go to files and to Weights & Biases, see --wandb",
    "callbacks": "a run has those that it needs",
    "enable_checkpointing": "a run always keeps the checkpoint that it resumes from",
    "barebones": "it keeps no checkpoint to resume from",
    "use_distributed_sampler": "the data give each process its own share",
    "reload_dataloaders_every_n_epochs": "the images are in memory",
    "plugins": "they are objects of Python, which no word names",
    "enable_autolog_hparams": "the Trainer has no logger here",
    "model_registry": "weights stay in files; --wandb-weights sends them",
}
"""Option -> why no run may have it. All others are flags, and part of a run's identity unless they only say where to
compute (`runs.EXECUTION_OPTIONS`)."""

BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
MOST_DEVICES = 1024


def add(parser: Any) -> None:
    """Adds `--trainer.OPTION` for every option that is not refused."""
    from lightning import Trainer

    parser.add_class_arguments(Trainer, "trainer", skip={*REFUSED, *BATCHES})
    for name in BATCHES:  # declared as float before int there, by which 1 batch becomes 1.0, all of them
        parser.add_argument(
            f"--trainer.{name}",
            type=int | float | None,
            default=None,
            help="a number of batches, or a fraction of them as a decimal number: 1 is one batch, 1.0 all",
        )


def devices(value: Any) -> Any:
    """A number of devices as a number, indices as a list, "auto" as it is; raises ValueError for another value."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*,?", value):
        value = [int(index) for index in value.split(",") if index]
    number = value if isinstance(value, int) else len(value)
    if value != "auto" and value != -1 and (isinstance(value, str) or not 1 <= number <= MOST_DEVICES):
        raise ValueError(f"--trainer.devices {value}: give a number of devices, a list of indices, -1 or auto")
    return value


def check(options: Mapping[str, Any]) -> None:
    """Raises ValueError for values that Lightning refuses, or with which a run would fail or do nothing."""
    for name in ("accelerator", "strategy", "profiler"):
        if not isinstance(options.get(name, ""), str):
            raise ValueError(f"--trainer.{name}: give a word; objects of Python are not taken")
    strategy = options.get("strategy", "auto")
    if strategy.endswith(("_spawn", "_fork", "_notebook")):  # what a run has seen would stay in their processes
        raise ValueError(f"--trainer.strategy {strategy}: give one that starts programs, such as ddp")
    if strategy.startswith(("fsdp", "deepspeed", "model_parallel")):
        raise ValueError(
            f"--trainer.strategy {strategy}: it leaves weights in parts; give one that does not, such as ddp"
        )
    nodes = options.get("num_nodes", 1)
    if nodes != 1:
        raise ValueError(f"--trainer.num_nodes {nodes}: one machine at a time; --trainer.devices uses its devices")
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        value = options.get(name, 1)
        if value is not None and value < 1:
            raise ValueError(f"--trainer.{name} {value}: give 1 or more")
    if not options.get("log_every_n_steps", 0) >= 0:
        raise ValueError(f"--trainer.log_every_n_steps {options['log_every_n_steps']}: give 0 or more")
    interval = options.get("val_check_interval", 1.0)
    if not isinstance(interval, int | float):  # after a time, a run would depend on the clock
        raise ValueError(
            f"--trainer.val_check_interval {interval}: give a number of batches, or a fraction of an epoch"
        )
    if not interval > 0:
        raise ValueError(f"--trainer.val_check_interval {interval}: give 1 or more batches, or a fraction above 0")
    clip = options.get("gradient_clip_val")
    if clip is not None and not 0 < clip < math.inf:
        raise ValueError(f"--trainer.gradient_clip_val {clip}: give a number above 0, or leave it out")
    if clip is None and "gradient_clip_algorithm" in options:
        raise ValueError(
            "--trainer.gradient_clip_algorithm goes with --trainer.gradient_clip_val, the largest norm or value"
        )
    for name in ("limit_train_batches", "limit_test_batches"):
        if options.get(name) == 0:
            raise ValueError(f"--trainer.{name} {options[name]}: give 1 or more batches, or a fraction above 0")
    _try(options)


def _try(options: Mapping[str, Any]) -> None:
    import lightning
    import torch

    if options.get("sync_batchnorm") and (options.get("accelerator") == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--trainer.sync_batchnorm: torch has it for GPUs alone")
    quietly = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    try:
        lightning.Trainer(**{"devices": 1, **options, **quietly})
    except Exception as error:  # Lightning has several classes for it
        raise ValueError(f"--trainer.*: {error}") from None


def train_batches(options: Mapping[str, Any], there_are: int) -> int:
    """Batches of an epoch that are trained on, of so many: a whole number limits them, a float is a share."""
    limit = options.get("limit_train_batches")
    if limit is None:
        return there_are
    return min(there_are, limit) if isinstance(limit, int) else int(there_are * limit)


def check_batches(options: Mapping[str, Any], train: int, val: int, test: int) -> None:
    """Raises ValueError for a part of so many batches an epoch that is less than one, or more than there are.

    train, val, test: batches of each process.
    """
    for name, there_are in zip(BATCHES, (train, val, test), strict=True):
        part = options.get(name)
        if isinstance(part, float) and part > 0 and there_are and int(part * there_are) < 1:
            raise ValueError(f"--trainer.{name} {part}: less than one of {there_are} batches; give a number of batches")
    train = train_batches(options, train)
    for name in ("accumulate_grad_batches", "val_check_interval"):
        number = options.get(name, 1)
        across = name == "val_check_interval" and options.get("check_val_every_n_epoch", 1) is None
        if isinstance(number, int) and number > train and not across:
            raise ValueError(f"--trainer.{name} {number}: an epoch has {train} batches; give 1 to {train}")
