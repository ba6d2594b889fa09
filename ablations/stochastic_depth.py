"""Does a network that skips random blocks in training err less, train faster and pass larger gradients?

Huang, Sun, Liu, Sedra & Weinberger 2016, "Deep networks with stochastic depth", arXiv:1603.09382. In training, block l
of L is skipped for a mini-batch with probability 1 - p_l; at test time its branch counts p_l. Table 1: constant against
stochastic depth; table 2: training time; figure 7: the gradient that reaches the first block; figure 8: the survival
probability p_L of the last block, with p_l falling linearly from 1 or the same in all blocks. An arm beyond the paper
draws for each image instead of each mini-batch, as libraries do.

    python ablations/stochastic_depth.py
    python ablations/stochastic_depth.py --data cifar10 --budget paper

Differs from the paper: it reports the test error at the epoch of the best validation error, here the last epoch counts.
Time is measured on steps of one network with and without skipping, taking turns, because whole runs on a shared machine
cannot be compared; the gradient at evenly spread epochs, on training images without augmentation, with the network
skipping at random as it is trained. At equal p_L the linear rule keeps more blocks than the uniform one ((1 + p_L) / 2
of them, not p_L), so that claim SD3 compares the rules as the paper does, not at equal cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Invented, Quantity, computed, mean_of, median_ratio, top1_error, won
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

ERROR, GRADIENT = "test/top1_error", "gradient/mean_absolute"
WITH, WITHOUT = "seconds/skipping", "seconds/all_blocks"  # of the same steps
CONSTANT, PER_SAMPLE = "constant", "per_sample_0.5"
SWEEP = (0.2, 0.4, 0.5, 0.6, 0.8)  # of figure 8; 1.0 is constant depth
RULES = ("linear", "uniform")
STOCHASTIC = "linear_0.5"


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """Depth, width and epochs that a budget allows on this data."""
    from modules.training.recipe import HUANG2016_CIFAR

    at = Scale.of(budget, data)
    network: dict[str, Any] = {"depth": 110}
    recipe = asdict(HUANG2016_CIFAR)
    # Eight seeds are the fewest that can decide a claim of two tests, among four claims, either way.
    seeds, snapshots, batches, rounds, steps = 8, 21, 20, 20, 10
    if budget == "paper" and str(data.name).startswith("svhn"):  # section 4: 152 layers, 50 epochs
        network, recipe = {"depth": 152}, recipe | {"epochs": 50, "milestones": (0.6, 0.7)}
    if budget == "short":  # an eightieth of the schedule in its own shape
        network, recipe = {"depth": 56}, recipe | {"epochs": at.epochs(6), "precision": FAST_TRAINING}
        snapshots = 4
    if budget in ("laptop", "smoke"):
        network = {"depth": 32 if at.large else 38, "width": 8}
        recipe |= {"batch_size": 64, "warmup_steps": 40, "epochs": at.epochs(12 if at.large else 18, 64)}
        snapshots, batches, rounds, steps = 10, 8, 20, 4
        if not at.small:
            recipe |= {"batch_size": 128, "epochs": at.epochs(1), "warmup_steps": 60, "precision": FAST_TRAINING}
            snapshots = 2
    if budget == "smoke":
        network, recipe = network | {"depth": 14}, recipe | {"epochs": 1}
        seeds, snapshots, batches, rounds, steps = 2, 2, 2, 2, 1
    network["average_shortcut"] = True
    arms = [Arm(CONSTANT, "resnet_cifar", network, recipe, "every block in every step")]
    for rule in RULES:
        for last in SWEEP:
            random = {**network, "survival_prob": last, "survival_rule": rule}
            note = "the paper's choice" if f"{rule}_{last}" == STOCHASTIC else ""
            arms.append(Arm(f"{rule}_{last}", "resnet_cifar", random, recipe, note))
    per_sample = {**network, "survival_prob": 0.5, "drop_per": "sample"}
    arms.append(Arm(PER_SAMPLE, "resnet_cifar", per_sample, recipe, "linear rule, each image draws; saves no time"))
    batch_size = at.batch_size(recipe["batch_size"])
    settings = {
        "batch_size": batch_size,
        "precision": recipe["precision"],
        "limit": min(batches * batch_size, len(data.train)),  # training images for the gradient
        "snapshots": snapshots,
        "rounds": rounds,
        "steps": steps,
    }
    return Plan(tuple(arms), seeds, settings, snapshots)


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """Share of branches that run, gradient of block 1's first convolution over training, and seconds of a step."""
    from ablations.harness.probing import Measurement
    from ablations.probes.gradients.first_gradient import first_convolution, mean_absolute_gradient

    settings, survival = subject.settings, [block.survival_prob for _, block in subject.network.named_blocks()]
    yield Measurement(point("survival"), "share_of_branches", 100.0 * mean(survival), "%")
    if subject.arm not in (CONSTANT, STOCHASTIC, PER_SAMPLE) or not subject.snapshots:
        return
    batches = [
        batch
        for batch in subject.data.evaluation_batches("train", settings["batch_size"], subject.device, settings["limit"])
        if len(batch[1]) == settings["batch_size"]
    ]
    for epoch in subject.snapshots:
        network = subject.at(epoch)
        size = mean_absolute_gradient(network, first_convolution(network), batches, subject.seed)
        yield Measurement(point("gradient", epoch=epoch), GRADIENT, size, "")
        subject.on_pass()
    if subject.arm == STOCHASTIC:
        for metric, seconds in step_seconds(subject, *batches[0]).items():
            for number, value in enumerate(seconds):
                yield Measurement(point("step", round=number), metric, value / settings["steps"], "s")


def step_seconds(subject: Subject, images: Any, labels: Any) -> dict[str, list[float]]:
    """Seconds of turns of the trained network that go on training, with blocks skipped and with all of them."""
    import copy

    import torch

    from ablations.harness.stopwatch import in_turns, training_steps
    from modules import set_survival
    from modules.training.recipe import HUANG2016_CIFAR

    # A tiny rate, because what is timed must not blow up.
    recipe = replace(HUANG2016_CIFAR, learning_rate=1e-4, precision=subject.settings["precision"])
    networks = {
        WITH: copy.deepcopy(subject.network),
        WITHOUT: set_survival(copy.deepcopy(subject.network), 1.0),
    }
    devices = [subject.device] if subject.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(subject.seed)
        arms = {
            name: training_steps(network, recipe, images, labels, subject.settings["steps"])
            for name, network in networks.items()
        }
        return in_turns(arms, subject.settings["rounds"], subject.device, subject.on_pass)


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Passes over the images of the gradients: forward and backward are worth three."""
    if settings["arm"] not in (CONSTANT, STOCHASTIC, PER_SAMPLE):
        return 0.0
    gradients = 3.0 * settings["snapshots"]
    if settings["arm"] != STOCHASTIC:
        return gradients
    timed = settings["rounds"] * settings["steps"] * settings["batch_size"] / settings["limit"]
    return gradients + 3 * 1.8 * timed


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """The paper's figures 3, 7 and 8, the time of an epoch, and the table of the sweep."""
    from reports.drawings.stochastic_depth import draw

    return draw(records, folder)


# -- what decides -----------------------------------------------------------------------------------------------------


def gradient_ratio(records: Records) -> dict[int, float]:
    """Seed -> mean over the epochs after the start of log2 (gradient with stochastic depth / with constant depth)."""
    found: dict[int, list[float]] = {}
    constant = {
        (row.seed, row.fields["epoch"]): row.value for row in records.where(CONSTANT, probe="gradient", metric=GRADIENT)
    }
    for row in records.where(STOCHASTIC, probe="gradient", metric=GRADIENT):
        other = constant.get((row.seed, row.fields["epoch"]), 0.0)
        if row.fields["epoch"] != "0" and row.value > 0 and other > 0:
            found.setdefault(row.seed, []).append(math.log2(row.value / other))
    return {seed: mean(ratios) for seed, ratios in found.items()}


def invented_gradients(ratio: float) -> Iterator[Invented]:
    """Gradients whose ratio is 2 to the power of this."""
    for arm, size in ((CONSTANT, 1.0), (STOCHASTIC, 2.0**ratio)):
        yield arm, point("gradient", epoch=1), GRADIENT, size


skipping, all_blocks = (Quantity(metric, "s", "time of a training step", "step") for metric in (WITH, WITHOUT))
# At each p_L of the sweep, what the linear rule errs less.
ADVANTAGES = [top1_error(f"uniform_{last}") - top1_error(f"linear_{last}") for last in SWEEP]

HUANG = "Huang et al. 2016, arXiv:1603.09382"

CLAIMS = (
    Claim(
        "SD1",
        "Stochastic depth lowers the test error of a residual network.",
        f"{HUANG}, section 4, table 1",
        "110 layers: CIFAR-10 5.25 against 6.41 %, CIFAR-100 24.98 against 27.76 %, SVHN 1.75 against 1.80 %; "
        "no gain on ImageNet",
        tests=(
            Test("gain", (top1_error(CONSTANT) - top1_error(STOCHASTIC)).called(
                "test error, constant depth minus stochastic depth (linear, p_L = 0.5)"), at_least=0.0),
        ),
    ),
    Claim(
        "SD2",
        "Stochastic depth makes training faster, by about a quarter at p_L = 0.5.",
        f"{HUANG}, section 4, table 2",
        "27 % less time on CIFAR-10 (15 h 07 min against 20 h 42 min), 26 % on CIFAR-100, 24 % on SVHN",
        "'greatly' less time",
        tests=(
            # A quarter of the branches is skipped ((3 L - 1) / 4 of L run), and a step is more than branches: 15 % is
            # more than half of what the paper saves.
            Test("saved", (100 * (1 - median_ratio(skipping(STOCHASTIC), all_blocks(STOCHASTIC)))).called(
                "time of a training step saved by skipping (linear, p_L = 0.5)", "%"), at_least=15.0),
        ),
    ),
    Claim(
        "SD3",
        "A survival probability that falls linearly with depth beats a uniform one, whatever its value.",
        f"{HUANG}, section 5, figure 8",
        "figure only: linear below uniform at every p_L; p_L between 0.4 and 0.8 about equally good",
        tests=(
            Test("mean", mean_of(*ADVANTAGES).called(
                "test error, uniform minus linear rule, mean over p_L = 0.2, 0.4, 0.5, 0.6, 0.8"), at_least=0.0),
            # All of the sweep would be asking a single seed to have no noise (the authors name +-0.2 between runs).
            Test("throughout", mean_of(*map(won, ADVANTAGES)).called(
                "share of these p_L at which the linear rule errs less"), at_least=50.0),
        ),
    ),
    Claim(
        "SD4",
        "Stochastic depth brings larger gradients to the first layers.",
        f"{HUANG}, section 5, figure 7",
        "figure only: mean absolute gradient of the first convolution of block 1 larger at almost every epoch, most "
        "after the learning rate drops",
        tests=(
            Test("ratio", computed(
                "log2 of mean |gradient| of block 1's first convolution, stochastic over constant depth, mean over "
                "training", "", gradient_ratio, (CONSTANT, STOCHASTIC), invented_gradients), at_least=0.0),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="stochastic_depth",
    title="Stochastic depth",
    question="Does a network that skips random blocks in training err less, train faster and pass larger gradients?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=CONSTANT,
)

if __name__ == "__main__":
    main(ABLATION)
