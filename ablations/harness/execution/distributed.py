"""Training a job in processes of its own, one per device, as strategies such as DDP need it.

They start the program again once per device; the program must then be this one run and nothing else:

    python -m ablations.harness.execution.distributed FILE
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ablations.harness import runtime
from ablations.harness.command.command_line import WrongInput
from ablations.harness.execution.job import Job, read, write
from ablations.harness.store.runs import outcome
from ablations.harness.tracking import lineage
from ablations.harness.tracking.tracking import tracker
from ablations.harness.training.callbacks import Diverged
from ablations.harness.training.train import train

DIVERGED, INTERRUPTED = 3, 130  # exit codes; the folder says the rest


def num_processes(trainer: Mapping[str, Any]) -> int:
    """Devices times nodes that the trainer's options ask for; `auto` and -1 are all GPUs there are."""
    devices = trainer.get("devices", 1)
    if devices in ("auto", -1):
        devices = max(1, torch.cuda.device_count()) if trainer.get("accelerator") != "cpu" else 1
    elif isinstance(devices, str | list):
        devices = len(devices if isinstance(devices, list) else devices.split(","))
    if trainer.get("accelerator") in ("gpu", "cuda") and devices > torch.cuda.device_count():
        raise WrongInput(f"--trainer.devices {devices}: this machine has {torch.cuda.device_count()} GPUs")
    return int(devices) * int(trainer.get("num_nodes", 1))


def in_one_process(trainer: Mapping[str, Any]) -> bool:
    """Whether a run needs no processes of its own."""
    return num_processes(trainer) == 1 and not str(trainer.get("strategy", "auto")).startswith("ddp")


def train_in_processes(job: Job, out: Path, tracked: dict[str, Any]) -> None:
    """Trains the job's run below `out`; tracked: what the tracker is told of it.

    Raises KeyboardInterrupt, and OSError if the processes end without an outcome.
    """
    folder = job.run.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    write(job, folder / "job.json", train_in=str(out), tracked=tracked)
    command = [sys.executable, "-m", "ablations.harness.execution.distributed", str(folder / "job.json")]
    # What is imported here is imported there: `-m` alone puts the current folder first, with what lies in it.
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    code = subprocess.run(command, check=False, env={**os.environ, **paths}).returncode
    if outcome(folder) is None and code in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if outcome(folder) is None:
        raise OSError(f"run {job.run.name} ended with exit code {code}; its messages stand above")


def main(file: Path) -> None:
    """Trains the run of the job that the file holds, in this process for one device of several."""
    said = json.loads(file.read_text(encoding="utf-8"))
    job, out = read(said["job"]), Path(said["train_in"])
    runtime.quiet()
    runtime.keep_freed_memory()
    logger = tracker(job.out, job.wandb, **said["tracked"])
    exit_code = 1
    try:
        train(job.run, job.data, out, logger, job.label, sys.stderr.isatty(), job.snapshots)
        if logger is not None and job.wandb_weights and out == job.out:  # else it moves when it is complete
            logger.log_output(lineage.model(job.run.folder(out)))
        exit_code = 0
    except Diverged:
        exit_code = 0  # the run has ended
        raise SystemExit(DIVERGED) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        if logger is not None:
            logger.finish(exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
