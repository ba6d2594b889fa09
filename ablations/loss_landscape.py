"""Do skip connections smooth the loss, and can pictures of it be trusted?

Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the loss landscape of neural nets", arXiv:1712.09913: surfaces of
networks with and without shortcuts (section 6), filter normalisation and sharpness (section 5), repeats with other
directions, trajectories in principal components (section 7), and the Hessian behind what looks convex (section 6).

    python ablations/loss_landscape.py
    python ablations/loss_landscape.py --budget hour
    python ablations/loss_landscape.py --network timm:resnet18 --weights FILE --probe.steps 51 --workers 2
    python ablations/loss_landscape.py --network resnet56 --weights A --probe.towards B

Where the effect can exist: around networks that were trained. Without shortcuts 56 layers need a smaller rate and
many epochs, which `hour` gives all four networks alike; a laptop's minutes leave them untrained, and LL1 and LL6 out of
reach. Curvature counts where the network is better than guessing, for far away every loss levels off. A network that
fits less well is seen from another height, so that the 56 layers with shortcuts are also seen as they were in training
when they fitted as well as those without do at the end.

Differs from the paper: surfaces are of a fixed random subset of the training images, with the standard error of the
loss; budgets below `short` have narrower networks and fewer epochs. At `paper` all networks train at 0.1, those without
shortcuts too (the authors' scripts say 0.1 for 56 layers, the text 0.01). Test images are only looked at for their
surface, nothing is chosen by them. Batch norm keeps its running statistics, biases and batch norm stay fixed, as
in the paper; --probe.batch_norm and --probe.vectors change that. Digits leave VGG-9 no errors to compare: on grey
images it is trained on digits that are turned, scaled and moved, once and for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import mean
from typing import Any

from ablations.harness.declare.ablation import Ablation, Amendment, Arm, Claim, Need, Plan, Test
from ablations.harness.declare.chart import ArmTable, Drawing, Strips
from ablations.harness.declare.measure import (
    Invented,
    Measure,
    Quantity,
    absolute,
    computed,
    greatest,
    least,
    log2,
    top1_error,
)
from ablations.harness.declare.precision import FAST_PROBE, FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import Scale, View
from ablations.harness.declare.series import along, reduced
from ablations.harness.launch import main
from ablations.harness.store.records import point
from ablations.probes.activations.training_fit import TrainingFit
from ablations.probes.landscape.convexity import median_ratio, share_at_loss_of
from ablations.probes.landscape.earlier import Earlier
from ablations.probes.landscape.joined import Joined
from ablations.probes.landscape.lines import Angles, Lines, correlated
from ablations.probes.landscape.plane import Plane
from ablations.probes.landscape.way import Way
from modules.training.recipe import LI2017_CIFAR

SHALLOW, DEEP = 20, 56
RESIDUAL, PLAIN = ((f"{kind}_{SHALLOW}", f"{kind}_{DEEP}") for kind in ("residual", "plain"))
PAIRS = (*RESIDUAL, *PLAIN)
BATCHES = {  # VGG-9 of section 5: whether batches are large, and whether weights decay
    "vgg9_small_batch": (False, True),
    "vgg9_small_batch_no_decay": (False, False),
    "vgg9_large_batch": (True, True),
    "vgg9_large_batch_no_decay": (True, False),
}
BEST, NO_DECAY, LARGE, LARGE_NO_DECAY = BATCHES
WORSE = ((LARGE, BEST), (LARGE_NO_DECAY, NO_DECAY), (NO_DECAY, BEST))  # the first of two errs more
WIDE = ("vgg9_wide", "residual_20_wide")  # whose pictures are repeated with other directions


def plan(at: Scale) -> Plan:
    """ResNets of two depths with and without shortcuts; a VGG with small and large batches, with and without decay."""
    width = at(paper=16, laptop=8, cifar=16, smoke=2)

    def recipe(laptop: int, hour: int, **in_hour: object) -> dict[str, Any]:
        """So many epochs of digits."""
        return laptop_recipe(
            at, laptop, LI2017_CIFAR,
            short={"epochs": at.epochs(10), "precision": FAST_TRAINING},  # a thirtieth of the schedule in its own shape
            cifar={"warmup_steps": 100, "epochs": at.epochs(3)}, smoke={"epochs": 2},
            hour={"epochs": at.epochs(hour, 64), **in_hour} if at.small else {},
        )  # fmt: skip

    # All four at the rate at which 56 layers without shortcuts fit best.
    pairs = recipe(12, 90, schedule="milestones", milestones=(0.75, 0.9), learning_rate=0.03)
    batches, wide = recipe(30, 60), recipe(8, 20)
    # Weights shrink by decay times steps, of which a laptop has a hundredth of the paper's.
    decays = at(paper=5e-4, laptop=5e-3, cifar=5e-4)
    on_digits = at(paper=False, laptop=at.channels == at.places == 1, cifar=False)
    turned = {"name": "distorted_digits", "kind": "RTS", "size": 20, "fresh": False} if on_digits else {}

    def resnet(name: str, depth: int, skip: bool) -> Arm:
        shape = {"depth": depth, "width": width, "shortcut": "B", **({} if skip else {"skip": False})}
        return Arm(name, "resnet_cifar", shape, pairs, f"{depth} layers, {'with' if skip else 'without'} shortcuts")

    def vgg(name: str, large: bool, decay: bool) -> Arm:
        size = at(paper=(128, 8192), laptop=(32, 512), cifar=(64, 1024))[large]
        chosen = {"batch_size": size, "weight_decay": decays if decay else 0.0}
        chosen["warmup_steps"] = min(batches["warmup_steps"], 10)
        note = f"batch {size}, {'with' if decay else 'without'} weight decay"
        shape = {"width": at(paper=64, laptop=8, cifar=16, smoke=2)}
        return Arm(name, "vgg9_bn", shape, {**batches, **chosen}, note, data=turned)

    surfaces: dict[str, Any] = {
        "limit": at(paper=1000, laptop=100, cifar=500, smoke=64),
        "batch_size": at(paper=125, laptop=100, cifar=125),
        "precision": at(paper=FAST_PROBE, laptop="fp32", cifar=FAST_PROBE),
    }
    steps, draws = at(paper=51, short=25, laptop=15, cifar=21, hour=25, smoke=5), at(paper=10, smoke=2)
    of_directions = at(paper=3, laptop=1, hour=5)
    snapshots = at(paper=31, short=11, laptop=13, cifar=4, hour=31, smoke=3)
    return Plan(
        arms=[
            *(resnet(name, depth, True) for name, depth in zip(RESIDUAL, (SHALLOW, DEEP), strict=True)),
            *(resnet(name, depth, False) for name, depth in zip(PLAIN, (SHALLOW, DEEP), strict=True)),
            *(vgg(name, large, decay) for name, (large, decay) in BATCHES.items()),
            Arm(WIDE[0], "vgg9_bn", {"width": at(paper=64, laptop=32, smoke=2)}, wide, "for repeated pictures"),
            Arm(WIDE[1], "resnet_cifar", {"depth": SHALLOW, "width": at(paper=16, smoke=2), "shortcut": "B"}, wide,
                "for repeated pictures"),
        ],
        seeds=at(paper=8, laptop=1 if at.large else 8, hour=8, smoke=2),
        probes=[
            # An hour draws more: with ten, a network's likeness is off by up to 0.04, and LL3 could not be decided.
            Lines(
                **surfaces, draws=at(paper=10, hour=40, smoke=2),
                line_steps=at(paper=21, short=11, laptop=7, hour=11, smoke=3),
            ),
            Plane(
                of=PAIRS, **surfaces, steps=steps, draws=draws, pairs=of_directions,
                map_steps=at(paper=7, short=3, hour=5, smoke=1),
                map_images=at(paper=512, short=256, laptop=32, cifar=96, hour=64, smoke=32),
                lanczos_steps=at(paper=80, short=60, laptop=40, smoke=4),
                trace_draws=at(paper=10, laptop=5, smoke=2),
                sharpness_draws=at(paper=3, laptop=2, smoke=1),
            ),
            Earlier(of=(RESIDUAL[1],), **surfaces, steps=steps, pairs=of_directions, snapshots=snapshots),
            Way(of=(RESIDUAL[1], PLAIN[1]), **surfaces, steps=steps, snapshots=snapshots),
            Angles(of=(RESIDUAL[1],), pairs=at(paper=100, smoke=3)),
            Joined(**surfaces, steps=steps),
            TrainingFit(train_images=min(5_000, at.num_train)),
        ],
    )  # fmt: skip


fitted = Quantity("train/loss", "nats", "training loss", "trained_on")
rise = Quantity("rise", "nats", "rise of the loss", "line", {"normalise": "filter"})
raw_rise = Quantity("rise", "nats", "rise of the loss", "line", {"normalise": "none"})
share = Quantity("share_nonconvex", "%", "share of the plane that is not convex", "plane", over="mean")
cosine = Quantity("cosine/mean_absolute", "", "mean |cosine|", "angle")
expected = Quantity("cosine/expected", "", "expected |cosine|", "angle")
way, random_way, walk = (
    Quantity(f"share/{of}", "%", f"share of {what}", "way")
    for of, what in {
        "principal": "the way of training in two principal components",
        "random": "the way of training in two random directions",
        "random_walk": "a random walk with steps as long in two principal components",
    }.items()
)
HOUR = "--data digits --budget hour would do"


def trained(*arms: str) -> tuple[Need, ...]:
    """That each of the arms fits its training images."""
    return tuple(Need(f"{arm}_fits", fitted(arm), at_most=0.1, met_by=HOUR) for arm in arms)


def sharper(rises: Quantity, errs_more: str, errs_less: str) -> Measure:
    """By how many powers of 2 random lines rise higher around one network than around another."""
    return (along(rises(errs_more), "draw") / along(rises(errs_less), "draw")).log2().over("mean")


def told_apart(first: str, second: str) -> Measure:
    """Share in % of the pairs of lines, one of each network, that order the two as most pairs do."""

    def share_alike(ours: list[float], theirs: list[float]) -> float:
        won = 100.0 * mean(a > b for a in ours for b in theirs)
        return max(won, 100.0 - won)

    found = reduced("told apart", share_alike, along(rise(first), "draw"), along(rise(second), "draw"))
    return found.called("share of the pairs of lines, one of either network, that order the two by the rise alike", "%")


def as_well_fitted() -> Measure:
    """The share around the deep residual network as it was in training when it fitted as the plain one does at last."""
    arm, other = RESIDUAL[1], PLAIN[1]

    def invent(value: float) -> Iterator[Invented]:
        yield other, "centre", "train/loss", 0.1
        yield arm, point("earlier", epoch=1), "train/loss", 0.1
        yield arm, point("earlier", epoch=1), "share_nonconvex", value

    says = f"share of the plane of {arm} that is not convex, at the training loss of {other}"
    return computed(says, "%", partial(share_at_loss_of, arm=arm, other=other), (arm, other), invent)


def looks(convex: bool) -> Measure:
    """The median ratio over the points that look convex, or over those that do not."""
    says = f"median |lambda_min / lambda_max| over the points that {'' if convex else 'do not '}look convex"

    def invent(value: float) -> Iterator[Invented]:
        metrics = {
            "curvature/least_in_plane": 1.0 if convex else -1.0, "hessian/least": -max(value, 0.0),
            "hessian/least_residual": 0.0, "hessian/largest": 1.0,
        }  # fmt: skip
        for arm in PAIRS:
            for metric, number in metrics.items():
                yield arm, point("map", alpha=float(convex), beta=0.0), metric, number

    return computed(says, "", partial(median_ratio, arms=PAIRS, convex=convex), PAIRS, invent)


LI = "Li et al. 2018, arXiv:1712.09913"
DATE = "2026-11-28"

CLAIMS = (
    Claim(
        "LL1",
        "Skip connections keep the loss smooth; without them deep networks have chaotic, non-convex surroundings.",
        f"{LI}, section 6, figures 1 and 5",
        "figures only; test error with shortcuts 5.89 % at 56 layers, 13.31 % without (7.37 and 8.18 % at 20)",
        tests=(
            # Of the hundred or so points of a plane that are better than guessing, five are the least that matter.
            Test("deep", (share(PLAIN[1]) - greatest(share(RESIDUAL[1]), as_well_fitted())).called(
                f"share of the plane that is not convex, {DEEP} layers without shortcuts minus with, at the end or as "
                "well fitted, whichever is more"), at_least=0.0, margin=5.0),
            Test("depth", (share(PLAIN[1]) - share(PLAIN[0])).called(
                f"growth of that share from {SHALLOW} to {DEEP} layers without shortcuts"), at_least=0.0, margin=5.0),
        ),
        needs=trained(*PAIRS),
        amended=(
            Amendment(DATE, "10 % of all points; 56 layers without shortcuts untrained (loss 1.4)",
                      "more of those better than guessing; all trained to a loss of 0.1, compared at equal loss too",
                      "a plateau far away is no chaos, and the height of the centre changes the picture"),
        ),
    ),
    Claim(
        "LL2",
        "Filter normalisation makes pictures comparable: with it, sharper networks err more, without it need not.",
        f"{LI}, section 5, figures 2 to 4, table 1",
        "figures only; VGG-9 errs 7.37 % (batch 128) and 11.07 % (8192) without decay, 6.0 and 10.19 % with",
        tests=(
            Test("follows", least(*(sharper(rise, *two) for two in WORSE)).called(
                "log2 of the rise along filter-normalised lines, of the network that errs more over the one that errs "
                "less (large over small batches with and without decay, none over decay), the least of the three"),
                at_least=0.0, margin=0.2),
            Test("misleads", least(*(sharper(raw_rise, *two) for two in WORSE)).called(
                "the same along lines without normalisation"), at_most=0.0, margin=0.2),
        ),
        needs=(
            *trained(*BATCHES),
            # 450 images tell the error of one network to a point or two.
            *(Need(f"{more}_errs_more", top1_error(more) - top1_error(less), at_least=2.0, met_by=HOUR)
              for more, less in WORSE),
        ),
        amended=(
            Amendment(DATE, "rank correlation of rise and error over eight networks on digits",
                      "three pairs of VGG-9 that differ in batches or decay, on distorted digits",
                      "errors differed by an image or two"),
        ),
    ),
    Claim(
        "LL3",
        "The picture does not depend on the directions drawn.",
        f"{LI}, appendix, repeats with 10 random directions",
        "figure only: nearly identical curves",
        tests=(
            Test("alike", least(*map(correlated, WIDE)).called(
                "mean correlation of the logarithms of the losses along two random lines of a network, the lesser of "
                "VGG-9 and ResNet-20"), at_least=0.9, margin=0.05),
            # Any two valleys correlate (0.92 between networks of the first evidence), so that lines of one network must
            # also tell it from another one: half of the pairs do by chance.
            Test("told_apart", told_apart(*WIDE), at_least=90.0, margin=15.0),
        ),
        needs=trained(*WIDE),
        amended=(
            Amendment(DATE, "concordance of the order of eight networks", "correlation of curves within a network, and "
                      "two networks told apart", "networks that are equally sharp have no order"),
        ),
    ),
    Claim(
        "LL4",
        "Two random directions are nearly orthogonal.",
        f"{LI}, section 7",
        "expected |cosine| about sqrt(2 / (pi n)) of n entries",
        kind="check",
        tests=(
            Test("angle", cosine(RESIDUAL[1], normalise="filter").called(
                "mean |cosine| of two filter-normalised directions"), at_most=0.05),
            Test("formula", absolute(log2(
                cosine(RESIDUAL[1], normalise="none") / expected(RESIDUAL[1], normalise="none")
            )).called("|log2| of the mean |cosine| of Gaussian directions over sqrt(2 / (pi n))"), at_most=0.3),
        ),
    ),
    Claim(
        "LL5",
        "Two principal components hold most of the way of training.",
        f"{LI}, section 7, figure 9",
        "40 to 90 % of the variation in two principal components",
        tests=(
            # A tenth of the paper's span is what matters.
            Test("principal", (way(RESIDUAL[1]) - walk(RESIDUAL[1])).called(
                "share of the way of training in two principal components minus that of a random walk with steps as "
                "long"), at_least=0.0, margin=5.0),
        ),
        needs=trained(RESIDUAL[1]),
        amended=(
            Amendment(DATE, "at least 50 %", "more than of a random walk with steps as long", "of a walk with equal "
                      "steps 77 % lie in two components"),
        ),
    ),
    Claim(
        "LL5b",
        "Random directions miss the way of training.",
        f"{LI}, section 7, figure 8",
        "figure only: almost nothing of the variation",
        kind="check",
        tests=(
            Test("random", random_way(RESIDUAL[1]).called(random_way.says), at_most=1.0),
        ),
    ),
    Claim(
        "LL6",
        "Where the picture looks convex the loss is: |lambda_min / lambda_max| of the Hessian is small there.",
        f"{LI}, section 6, figure 7",
        "figure only: near 0 in convex-looking regions (below 1 % in much of DenseNet's), large in chaotic ones",
        tests=(
            # "Large" means several tenths: a tenth is the least to speak of, and a twentieth is none.
            Test("convex", looks(convex=True), at_most=0.1, margin=0.05),
            Test("gap", (looks(convex=False) - looks(convex=True)).called(
                "median ratio where it does not look convex minus where it does"), at_least=0.1, margin=0.05),
        ),
        needs=(
            *trained(*PAIRS),
            Need("rough", share(PLAIN[1]), at_least=10.0, met_by=HOUR),
        ),
        amended=(
            Amendment(DATE, "all points of the plane; larger by anything", "points better than guessing, of trained "
                      "networks; larger by a tenth", "far away every loss levels off; the paper's figure shows tenths"),
        ),
    ),
)  # fmt: skip

COLUMNS = {
    "training loss": ("centre", "train/loss"),
    "its standard error": ("centre", "train/loss_standard_error"),
    "not convex, %": ("plane", "share_nonconvex"),
    "excess variation": ("plane", "excess_variation"),
    "holes": ("plane", "holes"),
    "curvature along": ("curvature", "curvature/along"),
    "largest eigenvalue": ("centre", "hessian/largest"),
    "its error over starts": ("centre", "hessian/largest_standard_error"),
    "trace": ("centre", "hessian/trace"),
    "trace, error over draws": ("centre", "hessian/trace_standard_error"),
    "epsilon-sharpness, %": ("centre", "epsilon_sharpness"),
    "sharpness, error over draws": ("centre", "epsilon_sharpness_standard_error"),
    "deviation from fp32, % of range": ("plane", "deviation/from_fp32"),
}
CHARTS = (
    Drawing({"deep": [RESIDUAL[1], PLAIN[1]]}),
    Strips(
        "nonconvex", "How much of the surface is not convex", share, "share of the plane that is not convex, %",
        caption="Points better than guessing where the loss curves downwards in some direction of the plane. The table "
        "below says at which loss each network ended: one that fits badly is seen from another height.",
    ),
    ArmTable(
        "sharpness", "Sharpness of the trained networks",
        {name: Quantity(metric, probe=probe, over="mean") for name, (probe, metric) in COLUMNS.items()},
        "Mean over seeds +- standard deviation. Curvature, eigenvalues, trace and losses in nats.", spread=True,
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="loss_landscape",
    title="Loss landscape",
    question="Do skip connections smooth the loss, and can pictures of it be trusted?",
    claims=CLAIMS,
    plan=plan,
    charts=CHARTS,
    baseline=RESIDUAL[0],
    views={"hour": View(image_size=16, train_images=2_000)},  # so that it is as long as on digits
)

if __name__ == "__main__":
    main(ABLATION)
