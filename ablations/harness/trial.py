"""The trial of an ablation: train what is missing, probe it, judge the claims, leave the files of a report.

`prepare` checks everything that can be wrong before anything is trained; `Trial.carry_out` does the work, run by run,
and writes after each; killed at any moment it goes on where it was.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from tqdm import tqdm

import datamodules
from ablations.harness import external, runtime
from ablations.harness.ablation import Ablation, Arm, Claim, Plan, check
from ablations.harness.command_line import Options, WrongInput
from ablations.harness.conclusion import conclude
from ablations.harness.estimate import Estimate, count, describe, estimate, in_words
from ablations.harness.files import write_json
from ablations.harness.probing import Subject, answers_file, ask
from ablations.harness.records import Record, Records
from ablations.harness.runs import Run, outcome
from ablations.harness.runtime import say
from ablations.harness.tracking import tracker
from ablations.harness.training import INTERRUPTED, Diverged, train
from datamodules.images import ImageData
from modules import Network, build, fitted, recipe_for
from modules.recipe import with_overrides
from modules.weights import load_weights


@dataclass(frozen=True)
class Job:
    """One arm with one seed: the run that answers for it."""

    arm: Arm
    run: Run

    @property
    def label(self) -> str:
        return f"{self.arm.name} seed {self.run.seed}"


def prepare(ablation: Ablation, options: Options) -> Trial:
    """Everything that must be right before training: data, plan, arms, networks, devices, and where to write.

    Raises WrongInput, DataError or ValueError, each with one line.
    """
    runtime.quiet()
    runtime.keep_freed_memory()
    _check_writable(options.out)
    data = datamodules.load(options.data, options.data_root, download=options.download, image_size=options.image_size)
    plan = ablation.plan(options.budget, data)
    if options.seeds is not None:
        plan = replace(plan, seeds=options.seeds)
    check(ablation, plan)
    _check_trainer(options.trainer)
    if options.network is not None:
        plan = replace(plan, arms=(), seeds=1)
    names = [arm.name for arm in plan.arms]
    for name in options.arms:
        if name not in names:
            raise WrongInput(f"unknown arm {name!r}; {ablation.name} has {', '.join(names) or 'none beside --network'}")
    chosen = [arm for arm in plan.arms if not options.arms or arm.name in options.arms]
    jobs = [Job(arm, _run(arm, data, seed, options)) for seed in range(plan.seeds) for arm in chosen]
    for job in jobs[: len(chosen)]:
        _check_batch(job, data, options.trainer)
        describe(job.run)  # refuses networks that do not take the images
    stranger = external.load(options, data) if options.network is not None else None
    if stranger is not None:
        count(stranger.network, stranger.arm, data.in_channels, data.image_size)
    claims = tuple(c for c in ablation.claims if not options.claims or c.id in options.claims)
    return Trial(ablation, options, data, plan, tuple(chosen), claims, tuple(jobs), stranger)


def _check_trainer(options: dict[str, Any]) -> None:
    """Raises WrongInput for options that Lightning refuses, such as an accelerator it does not know."""
    strategy = str(options.get("strategy", ""))
    if strategy.endswith(("_spawn", "_fork", "_notebook")):  # what a run has seen would stay in their processes
        raise WrongInput(f"--trainer.strategy {strategy}: give one that starts programs, such as ddp")
    if int(options.get("num_nodes", 1)) > 1:
        raise WrongInput("--trainer.num_nodes: one machine at a time; its devices are used with --trainer.devices")
    quietly = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    try:
        lightning.Trainer(**{"devices": 1, **options, **quietly})
    except Exception as error:  # Lightning has several classes for it
        raise WrongInput(f"--trainer.*: {error}") from None


def _run(arm: Arm, data: ImageData, seed: int, options: Options) -> Run:
    recipe = with_overrides(recipe_for(arm.network), dict(arm.recipe))
    arguments = fitted(arm.network, arm.arguments, data.image_size)
    run = Run(arm.network, arguments, recipe, data.identity, seed, options.trainer)
    with_overrides(recipe, {"precision": run.precision})  # refuses a --trainer.precision that no recipe may have
    return run


def _check_batch(job: Job, data: ImageData, trainer: dict[str, Any]) -> None:
    processes = num_processes(trainer)
    batch = job.run.recipe.batch_size
    if batch % processes:
        raise WrongInput(f"arm {job.arm.name}: batch size {batch} does not divide among {processes} devices")
    if batch > len(data.train):
        raise WrongInput(f"arm {job.arm.name}: batch size {batch} exceeds the {len(data.train)} training images")


def num_processes(trainer: dict[str, Any]) -> int:
    """Devices times nodes that the options ask for; `auto` and -1 are all GPUs there are."""
    devices = trainer.get("devices", 1)
    if devices in ("auto", -1):
        devices = max(1, torch.cuda.device_count()) if trainer.get("accelerator") != "cpu" else 1
    elif isinstance(devices, str | list):
        devices = len(devices if isinstance(devices, list) else devices.split(","))
    if trainer.get("accelerator") in ("gpu", "cuda") and devices > torch.cuda.device_count():
        raise WrongInput(f"--trainer.devices {devices}: this machine has {torch.cuda.device_count()} GPUs")
    return int(devices) * int(trainer.get("num_nodes", 1))


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".write-test-{os.getpid()}"
        try:
            probe.write_bytes(b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise WrongInput(f"cannot write to --out {out}: {error.strerror}") from None
    free = shutil.disk_usage(out).free
    if free < 200 << 20:
        raise WrongInput(f"--out {out} has {free >> 20} MiB left; at least 200 MiB are needed")


@dataclass(frozen=True)
class Trial:
    """A prepared ablation: its jobs, and the network from outside if there is one."""

    ablation: Ablation
    options: Options
    data: ImageData
    plan: Plan
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    jobs: tuple[Job, ...]
    stranger: external.Stranger | None

    @property
    def folder(self) -> Path:
        """Where the ablation's files lie."""
        what = f"{self.options.budget}-{self.data.name}" if self.stranger is None else self.stranger.folder_name
        return self.options.out / "ablations" / self.ablation.name / what

    @property
    def device(self) -> torch.device:
        """Where probes run: one GPU if there is one and the options do not say otherwise."""
        cpu = self.options.trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
        return torch.device("cpu" if cpu else "cuda")

    def carry_out(self) -> bool:
        """Trains, probes, judges and reports; True if a run or the report failed. Only estimates at --dry-run."""
        estimates = self._estimates()
        left = self._tell_plan(estimates)
        if self.options.dry_run:
            return False
        started, spent = time.perf_counter(), 0.0
        records: list[Record] = []
        failures: list[str] = []
        for number, job in enumerate(self.jobs, start=1):
            expected = self._expected(job, estimates)
            try:
                rows, words = self._do(job)
                records += rows
            except Diverged as error:
                failures.append(
                    f"{job.label}: {error}; its last good checkpoint is in {job.run.folder(self.options.out)}"
                )
                records.append(self._row(job, "test", "test/top1_error", float("nan"), "%"))
                words = str(error)
            except Exception as error:
                error.add_note(f"at {job.label}, whose files are in {job.run.folder(self.options.out)}")
                raise
            spent += expected
            pace = (time.perf_counter() - started) / spent if spent else 1.0
            rest = f", about {in_words((left - spent) * pace)} left" if left - spent > 1 else ""
            say(f"[{number}/{len(self.jobs)}] {job.label}: {words}{rest}")
        if self.stranger is not None:
            records += self._ask_stranger(self.stranger)
        failed_report = conclude(self, Records(records), estimates)
        for failure in failures:
            print(f"failed: {failure}; --fresh trains it again", file=sys.stderr)
        return bool(failures) or failed_report

    # -- what is to be done, and how long it takes --------------------------------------------------------------------

    def _finished(self, job: Job) -> bool:
        return not self.options.fresh and outcome(job.run.folder(self.options.out)) is not None

    def _asked(self, job: Job) -> bool:
        kept = answers_file(self.ablation, self.plan.settings, job.run.folder(self.options.out))
        return self._finished(job) and kept.exists()

    def _estimates(self) -> dict[str, Estimate]:
        """Per arm; only arms with work left are timed, the others are only counted."""
        found = {}
        for arm in self.arms:
            jobs = [job for job in self.jobs if job.arm is arm]
            if all(self._asked(job) for job in jobs):
                counted, network = describe(jobs[0].run)
                found[arm.name] = Estimate(counted, len(network.blocks), 0.0, 0.0)
            else:
                found[arm.name] = estimate(jobs[0].run, self.data, self.device)
        return found

    def _expected(self, job: Job, estimates: dict[str, Estimate]) -> float:
        found = estimates[job.arm.name]
        seconds = 0.0 if self._finished(job) else found.training
        if not self._asked(job):
            limit = self.plan.settings.get("limit")
            images = limit if isinstance(limit, int) else len(self.data.test)
            settings = {**self.plan.settings, "arm": job.arm.name}
            seconds += found.per_image * images * self.ablation.passes(found.blocks, settings)
        return seconds

    def _tell_plan(self, estimates: dict[str, Estimate]) -> float:
        """Prints arms, costs and expected time; returns the seconds of work left."""
        settings = f"{self.options.budget} budget, {self.data.name}, {self.plan.seeds} seeds"
        say(f"{self.ablation.title} ({settings})")
        if not self.jobs:
            return 0.0
        say(f"  {'arm':<18} {'network':<16} {'blocks':>6} {'parameters':>11} {'multiply-adds':>13} {'epochs':>6}  runs")
        total = 0.0
        for arm in self.arms:
            jobs = [job for job in self.jobs if job.arm is arm]
            found = estimates[arm.name]
            trained = sum(self._finished(job) for job in jobs)
            seconds = sum(self._expected(job, estimates) for job in jobs)
            total += seconds
            runs = f"{len(jobs)} of {in_words(found.training)}" if trained < len(jobs) else f"{len(jobs)}"
            runs += f", {trained} already trained" if trained else ""
            say(
                f"  {arm.name:<18} {arm.network:<16} {found.blocks:>6} {found.cost.parameters:>11,} "
                f"{found.cost.multiply_adds / 1e6:>11.1f} M {jobs[0].run.recipe.epochs:>6}  {runs}"
            )
        say(f"  expected: {in_words(total)} on this machine, probes included; everything goes to {self.options.out}/")
        return total

    # -- one run ------------------------------------------------------------------------------------------------------

    def _row(self, job: Job, point: str, metric: str, value: float, unit: str) -> Record:
        return Record(self.ablation.name, job.arm.name, job.run.seed, point, metric, value, unit, job.run.name)

    def _do(self, job: Job) -> tuple[list[Record], str]:
        """Records of one job, trained and asked where that was not done before; raises Diverged."""
        folder = job.run.folder(self.options.out)
        if self.options.fresh and folder.exists():
            shutil.rmtree(folder)
        done = outcome(folder)
        fresh = done is None
        if done is None:
            done = self._train(job)
        if done["state"] == "diverged":
            raise Diverged(int(done["step"]), int(done["epoch"]) - 1)
        rows = [self._row(job, "test", metric, done[metric], "%") for metric in done if metric.endswith("_error")]
        rows += [self._row(job, "test", "test/loss", done["test/loss"], "nats")]
        rows += [self._row(job, "train", "seconds", done["seconds"], "s")]
        network = build(job.run.network, self.data.num_classes, self.data.in_channels, **job.run.arguments)
        load_weights(network, folder / "weights.safetensors")
        asked, started = self._asked(job), time.perf_counter()
        rows += self._ask(network, job.arm.name, job.run.seed, job.run.name, folder, job.label)
        words = f"test error {done['test/top1_error']:.2f} %"
        words += f", trained in {in_words(done['seconds'])}" if fresh else ", already trained"
        return rows, words + (", already probed" if asked else f", probed in {in_words(time.perf_counter() - started)}")

    def _train(self, job: Job) -> dict[str, Any]:
        options = self.options
        found, _ = describe(job.run)
        description: dict[str, Any] = {
            "group": self.ablation.name,
            "job_type": job.arm.name,
            "name": f"{job.arm.name}/seed={job.run.seed}",
            "tags": [self.data.name, options.budget, *(claim.id for claim in self.ablation.claims)],
            "arm": job.arm.name,
            "seed": job.run.seed,
            "claims": [claim.id for claim in self.ablation.claims],
            "data": self.data.name,
            "run": job.run.name,
            **found._asdict(),
            # W&B filters by flat names: `data` is the data's name, its identity has a name of its own.
            **{("data_identity" if key == "data" else key): value for key, value in job.run.identity().items()},
        }
        show = sys.stderr.isatty()
        if num_processes(options.trainer) == 1 and not str(options.trainer.get("strategy", "auto")).startswith("ddp"):
            logger = tracker(options.out, options.wandb, **description)
            try:
                return {"state": "done", **train(job.run, self.data, options.out, logger, job.label, show)}
            finally:
                if logger is not None:
                    logger.finish()
        return self._train_in_processes(job, description)

    def _train_in_processes(self, job: Job, description: dict[str, Any]) -> dict[str, Any]:
        """Trains in a program of its own, which a strategy such as DDP starts once per device."""
        folder = job.run.folder(self.options.out)
        folder.mkdir(parents=True, exist_ok=True)
        run = job.run
        request = {
            "run": {
                "network": run.network,
                "arguments": dict(run.arguments),
                "recipe": asdict(run.recipe),
                "seed": run.seed,
                "trainer": dict(run.trainer),
            },
            "load": {
                "name": self.options.data,
                "root": str(self.options.data_root),
                "image_size": self.options.image_size,
            },
            "out": str(self.options.out),
            "wandb": self.options.wandb,
            "tracking": description,
            "label": job.label,
        }
        write_json(folder / "request.json", request)
        command = [sys.executable, "-m", "ablations.harness.training", str(folder / "request.json")]
        code = subprocess.run(command, check=False).returncode
        done = outcome(folder)
        if done is None and code in (INTERRUPTED, -signal.SIGINT):
            raise KeyboardInterrupt
        if done is None:
            raise OSError(f"run {run.name} ended with exit code {code}; its messages stand above")
        return done

    def _ask(
        self, network: Network, arm: str, seed: int, run: str, folder: Path, label: str, **extra_settings: str
    ) -> list[Record]:
        network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        settings = {**self.plan.settings, **extra_settings}
        with tqdm(desc=f"{label}: probing", unit="pass", disable=not sys.stderr.isatty(), leave=False) as bar:
            subject = Subject(network, self.data, settings, arm, seed, self.device, bar.update)
            return list(ask(self.ablation, subject, run, folder))

    def _ask_stranger(self, stranger: external.Stranger) -> list[Record]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._ask(
            stranger.network, stranger.arm, 0, stranger.run, self.folder, stranger.arm, weights=stranger.run
        )
