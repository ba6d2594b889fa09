"""Do identity shortcuts keep gradients stable over depth, and does the sigmoid stop them where ReLU does not?

He et al. 2016, "Identity mappings in deep residual networks", arXiv:1603.05027, section 2: within a stage of
pre-activation blocks x_L = x_l + sum of F, hence dx_L/dx_l = I + d(sum of F)/dx_l; after the addition of the original
block stands a ReLU, so that it does not hold there. Of plain networks He et al. 2015, arXiv:1512.03385, section 4.1,
say that with batch norm their gradients have healthy norms, so that vanishing gradients are not why depth hurts them.
Saturation: LeNet-5 as in Zhang et al. 2021, arXiv:2106.11342, section 7.6, with sigmoid, tanh and ReLU.

    python ablations/gradient_flow.py
    python ablations/gradient_flow.py --data cifar10 --budget paper

Differs from the papers: none of them prints these norms. They are those of the loss's gradient by each block's output,
on training images without augmentation and with the batch's statistics, before, during and after training. LeNet-5
with tanh has the rate of the one with ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import ArmTable, Drawing
from ablations.harness.declare.measure import Measure, Quantity, absolute, counted, greatest, least, log10
from ablations.harness.declare.scale import Scale
from ablations.harness.declare.series import along
from ablations.harness.launch import main
from ablations.plain_or_residual import cifar_arm
from ablations.probes.activations.derivatives import ActivationDerivatives
from ablations.probes.gradients.block_gradients import ACTIVATION_NORM, BlockGradients
from ablations.probes.gradients.residual_identity import DEVIATION, ResidualIdentity

# "original" is plain_or_residual's residual network: the same runs.
FAMILIES: dict[str, dict[str, Any]] = {
    "plain": {"skip": False},
    "original": {},
    "preact": {"order": "full_preactivation"},
}
SHALLOW, DEEP = 20, 56
DECADES = "decades"
RATES = {"sigmoid": 0.9, "tanh": 0.1, "relu": 0.1}


def plan(at: Scale) -> Plan:
    """Plain, original and pre-activation networks of two or three depths, and LeNet-5 with three activations."""
    depths = at(paper=(SHALLOW, DEEP, 110), short=(SHALLOW, DEEP))
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
        ActivationDerivatives(snapshots=snapshots, of=tuple(RATES)),
    ]
    # Six seeds can reproduce one of two claims, eight can also contradict one of six tests.
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


small = Quantity("derivative/small", probe="derivative")
# Of sigmoids, in % of all at an epoch, with a mean over the layers.
saturated = (100 * along(small("sigmoid"), "epoch")).averaged()

HE2016 = "He et al. 2016, arXiv:1603.05027"
PREACTS, ORIGINALS = [[f"{family}_{depth}" for depth in (SHALLOW, DEEP)] for family in ("preact", "original")]
# One learning rate serves all layers: within a decade every layer moves at about the same pace.
STABLE = 1.0
# A factor of two is what we call a difference.
DIFFERENT = math.log10(2)
# Rounding in double precision is 1e-16 for each of some hundred operations; a term that is not there is 1e-2 or more.
ROUNDING, ABSENT = 1e-9, 1e-2
# Three layers lie between LeNet-5's first and last block. A sigmoid's slope of at most 1/4 makes that a factor of 64
# or more, ReLU's of 1 for every second unit a factor of 3: 1.3 decades apart, of which one is asked.
LOST = 1.0

CLAIMS = (
    Claim(
        "GF1",
        "dx_L/dx_l = I + dF/dx within a stage of pre-activation blocks keeps gradients stable over depth.",
        f"{HE2016}, section 2, equations 4 and 5; He et al. 2015, arXiv:1512.03385, section 4.1",
        "the identity holds with nothing after the addition; plain networks with batch norm have healthy gradients too",
        "for every ResNet, which thereby fixed vanishing gradients",
        tests=(
            Test("steadier_untrained", (absolute(untrained(DEEP_PLAIN)) - absolute(untrained(DEEP_PREACT))).called(
                f"imbalance of gradients of untrained {DEEP_PLAIN} minus {DEEP_PREACT}"), at_least=DIFFERENT),
            Test("steadier_in_training", (in_training(DEEP_PLAIN) - in_training(DEEP_PREACT)).called(
                f"imbalance of gradients in training of {DEEP_PLAIN} minus {DEEP_PREACT}"), at_least=DIFFERENT),
            Test("stable_untrained", absolute(untrained(DEEP_PREACT)).called(
                f"imbalance of gradients of untrained {DEEP_PREACT}"), at_most=STABLE),
            Test("stable_in_training", in_training(DEEP_PREACT).called(
                f"imbalance of gradients in training of {DEEP_PREACT}"), at_most=STABLE),
            Test("identity", identity(PREACTS, "greatest").called(
                "largest relative deviation from the identity, pre-activation"), at_most=ROUNDING),
            Test("no_identity_in_original", identity(ORIGINALS, "least").called(
                "smallest relative deviation from the identity, original blocks"), at_least=ABSENT),
        ),
    ),
    Claim(
        "GF2",
        "The sigmoid saturates and lets gradients vanish; the derivative of ReLU is exactly 1 on active units.",
        "Zhang et al. 2021, arXiv:2106.11342, section 5.4; Krizhevsky et al. 2012 (NIPS), section 3.1",
        "no number printed: the sigmoid's derivative is at most 1/4 and near 0 at outputs near 0 or 1",
        tests=(
            Test("gradients_lost", (untrained("relu") - untrained("sigmoid")).called(
                "decades that gradients lose towards the first layer, sigmoid minus ReLU, untrained"), at_least=LOST),
            Test("saturates", saturated.rise().called(
                "share of sigmoids with a derivative below 0.01, after training minus before", "% points"),
                at_least=1.0),
            Test("sigmoid_quarter", largest("sigmoid", "largest").called("largest derivative of a sigmoid"),
                 at_most=0.25),
            Test("relu_one", largest("relu", "inexact").called("share of active ReLUs with a derivative other than 1"),
                 at_most=0.0),
        ),
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
)  # fmt: skip

if __name__ == "__main__":
    main(ABLATION)
