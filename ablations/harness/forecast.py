"""What is to be done, what it costs and how long it takes, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ablations.harness.declare.probe import Probe
from ablations.harness.estimate import Estimate, count, describe, estimate, evaluation_time, in_words
from ablations.harness.execution.perform import evaluating, is_asked, is_finished
from ablations.harness.foreign.network import ForeignNetwork
from ablations.harness.runtime import say
from ablations.harness.training.lengths import steps
from ablations.harness.trial import Trial
from modules.blocks.cost import Cost


def estimates(trial: Trial) -> dict[str, Estimate]:
    """Per arm; only arms with work left are timed, the others are only counted."""
    found = {}
    for arm in trial.arms:
        jobs = trial.jobs_of(arm)
        if all(is_asked(job) for job in jobs):
            counted, network = describe(jobs[0].run)
            found[arm.name] = Estimate(counted, len(network.blocks), 0.0, 0.0)
        else:
            found[arm.name] = estimate(jobs[0].run, jobs[0].data, trial.device)
    return found


def expected(trial: Trial, estimates: Mapping[str, Estimate]) -> list[float]:
    """Seconds that each job will take; a run that several share is trained once."""
    seconds = [0.0] * len(trial.jobs)
    for group in trial.groups:
        for number, (index, job) in enumerate(group):
            found = estimates[job.arm]
            if number == 0 and not is_finished(job):
                seconds[index] += found.training
            if not is_asked(job):
                seconds[index] += found.per_image * _evaluations(job.probes, found.blocks, trial)
    return seconds


def _evaluations(probes: Iterable[Probe], blocks: int, trial: Trial) -> float:
    """How many evaluations of an image the questions are worth."""
    return sum(probe.evaluations(blocks, len(trial.data.test)) for probe in probes)


def time_left(expected: float, spent: float, seconds: float) -> str:
    """How long the rest takes at the pace so far, to be added to a line; "" where there is no rest, or no pace yet.

    expected: seconds announced for all. spent: those announced for what is done. seconds: what it took.
    """
    # A fiftieth tells a pace; less may be the start of processes, or what lay finished.
    if expected - spent <= 1 or spent < expected / 50:
        return ""
    return f", about {in_words((expected - spent) * seconds / spent)} left"


def tell_plan(trial: Trial, found: Mapping[str, Estimate], seconds: Sequence[float], workers: int) -> float:
    """Prints arms, costs and expected time; returns the seconds of work left."""
    seeds = trial.seeds
    tried = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}{f' from {seeds[0]}' if seeds[0] else ''}"
    tried = "to find the lowest training loss" if trial.ablation.trains_only else tried
    settings = f"{trial.options.budget} budget, {trial.data.name}, {tried}"
    say(f"{trial.ablation.title} ({settings})")
    if trial.foreign is not None:
        return _tell_foreign(trial, trial.foreign)
    if not trial.jobs:
        return 0.0
    arm_width = max(len(arm.name) for arm in trial.arms)
    say(
        f"  {'arm':<{arm_width}} {'network':<16} {'blocks':>6} {'parameters':>11} {'multiply-adds':>13} "
        f"{'epochs':>6} {'steps':>7} {'precision':<10}  runs"
    )
    for arm in trial.arms:
        jobs = trial.jobs_of(arm)
        cost = found[arm.name]
        trained = sum(is_finished(job) for job in jobs)
        runs = f"{len(jobs)} of {in_words(cost.training)}" if trained < len(jobs) else f"{len(jobs)}"
        runs += f", {trained} already trained" if trained else ""
        run = jobs[0].run
        length = f"{run.recipe.epochs:>6} {steps(run):>7,} {run.precision:<10}"
        say(
            f"  {arm.name:<{arm_width}} {arm.network:<16} {cost.blocks:>6} {cost.cost.parameters:>11,} "
            f"{cost.cost.multiply_adds / 1e6:>11.1f} M {length}  {runs}"
        )
    for search in trial.searches:
        say(f"  searched: {search}")
    for remark in trial.remarks:
        say(f"  {remark}")
    left = sum(seconds) / workers
    at_once = f"{workers} runs at once, " if workers > 1 else ""
    say(f"  expected: {in_words(left)} on this machine, {at_once}probes included; files go to {trial.options.out}/")
    return left


def counted_foreign(trial: Trial, foreign: ForeignNetwork) -> Cost:
    """What the foreign network costs per image."""
    return count(foreign.network, foreign.arm, trial.data.in_channels, trial.data.image_size)


def _tell_foreign(trial: Trial, foreign: ForeignNetwork) -> float:
    """Prints the cost of the foreign network and the expected time of asking it; returns its seconds."""
    found = counted_foreign(trial, foreign)
    network = evaluating(foreign.network, trial.device)
    images, _ = next(trial.data.evaluation_batches("test", min(100, len(trial.data.test)), trial.device))
    number = _evaluations(trial.probes, len(network.blocks), trial)
    left = evaluation_time(network, images) * number / (trial.options.workers or 1)
    say(f"  {foreign.run}: {found.parameters:,} parameters, {found.multiply_adds / 1e6:.1f} M multiply-adds")
    say(f"  images normalised with {foreign.normalisation}")
    if foreign.taken:
        say(f"  taken of {foreign.weights}: {foreign.taken}")
    if foreign.whole:
        say(f"  taken whole: {foreign.whole}")
    say(f"  expected: {in_words(left)} on this machine, if it was not asked before; files go to {trial.options.out}/")
    return left
