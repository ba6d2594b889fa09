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

from collections.abc import Iterator, Mapping, Sequence
from math import log10
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Measure, Quantity, computed, counted, greatest, least
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point
from ablations.plain_or_residual import cifar_arm, protocol

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

# "original" is plain_or_residual's residual network: the same runs.
FAMILIES: dict[str, dict[str, Any]] = {
    "plain": {"skip": False},
    "original": {},
    "preact": {"order": "full_preactivation"},
}
SHALLOW, DEEP = 20, 56
RATES = {"sigmoid": 0.9, "tanh": 0.1, "relu": 0.1}
ACTIVATION_NORM, PARAMETER_NORM = "gradient/activation", "gradient/parameters"


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """Plain, original and pre-activation networks of two or three depths, and LeNet-5 with three activations."""
    chosen, at = protocol(budget, data), Scale.of(budget, data)
    depths = (SHALLOW, DEEP, 110) if budget == "paper" else (SHALLOW, DEEP)
    arms = [
        cifar_arm(f"{family}_{depth}", depth, chosen, **arguments)
        for family, arguments in FAMILIES.items()
        for depth in depths
    ]
    recipe: dict[str, Any] = {}
    if budget in ("smoke", "laptop"):
        # 130 epochs are the published number of steps, which the sigmoid needs to leave its plateau.
        recipe = {"batch_size": 64, "epochs": at.epochs(130, 64)} if at.small else {"epochs": at.epochs(3, 256)}
        if budget == "smoke":
            recipe["epochs"] = 2
    arms += [
        Arm(name, "lenet5", {"activation": name}, {**recipe, "learning_rate": rate}, "LeNet-5")
        for name, rate in RATES.items()
    ]
    settings = {"limit": 256, "batch_size": 64, "identity_images": 16, "lenets": list(RATES)}
    # Six seeds can reproduce one of two claims, eight can also contradict one of six tests.
    return Plan(tuple(arms), 2 if budget == "smoke" else 8, settings, snapshots=3 if budget == "smoke" else 5)


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """At every snapshot: gradient norms of each block, and the residual identity or the activations' derivatives."""
    from ablations.harness.probing import Measurement
    from ablations.probes.gradients.gradients import activation_derivatives, block_norms, identity_deviations

    settings = subject.settings
    batches = list(
        subject.data.evaluation_batches("train", settings["batch_size"], subject.device, limit=settings["limit"])
    )
    images, labels = (tensor[: settings["identity_images"]] for tensor in batches[0])
    for epoch in subject.snapshots or (0,):  # a network that was given with its weights has no snapshots
        network = subject.at(epoch) if subject.snapshots else subject.network
        norms = block_norms(network, batches, subject.on_pass)
        for position, (name, found) in enumerate(norms.items(), start=1):
            where = point("gradient", epoch=epoch, position=position, block=name)
            yield Measurement(where, ACTIVATION_NORM, found.activation, "")
            yield Measurement(where, PARAMETER_NORM, found.parameters, "")
        if subject.arm in settings["lenets"]:
            for layer, slopes in activation_derivatives(network, batches, subject.on_pass).items():
                name = layer.partition(".")[0]
                where = point("derivative", epoch=epoch, layer=name)
                for metric in ("mean", "largest", "small", "inexact"):
                    yield Measurement(where, f"derivative/{metric}", getattr(slopes, metric), "")
                for number, share in enumerate(slopes.histogram):
                    at = point("derivative_bin", epoch=epoch, layer=name, bin=number, bins=len(slopes.histogram))
                    yield Measurement(at, "derivative/share", share, "")
        elif network.block(network.order[0]).merge == "add":
            for stage, deviation in enumerate(identity_deviations(network, images, labels), start=1):
                yield Measurement(point("identity", epoch=epoch, stage=stage), "relative_deviation", deviation, "")


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Five snapshots, each forward and backward; identities of a few images in double precision."""
    return 5 * (4 if settings["arm"] in settings["lenets"] else 7)


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """Gradient norms over depth and over training, the identity, and the derivatives of the activations."""
    from reports.drawings.gradient_flow import draw

    return draw(records, folder, list(RATES))


# -- what decides -----------------------------------------------------------------------------------------------------


def decades(records: Records, arm: str) -> dict[int, dict[int, float]]:
    """Seed -> epoch -> log10 of the gradient's norm at the first block's output over that at the last block's.

    Positive where gradients grow on their way back to the first block, negative where they vanish.
    """
    rows = records.where(arm=arm, probe="gradient", metric=ACTIVATION_NORM)
    norms: dict[tuple[int, int], dict[int, float]] = {}
    for row in rows:
        norms.setdefault((row.seed, int(row.fields["epoch"])), {})[int(row.fields["position"])] = row.value
    found: dict[int, dict[int, float]] = {}
    for (seed, epoch), by_position in norms.items():
        first, last = by_position[min(by_position)], by_position[max(by_position)]
        if first > 0 and last > 0:
            found.setdefault(seed, {})[epoch] = log10(first / last)
    return found


def imbalance(records: Records, arm: str, trained: bool) -> dict[int, float]:
    """Seed -> by how many decades the first and the last block's gradients differ, either way: 0 is perfectly stable.

    trained: the mean over the snapshots after the first, else the untrained network.
    """
    found = {}
    for seed, by_epoch in decades(records, arm).items():
        chosen = [abs(value) for epoch, value in by_epoch.items() if (epoch > 0) == trained]
        if chosen:
            found[seed] = mean(chosen)
    return found


def unbalanced(arm: str, trained: bool) -> Measure:
    """The imbalance of an arm's gradients, untrained or in training."""
    when = "in training" if trained else "untrained"
    return computed(f"imbalance of gradients {when} of {arm}", DECADES, lambda r: imbalance(r, arm, trained), (arm,))


def identity(arms: Sequence[str], choose: Literal["least", "greatest"]) -> Measure:
    """The largest or smallest deviation from the identity over all runs and stages."""
    deviation = Quantity("relative_deviation", "", "relative deviation from the identity", "identity", over=choose)
    return counted({"least": least, "greatest": greatest}[choose](*map(deviation, arms)), choose)


def largest(arm: str, metric: str) -> Measure:
    """The largest value over all layers, snapshots and seeds."""
    return counted(Quantity(f"derivative/{metric}", "", probe="derivative", over="greatest")(arm), "greatest")


def saturated(records: Records, arm: str) -> dict[int, float]:
    """Seed -> share of activations, in %, whose derivative is below 0.01, after training minus before.

    The mean over the layers, at the last snapshot.
    """
    shares: dict[int, dict[int, list[float]]] = {}
    for row in records.where(arm=arm, probe="derivative", metric="derivative/small"):
        shares.setdefault(row.seed, {}).setdefault(int(row.fields["epoch"]), []).append(100.0 * row.value)
    return {
        seed: mean(by_epoch[max(by_epoch)]) - mean(by_epoch[0])
        for seed, by_epoch in shares.items()
        if 0 in by_epoch and max(by_epoch) > 0
    }


def lost_more(records: Records) -> dict[int, float]:
    """Seed -> decades that gradients lose from the last layer to the first, with sigmoid minus with ReLU, untrained."""
    found = {arm: decades(records, arm) for arm in ("sigmoid", "relu")}
    return {
        seed: found["relu"][seed][0] - by_epoch[0]
        for seed, by_epoch in found["sigmoid"].items()
        if 0 in by_epoch and 0 in found["relu"].get(seed, {})
    }


HE2016 = "He et al. 2016, arXiv:1603.05027"
DECADES = "decades"
DEEP_PLAIN, DEEP_PREACT = f"plain_{DEEP}", f"preact_{DEEP}"
PREACTS, ORIGINALS = [[f"{family}_{depth}" for depth in (SHALLOW, DEEP)] for family in ("preact", "original")]
# One learning rate serves all layers: within a decade every layer moves at about the same pace.
STABLE = 1.0
# A factor of two is what we call a difference.
DIFFERENT = log10(2)
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
            Test("steadier_untrained", (unbalanced(DEEP_PLAIN, False) - unbalanced(DEEP_PREACT, False)).called(
                f"imbalance of gradients of untrained {DEEP_PLAIN} minus {DEEP_PREACT}"), at_least=DIFFERENT),
            Test("steadier_in_training", (unbalanced(DEEP_PLAIN, True) - unbalanced(DEEP_PREACT, True)).called(
                f"imbalance of gradients in training of {DEEP_PLAIN} minus {DEEP_PREACT}"), at_least=DIFFERENT),
            Test("stable_untrained", unbalanced(DEEP_PREACT, False).called(
                f"imbalance of gradients of untrained {DEEP_PREACT}"), at_most=STABLE),
            Test("stable_in_training", unbalanced(DEEP_PREACT, True), at_most=STABLE),
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
            Test("gradients_lost", computed(
                "decades that gradients lose towards the first layer, sigmoid minus ReLU, untrained", DECADES,
                lost_more, ("sigmoid", "relu")), at_least=LOST),
            Test("saturates", computed(
                "share of sigmoids with a derivative below 0.01, after training minus before", "% points",
                lambda r: saturated(r, "sigmoid"), ("sigmoid",)), at_least=1.0),
            Test("sigmoid_quarter", largest("sigmoid", "largest").called("largest derivative of a sigmoid"),
                 at_most=0.25),
            Test("relu_one", largest("relu", "inexact").called("share of active ReLUs with a derivative other than 1"),
                 at_most=0.0),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="gradient_flow",
    title="Gradient flow",
    question="Do identity shortcuts keep gradients stable over depth, and does the sigmoid stop them?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=f"original_{SHALLOW}",
)

if __name__ == "__main__":
    main(ABLATION)
