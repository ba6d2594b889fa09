"""Everything that can be wrong is found here before training: data, plan, arms, networks, devices and --out."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datamodules
from ablations.harness import runtime
from ablations.harness.command.command_line import Options, WrongInput
from ablations.harness.declare import precision, scale
from ablations.harness.declare.ablation import Ablation, Arm, Plan, check, declaration
from ablations.harness.estimate import count, describe
from ablations.harness.execution.job import in_one_process, num_processes
from ablations.harness.foreign import network as external
from ablations.harness.search import SEED, Search, drawn, final_loss, searchable
from ablations.harness.store.runs import Run
from ablations.harness.training import trainer_options
from ablations.harness.trial import Job, Trial, data_key
from datamodules.images import EVALUATION_BATCH_SIZE, ImageData
from modules import fitted, recipe_for
from modules.training.recipe import with_overrides


def prepare(ablation: Ablation, options: Options, searching: bool = False) -> Trial:
    """Everything that must be right before training: data, plan, arms, networks, devices, and where to write.

    searching: the trial is that of the candidates of `--search`, not that of the arms.

    Raises WrongInput, DataError or ValueError, each with one line.
    """
    runtime.quiet()
    runtime.keep_freed_memory()
    _check_writable(options.out)
    data = datamodules.load(options.data, options.data_root, download=options.download, image_size=options.image_size)
    bf16_is_fast = options.bf16_is_fast
    if bf16_is_fast is None:
        bf16_is_fast = precision.bf16_is_fast(options.trainer)
        options = replace(options, bf16_is_fast=bf16_is_fast)  # for the processes that prepare the same trial
    wished = ablation.plan(options.budget, data)
    plan = precision.granted(wished, bf16_is_fast)
    if options.seeds is not None:
        plan = replace(plan, seeds=options.seeds)
    plan = replace(plan, settings={**plan.settings, **_chosen_settings(ablation, plan, options)})
    check(ablation, plan)
    plan, changed = scale.fitted(plan, len(data.train), lambda network: recipe_for(network).batch_size)
    trainer_options.check(options.trainer)
    if (options.workers or 1) > 1 and not in_one_process(options):
        raise WrongInput("--workers goes with runs of one device each; leave out --trainer.devices and strategy")
    if (options.workers or 1) > 1 and declaration(ablation) is None:
        raise WrongInput(f"--workers {options.workers}: {ablation.name} is declared in no file that others could read")
    if options.network is not None:
        plan = replace(plan, arms=(), seeds=1)
    names = [arm.name for arm in plan.arms]
    for name in options.arms:
        if name not in names:
            raise WrongInput(f"unknown arm {name!r}; {ablation.name} has {', '.join(names) or 'none beside --network'}")
    chosen = [arm for arm in plan.arms if not options.arms or arm.name in options.arms]
    made = {data_key(arm): data for arm in chosen}
    made |= {key: datamodules.make(data, **json.loads(key)) for key in made if key != "{}"}
    searches: tuple[Search, ...] = ()
    if options.search:
        searches = tuple(_search(arm, made[data_key(arm)], options) for arm in searchable(chosen, ablation.name))
    if searching:
        chosen, plan = [found.arm for found in searches], replace(plan, snapshots=0)
        jobs = [
            Job(found.arm, run, number)
            for number in range(options.search)
            for found in searches
            for run in found.runs[number : number + 1]
        ]
    else:
        best = {found.arm.name: found.chosen for found in searches}
        plan = replace(plan, arms=tuple(best.get(arm.name, arm) for arm in plan.arms))
        chosen = [best.get(arm.name, arm) for arm in chosen]
        jobs = [Job(arm, _run(arm, made[data_key(arm)], seed, options)) for seed in range(plan.seeds) for arm in chosen]
    for job in jobs[: len(chosen)]:
        _check_batch(job, made[data_key(job.arm)], options.trainer)
        _check_labels(job, made[data_key(job.arm)])
        describe(job.run)  # refuses networks that do not take the images
    stranger = external.load(options, data, ablation.needs_blocks) if options.network is not None else None
    if stranger is not None:
        count(stranger.network, stranger.arm, data.in_channels, data.image_size)
    more = ablation.check(plan.settings, None if stranger is None else stranger.network)
    plan = replace(plan, settings={**plan.settings, **(more or {})})
    claims = tuple(c for c in ablation.claims if stranger is None and (not options.claims or c.id in options.claims))
    runs = {job.arm.name: job.run for job in reversed(jobs)}
    lengths = {name: scale.steps(run) for name, run in runs.items()}
    smaller = dict(changed[name] for name in runs if name in changed)
    wished = replace(wished, arms=tuple(arm for arm in wished.arms if arm.name in runs))
    remarks = (
        *precision.remarks(wished, {run.precision for run in runs.values()}, bf16_is_fast, options.trainer),
        *scale.remarks(options.budget, len(data.train), smaller, lengths),
    )
    return Trial(
        ablation, options, data, made, plan, tuple(chosen), claims, tuple(jobs), stranger, searches, searching, remarks
    )


def _chosen_settings(ablation: Ablation, plan: Plan, options: Options) -> dict[str, object]:
    """The probe's settings that the command line sets, in the types that the plan has them in."""
    found: dict[str, object] = {}
    for name, text in options.probe.items():
        plain = {key: value for key, value in plan.settings.items() if isinstance(value, bool | int | float | str)}
        if name not in plain:
            raise WrongInput(f"--probe.{name}: {ablation.name} has the settings {', '.join(plain) or 'none'}")
        default = plain[name]
        try:
            if isinstance(default, bool):
                found[name] = {"yes": True, "true": True, "no": False, "false": False}[text.lower()]
            else:
                found[name] = type(default)(text)
        except (ValueError, KeyError):
            kind = {bool: "yes or no", int: "a whole number", float: "a number"}[type(default)]
            raise WrongInput(f"--probe.{name} {text}: give {kind}, such as {default}") from None
    return found


def _run(arm: Arm, data: ImageData, seed: int, options: Options) -> Run:
    recipe = with_overrides(recipe_for(arm.network), dict(arm.recipe))
    arguments = fitted(arm.network, arm.arguments, data.image_size)
    run = Run(arm.network, arguments, recipe, data.identity, seed, options.trainer)
    with_overrides(recipe, {"precision": run.precision})  # refuses a --trainer.precision that no recipe may have
    return run


def _search(arm: Arm, data: ImageData, options: Options) -> Search:
    """The arm's candidates, and the losses of those that are trained."""
    candidates = drawn(arm, options.search)
    runs = tuple(_run(candidate, data, SEED, options) for candidate in candidates)
    return Search(arm, candidates, runs, tuple(final_loss(run.folder(options.out)) for run in runs))


def _check_batch(job: Job, data: ImageData, trainer: dict[str, Any]) -> None:
    processes = num_processes(trainer)
    batch, num_train = job.run.recipe.batch_size, job.run.data["num_train"]
    if batch % processes:
        raise WrongInput(f"arm {job.arm.name}: batch size {batch} does not divide among {processes} devices")
    if batch > num_train:
        raise WrongInput(f"arm {job.arm.name}: batch size {batch} exceeds the {num_train} training images")
    held = [-(-len(split) // (processes * EVALUATION_BATCH_SIZE)) for split in (data.val, data.test)]
    trainer_options.check_batches(trainer, num_train // batch, *held)


def _check_labels(job: Job, data: ImageData) -> None:
    wanted = data.test.labels.shape[1] if data.test.labels.ndim > 1 else 1
    given = job.run.arguments.get("num_digits", 1)
    if given != wanted:
        raise WrongInput(
            f"arm {job.arm.name}: {job.arm.network} gives {given} labels for an image, {data.name} has {wanted}"
        )


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as probe:  # has no name that a kill could leave
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise WrongInput(f"cannot write to --out {out}: {error.strerror}") from None
    free = shutil.disk_usage(out).free
    if free < 200 << 20:
        raise WrongInput(f"--out {out} has {free >> 20} MiB left; at least 200 MiB are needed")
