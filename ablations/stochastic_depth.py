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

from dataclasses import replace
from typing import Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import Against, AgainstField, ArmTable, Curves
from ablations.harness.declare.measure import Quantity, mean_of, top1_error, won
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import Scale
from ablations.harness.declare.series import along
from ablations.harness.launch import main
from ablations.probes.gradients.first_gradient import GRADIENT, FirstGradient
from ablations.probes.survival import Survival
from ablations.probes.timing.steps import ALL_BLOCKS, SKIPPING, StepTime
from modules.training.recipe import HUANG2016_CIFAR

CONSTANT, STOCHASTIC, PER_SAMPLE = "constant", "linear_0.5", "per_sample_0.5"
SWEEP = (0.2, 0.4, 0.5, 0.6, 0.8)  # of figure 8; 1.0 is constant depth
RULES = ("linear", "uniform")


def plan(at: Scale) -> Plan:
    """Constant depth, both rules at all survival probabilities, and one that draws for each image."""
    on_svhn = at.data.startswith("svhn")  # section 4: 152 layers, 50 epochs
    paper: dict[str, Any] = {"epochs": 50, "milestones": (0.6, 0.7)} if on_svhn else {}
    depth = at(paper=152 if on_svhn else 110, short=56, laptop=32 if at.large else 38, smoke=14)
    network = {"depth": depth, "width": at(paper=16, laptop=8), "average_shortcut": True}
    recipe = at.recipe(
        replace(HUANG2016_CIFAR, **at(paper=paper, short={})),
        short={"epochs": at.epochs(6), "precision": FAST_TRAINING},  # an eightieth of the schedule in its own shape
        laptop={"batch_size": 64, "warmup_steps": 40, "epochs": at.epochs(12 if at.large else 18, 64)},
        cifar={"batch_size": 128, "warmup_steps": 60, "epochs": at.epochs(1), "precision": FAST_TRAINING},
        smoke={"epochs": 1},
    )
    arms = [Arm(CONSTANT, "resnet_cifar", network, recipe, "every block in every step")]
    for rule in RULES:
        for last in SWEEP:
            name, random = f"{rule}_{last}", {"survival_prob": last, "survival_rule": rule}
            note = "the paper's choice" if name == STOCHASTIC else ""
            arms.append(Arm(name, "resnet_cifar", {**network, **random}, recipe, note))
    random = {"survival_prob": 0.5, "drop_per": "sample"}
    note = "linear rule, each image draws; saves no time"
    arms.append(Arm(PER_SAMPLE, "resnet_cifar", {**network, **random}, recipe, note))
    size = at.batch_size(recipe["batch_size"])
    probes = [
        Survival(),
        FirstGradient(
            of=(CONSTANT, STOCHASTIC, PER_SAMPLE),
            batch_size=size,
            limit=min(at(paper=20, laptop=8, smoke=2) * size, at.num_train),
            snapshots=at(paper=21, short=4, laptop=10, cifar=2, smoke=2),
        ),
        StepTime(
            of=(STOCHASTIC,),
            batch_size=size,
            precision=recipe["precision"],
            rounds=at(paper=20, smoke=2),
            steps=at(paper=10, laptop=4, smoke=1),
        ),
    ]
    # Eight seeds are the fewest that can decide a claim of two tests, among four claims, either way.
    return Plan(arms, at(paper=8, smoke=2), probes)


gradient = Quantity(GRADIENT, "", "mean |gradient|", "gradient")
skipping, all_blocks = (Quantity(each, "s", "time of a training step", "step") for each in (SKIPPING, ALL_BLOCKS))
in_turns = along(skipping(STOCHASTIC), "round") / along(all_blocks(STOCHASTIC), "round")
ratio = along(gradient(STOCHASTIC), "epoch") / along(gradient(CONSTANT), "epoch")
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
            Test("saved", (100 * (1 - in_turns.over("median"))).called(
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
            Test("ratio", ratio.after(0).log2().over("mean").called(
                "log2 of mean |gradient| of block 1's first convolution, stochastic over constant depth, mean over "
                "training"), at_least=0.0),
        ),
    ),
)  # fmt: skip

LAST = "survival probability of the last block, p_L"
PLACES = {rule: {**{f"{rule}_{last}": last for last in SWEEP}, CONSTANT: 1.0} for rule in RULES}
SHOWN = (CONSTANT, STOCHASTIC, "uniform_0.5", PER_SAMPLE)  # in curves; more lines could not be told apart
seconds = Quantity("seconds", "s", "time of an epoch", "epoch", over="median")

ABLATION = Ablation(
    name="stochastic_depth",
    title="Stochastic depth",
    question="Does a network that skips random blocks in training err less, train faster and pass larger gradients?",
    claims=CLAIMS,
    plan=plan,
    charts=(
        Against(
            "sweep", "Error against the survival probability", top1_error, "test error in %", LAST,
            {**PLACES, "linear, drawn per image": {PER_SAMPLE: 0.5}}, {"constant depth": CONSTANT},
            "As in figure 8 of the paper; p_L = 1 is constant depth.",
        ),
        Against(
            "epoch_seconds", "Time of an epoch", seconds, "seconds per epoch", LAST, PLACES,
            caption="Whole epochs with validation, on whatever else the machine did meanwhile; SD2 rests on steps that "
            "took turns instead.",
        ),
        Curves("training_loss", "Training loss", {"train/loss": "training loss"}, SHOWN, logarithmic=True),
        Curves("validation_error", "Validation error", {"val/top1_error": "validation error in %"}, SHOWN),
        AgainstField(
            "first_gradient", "Gradient of the first convolution of block 1", gradient, "mean |gradient|",
            "epoch", "epoch", logarithmic=True,
            caption="As in figure 7 of the paper, before the first epoch and after evenly spread ones.",
        ),
        ArmTable(
            "arms", "All arms",
            {
                "branches run, %": Quantity("share_of_branches", "%", probe="survival"),
                "test error, %": top1_error,
                "test loss": Quantity("test/loss", "nats"),
                "s per epoch": seconds,
            },
            "Means over seeds whose value is finite. The paper, 110 layers on CIFAR-10: 6.41 % at constant depth, "
            "5.25 % with linear_0.5.",
        ),
    ),
    baseline=CONSTANT,
)  # fmt: skip

if __name__ == "__main__":
    main(ABLATION)
