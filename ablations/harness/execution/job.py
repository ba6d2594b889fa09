"""Carrying out one job: trained and asked where that was not done before, and what the files then say of it."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ablations.harness.command.command_line import Options, WrongInput
from ablations.harness.estimate import count, describe, in_words
from ablations.harness.execution.completion import lack, make_finished, wanted_snapshots
from ablations.harness.probing import Subject, answers_damage, answers_file, ask, kept_folder
from ablations.harness.search import final_loss
from ablations.harness.store.files import sweep, write_json
from ablations.harness.store.folders import is_settled, make_way_for_files, settle
from ablations.harness.store.integrity import sha256
from ablations.harness.store.records import Record, point, read_csv
from ablations.harness.store.runs import TABLE, WEIGHTS, held, is_described, outcome, weights_noted
from ablations.harness.store.wandb_names import PROBE, TRAIN
from ablations.harness.tracking.tracking import (
    Tracker,
    description,
    lineage,
    log_answers,
    new_id,
    remember_training,
    tracker,
    trained_by,
)
from ablations.harness.training.callbacks import Diverged
from ablations.harness.training.train import INTERRUPTED, train, write_config
from ablations.harness.trial import Job, Trial
from datamodules.images import ImageData
from modules import ARCHITECTURES, Network, build
from modules.weights import load_weights

UNITS = {"error": "%", "loss": "nats", "seconds": "s", "outside": "%", "blank": "%", "folded": "%"}


class Answer(NamedTuple):
    """What became of a job: its records, a few words for the user, and why it failed ("" if it did not)."""

    rows: list[Record]
    words: str
    failure: str = ""


def is_finished(trial: Trial, job: Job) -> bool:
    """Whether the run has ended, with the snapshots that this trial's probe needs, and nothing of it is damaged."""
    return not trial.options.fresh and not lack(trial, job, trial.options.out)


def is_asked(trial: Trial, job: Job) -> bool:
    """Whether the probe's answers are there too."""
    if trial.searching or not is_finished(trial, job):  # candidates are trained and nothing else
        return is_finished(trial, job)
    folder = job.run.folder(trial.options.out)
    kept = answers_file(trial.ablation, trial.plan.settings, job.arm.name, folder)
    return kept.exists() and not answers_damage(kept, weights_noted(folder))


def carry_out(trial: Trial, job: Job) -> Answer:
    """Trains and asks the job's network where that was not done before; a run that diverges is an answer too.

    Raises OSError if another process has the run.
    """
    folder = job.run.folder(trial.options.out)
    if is_asked(trial, job) and is_settled(folder) and is_described(folder):
        answer = _as_it_stands(trial, job)
        if answer is not None:
            return answer
    with held(job.run, trial.options.out):
        settle(folder)
        sweep(folder)
        make_way_for_files(folder, ("config.json", "environment.json", "request.json"))
        answer = _carry_out(trial, job, is_finished(trial, job), is_asked(trial, job))
        if not is_described(folder):
            write_config(job.run, folder)
        return answer


def _as_it_stands(trial: Trial, job: Job) -> Answer | None:
    """The answer of a job that was asked, only read, without the lock; None if another process changes it meanwhile."""
    folder = job.run.folder(trial.options.out)
    before = outcome(folder)
    try:
        answer = _carry_out(trial, job, was_finished=True, was_asked=True)
    except Exception:  # a file is gone; whatever else it may be is met again under the lock
        return None
    return answer if outcome(folder) == before and is_asked(trial, job) else None


def _carry_out(trial: Trial, job: Job, was_finished: bool, was_asked: bool) -> Answer:
    """Trains unless it was finished and asks unless it was asked; both need the lock of the run, reading does not."""
    folder = job.run.folder(trial.options.out)
    tracked: Tracker | None = None  # of a network that is trained now, for its answers too
    try:
        # Weights are read, and so compared with what was written, only where somebody asks them.
        if was_finished and not was_asked:
            was_finished = not lack(trial, job, trial.options.out, contents=True)
        if not was_finished:

            def keep(*of: Any) -> None:
                nonlocal tracked
                tracked = _train(*of)

            make_finished(trial, job, keep)
            if tracked is not None and trial.options.wandb_weights:
                tracked.log_output(lineage.model(folder))
        done = outcome(folder) or {}
        if done["state"] == "diverged":
            raise Diverged(int(done["step"]), int(done["epoch"]) - 1)
        if trial.searching:
            return Answer([], f"training loss {final_loss(folder):.3g}" + (", already trained" if was_finished else ""))
        rows = list(_rows(trial, job, done))
        started = time.perf_counter()
        if was_asked:
            rows += read_csv(answers_file(trial.ablation, trial.plan.settings, job.arm.name, folder))
        else:
            data = trial.data_of(job.arm)
            network = build(job.run.network, data.num_classes, data.in_channels, **job.run.arguments)
            load_weights(network, folder / WEIGHTS)
            rows += question(
                trial, network, data, job.arm.name, job.run.seed, job.run.name, folder, job.label,
                wanted_snapshots(trial, job, folder), sha256(folder / WEIGHTS), tracked,
            )  # fmt: skip
    except Diverged as error:
        if trial.searching:
            return Answer([], str(error))
        rows = [*_curves(trial, job), _row(trial, job, "test", "test/top1_error", float("nan"), "%")]
        rows.append(_row(trial, job, "diverged", "step", error.step, ""))
        where = job.run.folder(trial.options.out)
        return Answer(rows, str(error), f"{job.label}: {error}; its last good checkpoint, if any, is in {where}")
    except Exception as error:
        error.add_note(f"at {job.label}, whose files are in {folder}")
        raise
    finally:
        if tracked is not None:
            tracked.finish()
    error_name = next(metric for metric in done if metric.endswith("_error"))
    named = "test error" if error_name == "test/top1_error" else re.sub("[/_]", " ", error_name)
    words = f"{named} {done[error_name]:.2f} %"
    words += ", already trained" if was_finished else f", trained in {in_words(done['seconds'])}"
    words += ", already probed" if was_asked else f", probed in {in_words(time.perf_counter() - started)}"
    return Answer(rows, words)


def question(
    trial: Trial,
    network: Network,
    data: ImageData,
    arm: str,
    seed: int,
    run: str,
    folder: Path,
    label: str,
    snapshots: dict[int, Path] | None = None,
    weights_digest: str = "",
    tracked: Tracker | None = None,
    **extra_settings: Any,
) -> list[Record]:
    """The records of the ablation's probe on one network, asked with `data`; weights_digest: as for `ask`.

    tracked: the W&B run that trained it, if that goes on; else new answers are a W&B run that names it.
    """
    network = network.to(trial.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    settings = {**trial.plan.settings, **extra_settings}
    asked_before = not answers_damage(answers_file(trial.ablation, settings, arm, folder), weights_digest)
    with tqdm(desc=f"{label}: probing", unit="pass", disable=not sys.stderr.isatty(), leave=False) as bar:
        subject = Subject(
            network, data, settings, arm, seed, trial.device, bar.update, snapshots or {},
            kept_folder(trial.ablation, settings, arm, folder), trial.options.workers or 1,
        )  # fmt: skip
        rows = list(ask(trial.ablation, subject, run, folder, weights_digest))
    if rows and not asked_before:
        epochs = _table(folder)  # none for a network that was not trained here
        step = int(epochs[-1]["step"]) if epochs else 0
        if tracked is not None:
            log_answers(tracked, rows, step)
            return rows
        counted = count(network, arm, data.in_channels, data.image_size)
        described = description(trial, PROBE, arm, seed, run, counted)
        described |= {"train_run": trained_by(trial.options.out, run), "inputs": [lineage.dataset(data.identity)]}
        if trial.options.wandb_weights and epochs:
            described["inputs"].append(lineage.model(folder))
        own = tracker(trial.options.out, trial.options.wandb, **described)
        if own is not None:
            log_answers(own, rows, step)
            own.finish()
    return rows


def _row(trial: Trial, job: Job, where: str, metric: str, value: float, unit: str) -> Record:
    return Record(trial.ablation.name, job.arm.name, job.run.seed, where, metric, value, unit, job.run.name)


def _rows(trial: Trial, job: Job, done: dict[str, Any]) -> Iterator[Record]:
    for metric, value in done.items():
        if metric.startswith("test/"):
            yield _row(trial, job, "test", metric, value, _unit(metric, job.run.network))
    yield _row(trial, job, "train", "seconds", done["seconds"], "s")
    yield from _curves(trial, job)


def _curves(trial: Trial, job: Job) -> Iterator[Record]:
    """The training curves that the run's table holds: one row for each epoch and metric."""
    for line in _table(job.run.folder(trial.options.out)):
        for metric, value in line.items():
            if value and (metric.startswith(("train/", "val/")) or metric == "seconds"):
                yield _row(
                    trial,
                    job,
                    point("epoch", epoch=int(line["epoch"])),
                    metric,
                    float(value),
                    _unit(metric, job.run.network),
                )


def _table(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, one for each finished epoch; none if the run diverged in its first."""
    try:
        with (folder / TABLE).open(newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        return []


def _unit(metric: str, network: str) -> str:
    if metric.endswith("loss") and ARCHITECTURES[network].task == "localise":
        return ""  # of squared distances
    return next((unit for word, unit in UNITS.items() if metric.endswith(word)), "")


def num_processes(options: dict[str, Any]) -> int:
    """Devices times nodes that the trainer's options ask for; `auto` and -1 are all GPUs there are."""
    devices = options.get("devices", 1)
    if devices in ("auto", -1):
        devices = max(1, torch.cuda.device_count()) if options.get("accelerator") != "cpu" else 1
    elif isinstance(devices, str | list):
        devices = len(devices if isinstance(devices, list) else devices.split(","))
    if options.get("accelerator") in ("gpu", "cuda") and devices > torch.cuda.device_count():
        raise WrongInput(f"--trainer.devices {devices}: this machine has {torch.cuda.device_count()} GPUs")
    return int(devices) * int(options.get("num_nodes", 1))


def in_one_process(options: Options) -> bool:
    """Whether a run needs no processes of its own."""
    return num_processes(options.trainer) == 1 and not str(options.trainer.get("strategy", "auto")).startswith("ddp")


def _train(trial: Trial, job: Job, out: Path) -> Tracker | None:
    """Trains below `out`; a tracked run is kept with all others, and returned unfinished if it is this process's."""
    options, data = trial.options, trial.data_of(job.arm)
    found, _ = describe(job.run)
    described = description(trial, TRAIN, job.arm.name, job.run.seed, job.run.name, found)
    run_id = new_id(trial.ablation.name)
    described |= {"run_id": run_id, "inputs": [lineage.dataset(data.identity)]}
    if job.candidate is not None:
        described |= {"name": f"{job.arm.name}/candidate={job.candidate}", "candidate": job.candidate}
        described["tags"].append("candidate")
    # W&B filters by flat names: `data` is the data's name, its identity has a name of its own.
    described |= {("data_identity" if key == "data" else key): value for key, value in job.run.identity().items()}
    if not in_one_process(options):
        try:
            _train_in_processes(trial, job, out, described)
        finally:
            remember_training(options.out, job.run.name, run_id)
        return None
    logger = tracker(options.out, options.wandb, **described)
    try:
        train(job.run, data, out, logger, job.label, sys.stderr.isatty(), trial.num_snapshots(job.arm))
    except BaseException as error:
        if logger is not None:
            logger.finish(exit_code=0 if isinstance(error, Diverged) else 1)
        raise
    finally:
        remember_training(options.out, job.run.name, run_id)
    return logger


def _train_in_processes(trial: Trial, job: Job, out: Path, described: dict[str, Any]) -> None:
    """Trains in a program of its own, which a strategy such as DDP starts once per device."""
    folder, run, options = job.run.folder(out), job.run, trial.options
    folder.mkdir(parents=True, exist_ok=True)
    request = {
        "run": {
            "network": run.network,
            "arguments": dict(run.arguments),
            "recipe": asdict(run.recipe),
            "seed": run.seed,
            "trainer": dict(run.trainer),
        },
        "make": dict(job.arm.data),
        "load": {"name": options.data, "root": str(options.data_root), "image_size": options.image_size},
        "out": str(out),
        "tracked_in": str(options.out),
        "wandb": options.wandb,
        "tracking": described,
        "log_model": options.wandb_weights and out == options.out,  # else it moves when it is complete
        "label": job.label,
        "snapshots": trial.num_snapshots(job.arm),
    }
    write_json(folder / "request.json", request)
    command = [sys.executable, "-m", "ablations.harness.training.train", str(folder / "request.json")]
    # What is imported here is imported there: `-m` alone puts the current folder first, with what lies in it.
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    code = subprocess.run(command, check=False, env={**os.environ, **paths}).returncode
    if outcome(folder) is None and code in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if outcome(folder) is None:
        raise OSError(f"run {run.name} ended with exit code {code}; its messages stand above")
