"""Everything that can be wrong is found here before training: data, plan, arms, networks, devices and --out."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datamodules
from ablations.harness import lengths, runtime
from ablations.harness.command.command_line import Options, WrongInput
from ablations.harness.declare import precision
from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, check
from ablations.harness.declare.probe import Probe
from ablations.harness.declare.scale import Scale, View
from ablations.harness.estimate import count, describe
from ablations.harness.execution.distributed import in_one_process, num_processes
from ablations.harness.execution.job import Job, loaded, source
from ablations.harness.foreign import network as foreign_network
from ablations.harness.judging.reach import out_of_sight
from ablations.harness.probe_settings import with_settings
from ablations.harness.search import SEED, Search, drawn
from ablations.harness.store.runs import Run, final_loss
from ablations.harness.training import trainer_options
from ablations.harness.training.lengths import steps
from ablations.harness.trial import Trial
from datamodules.images import EVALUATION_BATCH_SIZE, ImageData
from modules import fitted, recipe_for
from modules.training.recipe import with_overrides

ENOUGH = 2_000  # test images, of which another draw would change little


def prepare(ablation: Ablation, options: Options) -> Trial:
    """Everything that must be right before training: data, plan, arms, networks, devices, and where to write.

    Raises WrongInput, DataError or ValueError, each with one line.
    """
    runtime.quiet()
    runtime.keep_freed_memory()
    _check_writable(options.out)
    source.cache_clear()  # what lies in a folder may have changed since the last trial of this process
    if options.download:
        datamodules.load(options.data, options.data_root, download=True, image_size=options.image_size)
    view = _view(ablation, options)
    load = _load(options, view)
    data = loaded(load, {})
    bf16_is_fast = precision.bf16_is_fast(options.trainer)
    wished = ablation.plan(Scale.of(options.budget, data))
    plan = precision.granted(wished, bf16_is_fast)
    if options.seeds is not None:
        plan = replace(plan, seeds=options.seeds)
    if options.first_seed is not None:
        plan = replace(plan, first_seed=options.first_seed)
    plan = replace(plan, probes=with_settings(plan.probes, options.probe, ablation.name))
    check(ablation, plan)
    plan, smaller = lengths.fitted(plan, len(data.train), lambda network: recipe_for(network).batch_size)
    trainer_options.check(options.trainer)
    if (options.workers or 1) > 1 and not in_one_process(options.trainer):
        raise WrongInput("--workers goes with runs of one device each; leave out --trainer.devices and strategy")
    if options.network is not None:
        plan = replace(plan, arms=(), seeds=1, first_seed=0)
    chosen = _chosen(ablation, plan, options)
    loads = {seed: _of_seed(load, data, seed) for seed in range(plan.first_seed, plan.first_seed + plan.seeds)}
    searches: tuple[Search, ...] = ()
    if options.search:
        searches = tuple(_search(arm, loads[plan.first_seed], options) for arm in chosen if arm.search)
        if not searches:
            raise WrongInput(f"--search: no arm of {ablation.name} declares what may be searched; leave it out")
        best = {found.arm.name: found.chosen for found in searches}
        plan = replace(plan, arms=tuple(best.get(arm.name, arm) for arm in plan.arms))
        chosen = [best.get(arm.name, arm) for arm in chosen]
    foreign = None
    if options.network is not None:
        if ablation.refuses_foreign:
            raise WrongInput(ablation.refuses_foreign)
        data = copy.copy(data)  # is normalised as the network was trained
        asked = [probe for probe in plan.probes if probe.asks_foreign]
        foreign = foreign_network.load(options, data, any(probe.needs_blocks for probe in asked))
        count(foreign.network, foreign.arm, data.in_channels, data.image_size)
    plan = replace(
        plan, probes=tuple(probe.prepared(None if foreign is None else foreign.network) for probe in plan.probes)
    )
    judged = ablation.claims if options.network is None else ()
    claims = tuple(claim for claim in judged if not options.claims or claim.id in options.claims)
    jobs = _jobs(ablation, plan, chosen, options, loads)
    return Trial(
        ablation, options, data, plan, tuple(chosen), claims, tuple(jobs), foreign, searches,
        (*_remarks(wished, jobs, bf16_is_fast, smaller, options, data, view), *_unseen(ablation, claims, plan)),
    )  # fmt: skip


def _view(ablation: Ablation, options: Options) -> View:
    """What of the data is taken: what the command says, else the ablation of the budget."""
    view = View(options.image_size, options.train_images)
    planned = ablation.views.get(options.budget)
    if planned is None or options.network is not None:  # which was trained on whole images
        return view
    whole = loaded(_load(options, View(options.image_size)), {})
    return view.or_else(planned, whole.image_size, len(whole.train))


def _load(options: Options, view: View) -> dict[str, Any]:
    """Arguments of `datamodules.load`, for the split that the data come with."""
    return {"name": options.data, "root": str(options.data_root), **asdict(view)}


def _of_seed(load: Mapping[str, Any], data: ImageData, seed: int) -> dict[str, Any]:
    """The arguments by which a seed loads what it draws for itself; the same for all seeds where that is nothing."""
    return {**load, "split_seed": seed} if data.identity_of(seed) != data.identity else dict(load)


def _chosen(ablation: Ablation, plan: Plan, options: Options) -> list[Arm]:
    """The arms that are trained."""
    names = [arm.name for arm in plan.arms]
    for name in options.arms:
        if name not in names:
            raise WrongInput(f"unknown arm {name!r}; {ablation.name} has {', '.join(names) or 'none beside --network'}")
    return [arm for arm in plan.arms if not options.arms or arm.name in options.arms]


def _jobs(
    ablation: Ablation, plan: Plan, arms: Sequence[Arm], options: Options, loads: Mapping[int, Mapping[str, Any]]
) -> list[Job]:
    """Seed by seed the jobs of these arms, of which the first seed's are looked at; loads: seed -> `_of_seed`."""
    first, *_ = loads.values()

    def job(arm: Arm, seed: int) -> Job:
        asked: tuple[Probe, ...] = tuple(probe for probe in plan.probes if probe.asks(arm.name))
        return Job(
            ablation.name, options.budget, tuple(claim.id for claim in ablation.claims), arm.name,
            _run(arm, loaded(first, arm.data), seed, options), loads[seed], dict(arm.data), asked, options.out,
            options.wandb, options.wandb_weights, options.fresh, options.workers or 1, ablation.trains_only,
            seed == plan.first_seed,
        )  # fmt: skip

    jobs = [job(arm, seed) for seed in loads for arm in arms]
    for each in jobs[: len(arms)]:
        _check_batch(each, options.trainer)
        _check_labels(each)
        describe(each.run)  # refuses networks that do not take the images
    return jobs


def _remarks(
    wished: Plan,
    jobs: Sequence[Job],
    bf16_is_fast: bool,
    smaller: Mapping[str, tuple[int, int]],
    options: Options,
    data: ImageData,
    view: View,
) -> list[str]:
    """What a reader must know of data, precision and lengths."""
    runs = {job.arm: job.run for job in reversed(jobs)}
    wished = replace(wished, arms=tuple(arm for arm in wished.arms if arm.name in runs))
    return [
        *([f"Data: {taken}."] if (taken := view.in_words(data.whole_train)) else []),
        *_test_images(data, {job.run.seed for job in jobs}),
        *precision.remarks(wished, {run.precision for run in runs.values()}, bf16_is_fast, options.trainer),
        *lengths.remarks(
            options.budget, len(data.train), dict(smaller[name] for name in runs if name in smaller),
            {name: steps(run) for name, run in runs.items()},
        ),
    ]  # fmt: skip


def _unseen(ablation: Ablation, claims: Sequence[Claim], plan: Plan) -> Iterator[str]:
    """What so many seeds cannot say of the claims on trial."""
    experiments = sum(claim.kind == "experiment" for claim in ablation.claims)
    for claim in claims:
        if unseen := out_of_sight(claim, plan.seeds, experiments if claim.kind == "experiment" else 1):
            yield f"{unseen}."


def _test_images(data: ImageData, seeds: Collection[int]) -> list[str]:
    """What seeds have in common that a larger test set would make harmless."""
    if data.drawn_test or len(data.test) >= ENOUGH or len(seeds) < 2:
        return []
    return [f"The {len(data.test)} test images are the same for every seed: the intervals understate the spread."]


def _run(arm: Arm, data: ImageData, seed: int, options: Options) -> Run:
    recipe = with_overrides(recipe_for(arm.network), dict(arm.recipe))
    arguments = fitted(arm.network, arm.arguments, data.image_size)
    run = Run(arm.network, arguments, recipe, data.identity_of(seed), seed, options.trainer)
    with_overrides(recipe, {"precision": run.precision})  # refuses a --trainer.precision that no recipe may have
    return run


def _search(arm: Arm, load: Mapping[str, Any], options: Options) -> Search:
    """The arm's candidates, and the losses of those that are trained."""
    candidates = drawn(arm, options.search)
    runs = tuple(_run(candidate, loaded(load, arm.data), SEED, options) for candidate in candidates)
    return Search(arm, candidates, runs, tuple(final_loss(run.folder(options.out)) for run in runs))


def _check_batch(job: Job, trainer: dict[str, Any]) -> None:
    processes = num_processes(trainer)
    batch, num_train = job.run.recipe.batch_size, job.run.data["num_train"]
    if batch % processes:
        raise WrongInput(f"arm {job.arm}: batch size {batch} does not divide among {processes} devices")
    if batch > num_train:
        raise WrongInput(f"arm {job.arm}: batch size {batch} exceeds the {num_train} training images")
    held = [-(-len(split) // (processes * EVALUATION_BATCH_SIZE)) for split in (job.data.val, job.data.test)]
    trainer_options.check_batches(trainer, num_train // batch, *held)


def _check_labels(job: Job) -> None:
    labels = job.data.test.labels
    wanted = labels.shape[1] if labels.ndim > 1 else 1
    given = job.run.arguments.get("num_digits", 1)
    if given != wanted:
        raise WrongInput(
            f"arm {job.arm}: {job.run.network} gives {given} labels for an image, {job.data.name} has {wanted}"
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
