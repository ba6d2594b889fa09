"""Do identity shortcuts keep gradients stable over depth, and does the sigmoid stop them where ReLU does not?

He et al. 2016, "Identity mappings in deep residual networks", arXiv:1603.05027, section 2: within a stage of
pre-activation blocks x_L = x_l + sum of F, hence dx_L/dx_l = I + d(sum of F)/dx_l; after the addition of the original
block stands a ReLU, so that it does not hold there. Of plain networks He et al. 2015, arXiv:1512.03385, section 4.1,
say that with batch norm their gradients have healthy norms, so that vanishing gradients are not why depth hurts them.
Saturation: LeNet-5 as in Zhang et al. 2021, arXiv:2106.11342, section 7.6, with sigmoid, tanh and ReLU.

    python ablations/gradient_flow.py
    python ablations/gradient_flow.py --budget hour
    python ablations/gradient_flow.py --data cifar10 --budget paper

That the sum is exact is mathematics; whether gradients stay level over depth is another question, which it leaves to
the sum of F. So it is asked of untrained networks of 20 to 110 layers, whose growth over depth is free of what the
changes of shape do, with batch norm and without, and of networks in training.
Differs from the papers: none of them prints these norms. They are those of the loss's gradient by each block's output,
on training images without augmentation and with the batch's statistics. LeNet-5 with tanh has the rate of the one with
ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ablations.harness.declare.ablation import Ablation, Amendment, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import AgainstField, ArmTable, Drawing
from ablations.harness.declare.measure import Measure, Quantity, absolute, counted, greatest, least, log10
from ablations.harness.declare.scale import Scale, View
from ablations.harness.declare.series import along
from ablations.harness.launch import main
from ablations.plain_or_residual import cifar_arm, plain_learns
from ablations.probes.activations.derivatives import ActivationDerivatives
from ablations.probes.gradients.block_gradients import ACTIVATION_NORM, BlockGradients
from ablations.probes.gradients.residual_identity import DEVIATION, ResidualIdentity
from ablations.probes.gradients.untrained_gradients import FAMILIES, GROWTH, NORMS, UntrainedGradients, kind

SHALLOW, DEEP, DEEPEST = 20, 56, 110
DECADES = "decades"
PLAIN = f"plain_{SHALLOW}"  # where untrained networks are asked for, of whatever kind
RATES = {"sigmoid": 0.9, "tanh": 0.1, "relu": 0.1}


def plan(at: Scale) -> Plan:
    """Plain, original and pre-activation networks of two or three depths, and LeNet-5 with three activations.

    "original" is plain_or_residual's residual network: the same runs.
    """
    depths = at(paper=(SHALLOW, DEEP, DEEPEST), short=(SHALLOW, DEEP))
    arms = [
        cifar_arm(at, f"{family}_{depth}", depth, **arguments)
        for family, arguments in FAMILIES.items()
        for depth in depths
    ]
    recipe = at.recipe(
        # 130 epochs are the published number of steps, which the sigmoid needs to leave its plateau.
        laptop={"batch_size": 64, "epochs": at.epochs(130, 64)} if at.small else {"epochs": at.epochs(3, 256)},
        smoke={"epochs": 2},
    )
    arms += [
        Arm(name, "lenet5", {"activation": name}, {**recipe, "learning_rate": rate}, "LeNet-5")
        for name, rate in RATES.items()
    ]
    added = tuple(arm.name for arm in arms if arm.name.startswith(("original", "preact")))
    snapshots = at(paper=5, smoke=3)
    probes = [
        BlockGradients(snapshots=snapshots),
        ResidualIdentity(snapshots=snapshots, of=added),
        UntrainedGradients(
            of=(PLAIN,),
            depths=at(paper=(SHALLOW, DEEP, DEEPEST), smoke=(SHALLOW, DEEPEST)),
            width=at(paper=16, laptop=8, smoke=4),
            batch_size=at(paper=64, smoke=8),
            limit=at(paper=256, laptop=128, smoke=8),
        ),
        ActivationDerivatives(snapshots=snapshots, of=tuple(RATES)),
    ]
    # Seven seeds can decide one of four claims by its only test, eight also one that has two.
    return Plan(arms, at(paper=8, smoke=2), probes)


DEEP_PLAIN, DEEP_PREACT = f"plain_{DEEP}", f"preact_{DEEP}"
BLOCKS = {DEEP_PLAIN: (DEEP - 2) // 2, DEEP_PREACT: (DEEP - 2) // 2, "sigmoid": 4, "relu": 4}


def ends(arm: str, **where: object) -> tuple[Measure, Measure]:
    """Norms of the gradient at the output of the first and of the last block."""
    norm = Quantity(ACTIVATION_NORM, probe="gradient", where=where)
    return norm(arm, position=1), norm(arm, position=BLOCKS[arm])


def untrained(arm: str) -> Measure:
    """Decades by which gradients grow on their way from the last block to the first, negative where they vanish."""
    first, last = ends(arm, epoch=0)
    return log10(first / last, DECADES)


def more_with_depth(norm: str) -> Measure:
    """By how many decades more the imbalance of untrained plain networks rises with depth than of residual ones."""

    def rise(family: str) -> Measure:
        deepest, shallow = (growth(PLAIN, network=kind(family, norm), depth=depth) for depth in (DEEPEST, SHALLOW))
        return absolute(deepest) - absolute(shallow)

    return (rise("plain") - rise("preact")).called(
        f"rise of the imbalance of gradients from {SHALLOW} to {DEEPEST} layers, untrained, plain minus pre-activation"
    )


def in_training(arm: str) -> Measure:
    """By how many decades they differ, either way, 0 being perfectly stable: the mean over later snapshots."""
    first, last = (along(end, "epoch") for end in ends(arm))
    return (first / last).log10(DECADES).after(0).absolute().over("mean")


def identity(arms: Sequence[str], choose: Literal["least", "greatest"]) -> Measure:
    """The largest or smallest deviation from the identity over all runs and stages."""
    deviation = Quantity(DEVIATION, "", "relative deviation from the identity", "identity", over=choose)
    return counted({"least": least, "greatest": greatest}[choose](*map(deviation, arms)), choose)


def largest(arm: str, metric: str) -> Measure:
    """The largest value over all layers, snapshots and seeds."""
    return counted(Quantity(f"derivative/{metric}", "", probe="derivative", over="greatest")(arm), "greatest")


growth = Quantity(GROWTH, DECADES, "growth of gradients", "untrained")
small = Quantity("derivative/small", probe="derivative")
# Of sigmoids, in % of all at an epoch, with a mean over the layers.
saturated = (100 * along(small("sigmoid"), "epoch")).averaged()

HE2016 = "He et al. 2016, arXiv:1603.05027"
PREACTS, ORIGINALS = [[f"{family}_{depth}" for depth in (SHALLOW, DEEP)] for family in ("preact", "original")]
# A factor of two is what we call a difference.
DIFFERENT = math.log10(2)
# Rounding in double precision is 1e-16 for each of some hundred operations; a term that is not there is 1e-2 or more.
ROUNDING, ABSENT = 1e-9, 1e-2
# Three layers lie between LeNet-5's first and last block. A sigmoid's slope of at most 1/4 makes that a factor of 64
# or more, ReLU's of 1 for every second unit a factor of 3: 1.3 decades apart, of which one is asked.
LOST = 1.0

SPLIT = Amendment(
    "2026-11-28", "GF1, one claim of six tests on untrained and trained networks of 56 layers", "GF1 to GF1d",
    "it held the identity, which is mathematics, and how gradients change at two changes of shape",
)  # fmt: skip

CLAIMS = (
    Claim(
        "GF1",
        "With batch norm identity shortcuts keep gradients nearer to level over depth: without them they grow more.",
        f"{HE2016}, section 2",
        "no norm is printed",
        "that is how ResNet fixed vanishing gradients",
        tests=(Test("steadier", more_with_depth("batch_norm"), at_least=DIFFERENT, margin=DIFFERENT / 3),),
        amended=(SPLIT,),
    ),
    Claim(
        "GF1b",
        "It is the shortcuts that do so: they keep gradients level without batch norm too.",
        "the notes, put as this suite's question: the papers have batch norm everywhere",
        "",
        "dx_L/dx_l = I + dF/dx keeps gradients stable",
        tests=(Test("steadier", more_with_depth("no_norm"), at_least=DIFFERENT, margin=DIFFERENT / 3),),
        agrees={"reproduced": "notes", "contradicted": "neither"},
        amended=(SPLIT,),
    ),
    Claim(
        "GF1c",
        "In training a plain network with batch norm has gradients as healthy as a residual one.",
        "He et al. 2015, arXiv:1512.03385, section 4.1",
        "plain networks with batch norm have healthy norms of gradients: vanishing ones are not why depth hurts them",
        "plain networks train badly because their gradients vanish",
        tests=(
            Test("no_less_steady", (in_training(DEEP_PLAIN) - in_training(DEEP_PREACT)).called(
                f"imbalance of gradients in training of {DEEP_PLAIN} minus {DEEP_PREACT}"), at_most=DIFFERENT),
        ),
        needs=(plain_learns,),  # gradients of a network that learns nothing are not those of training
        agrees={"reproduced": "paper", "contradicted": "notes"},
        amended=(SPLIT,),
    ),
    Claim(
        "GF1d",
        "Within a stage of pre-activation blocks dx_L/dx_l = I + dF/dx; with a ReLU after the addition it is not.",
        f"{HE2016}, section 2, equations 4 and 5",
        "derived where nothing stands after the addition",
        "for every ResNet",
        tests=(
            Test("identity", identity(PREACTS, "greatest").called(
                "largest relative deviation from the identity, pre-activation"), at_most=ROUNDING),
            Test("no_identity_in_original", identity(ORIGINALS, "least").called(
                "smallest relative deviation from the identity, original blocks"), at_least=ABSENT),
        ),
        kind="check",
        amended=(SPLIT,),
    ),
    Claim(
        "GF2",
        "The sigmoid saturates and lets gradients vanish, ReLU does not.",
        "Zhang et al. 2021, arXiv:2106.11342, section 5.4",
        "no number printed",
        tests=(
            Test("gradients_lost", (untrained("relu") - untrained("sigmoid")).called(
                "decades that gradients lose towards the first layer, sigmoid minus ReLU, untrained"), at_least=LOST,
                margin=LOST / 3),
            Test("saturates", saturated.rise().called(
                "share of sigmoids with a derivative below 0.01, after training minus before", "% points"),
                at_least=1.0),
        ),
        amended=(
            Amendment("2026-11-28", "two exact tests in GF2", "a check of their own, GF2b",
                      "derivatives of sigmoid and ReLU are mathematics"),
        ),
    ),
    Claim(
        "GF2b",
        "A sigmoid's derivative is at most 1/4; that of ReLU is exactly 1 on active units.",
        "Zhang et al. 2021, arXiv:2106.11342, section 5.4; Krizhevsky et al. 2012 (NIPS), section 3.1",
        "at most 1/4, and near 0 at outputs near 0 or 1",
        tests=(
            Test("sigmoid_quarter", largest("sigmoid", "largest").called("largest derivative of a sigmoid"),
                 at_most=0.25),
            Test("relu_one", largest("relu", "inexact").called("share of active ReLUs with a derivative other than 1"),
                 at_most=0.0),
        ),
        kind="check",
    ),
)  # fmt: skip

LAYERS = ("conv1", "conv2", "fc3", "fc4")

ABLATION = Ablation(
    name="gradient_flow",
    title="Gradient flow",
    question="Do identity shortcuts keep gradients stable over depth, and does the sigmoid stop them?",
    claims=CLAIMS,
    plan=plan,
    charts=(
        AgainstField(
            "untrained", "How gradients grow over the depth of untrained networks", growth,
            "decades, last block to first", "depth", "layers", by="network",
            names={PLAIN: "untrained", **{kind(family, norm): f"{family}{words}" for family in FAMILIES
                                          for norm, words in zip(NORMS, (" + BN", ""), strict=True)}},
            references={"level": 0.0},
            caption="Above the line gradients grow on their way back through the network, below it they vanish. The "
            "shortcut adds up what comes back: only batch norm, which divides it by the growing signal, keeps the sum "
            "small.",
        ),
        Drawing({"lenets": tuple(RATES)}),
        ArmTable(
            "identity", "How exactly dx_L/dx_l = I + dF/dx holds",
            {
                f"{over} of its stages": Quantity(DEVIATION, probe="identity", over=over)
                for over in ("least", "greatest")
            },
            "Relative distance of dE/dx_l from dE/dx_L + dE/dx_L * d(sum of F)/dx_l over one stage, in double "
            "precision; medians over seeds, with their range. Rounding alone gives about 1e-15.",
            medians=True, by={"epoch": "epoch"},
        ),
        ArmTable(
            "saturation", "Derivatives below 0.01",
            {layer: replace(small, where={"layer": layer}) for layer in LAYERS},
            "Share of inputs, means over seeds. Of ReLU these are the inactive units, whose derivative is 0.",
            arms=tuple(RATES), by={"epoch": "epoch"},
        ),
    ),
    baseline=f"original_{SHALLOW}",
    views={"hour": View(image_size=16)},
)  # fmt: skip

if __name__ == "__main__":
    main(ABLATION)
