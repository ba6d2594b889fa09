"""Do skip connections smooth the loss, and can pictures of it be trusted?

Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the loss landscape of neural nets", arXiv:1712.09913: surfaces of
networks with and without shortcuts (section 6), filter normalisation and sharpness (section 5), repeats with other
directions, trajectories in principal components (section 7), and the Hessian behind what looks convex (section 6).

    python ablations/loss_landscape.py
    python ablations/loss_landscape.py --data cifar10 --arms residual_56 plain_56
    python ablations/loss_landscape.py --network timm:resnet18 --weights FILE --probe.steps 51 --workers 2
    python ablations/loss_landscape.py --network resnet56 --weights A --probe.towards B

Differs from the paper: surfaces are of a fixed random subset of the training images, with the standard error of the
loss; laptop budgets have narrower networks, fewer epochs and a linear schedule. All networks train at 0.1, those
without shortcuts too (the authors' scripts say 0.1 for 56 layers, the text 0.01). Test images are only looked at for
their surface, nothing is chosen by them. Batch norm keeps its running statistics, biases and batch norm stay fixed, as
in the paper; --probe.batch_norm and --probe.vectors change that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from statistics import mean, median
from typing import Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import ArmTable, Drawing, Strips
from ablations.harness.declare.measure import Invented, Measure, Quantity, absolute, computed, log2, several, top1_error
from ablations.harness.declare.precision import FAST_PROBE, FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import Scale
from ablations.harness.declare.series import along, reduced
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point
from ablations.probes.landscape.convexity import map_points
from ablations.probes.landscape.joined import Joined
from ablations.probes.landscape.lines import Angles, Lines
from ablations.probes.landscape.plane import Plane
from ablations.probes.landscape.way import Way
from modules.training.recipe import LI2017_CIFAR

SHALLOW, DEEP = 20, 56
RESIDUAL, PLAIN = ((f"{kind}_{SHALLOW}", f"{kind}_{DEEP}") for kind in ("residual", "plain"))
PAIRS = (*RESIDUAL, *PLAIN)
BATCHES = {  # VGG-9 of section 5: what is large, and whether weights decay
    "vgg9_small_batch": (False, True),
    "vgg9_small_batch_no_decay": (False, False),
    "vgg9_large_batch": (True, True),
    "vgg9_large_batch_no_decay": (True, False),
}
ALL = (*PAIRS, *BATCHES)


def plan(at: Scale) -> Plan:
    """ResNets of two depths with and without shortcuts; a VGG with small and large batches, with and without decay."""
    width = at(paper=16, laptop=8, cifar=16, smoke=2)
    recipe = laptop_recipe(
        at, 12, LI2017_CIFAR,
        short={"epochs": at.epochs(10), "precision": FAST_TRAINING},  # a thirtieth of the schedule in its own shape
        cifar={"warmup_steps": 100, "epochs": at.epochs(3)}, smoke={"epochs": 2},
    )  # fmt: skip

    def resnet(name: str, depth: int, skip: bool) -> Arm:
        shape = {"depth": depth, "width": width, "shortcut": "B", **({} if skip else {"skip": False})}
        return Arm(name, "resnet_cifar", shape, recipe, f"{depth} layers, {'with' if skip else 'without'} shortcuts")

    def vgg(name: str, large: bool, decay: bool) -> Arm:
        size = at(paper=(128, 8192), laptop=(32, 256), cifar=(64, 1024))[large]
        chosen = {"batch_size": size, "weight_decay": 5e-4 if decay else 0.0}
        chosen["warmup_steps"] = min(recipe["warmup_steps"], 10)
        note = f"batch {size}, {'with' if decay else 'without'} weight decay"
        return Arm(name, "vgg9_bn", {"width": at(paper=64, laptop=8, cifar=16, smoke=2)}, {**recipe, **chosen}, note)

    surfaces: dict[str, Any] = {
        "limit": at(paper=1000, laptop=200, cifar=500, smoke=64),
        "batch_size": at(paper=125, laptop=100, cifar=125),
        "precision": at(paper=FAST_PROBE, laptop="fp32", cifar=FAST_PROBE),
    }
    steps, draws = at(paper=51, short=25, laptop=15, cifar=21, smoke=5), at(paper=10, smoke=2)
    return Plan(
        arms=[
            *(resnet(name, depth, True) for name, depth in zip(RESIDUAL, (SHALLOW, DEEP), strict=True)),
            *(resnet(name, depth, False) for name, depth in zip(PLAIN, (SHALLOW, DEEP), strict=True)),
            *(vgg(name, large, decay) for name, (large, decay) in BATCHES.items()),
        ],
        seeds=at(paper=8, laptop=1 if at.large else 8, smoke=2),
        probes=[
            Lines(**surfaces, draws=draws, line_steps=at(paper=21, short=11, laptop=7, smoke=3)),
            Plane(
                of=PAIRS, **surfaces, steps=steps, draws=draws,
                map_steps=at(paper=7, short=3, smoke=1),
                map_images=at(paper=512, short=256, laptop=64, cifar=96, smoke=32),
                lanczos_steps=at(paper=80, short=60, laptop=40, smoke=4),
                trace_draws=at(paper=10, laptop=5, smoke=2),
                sharpness_draws=at(paper=3, laptop=2, smoke=1),
            ),
            Way(of=(RESIDUAL[1], PLAIN[1]), **surfaces, steps=steps,
                snapshots=at(paper=31, short=11, laptop=13, cifar=4, smoke=3)),
            Angles(of=(RESIDUAL[1],), pairs=at(paper=100, smoke=3)),
            Joined(**surfaces, steps=steps),
        ],
    )  # fmt: skip


rise = Quantity("rise", "nats", "rise of the loss", "line", {"normalise": "filter"})
raw_rise = Quantity("rise", "nats", "rise of the loss", "line", {"normalise": "none"})
share = Quantity("share_nonconvex", "%", "share of the plane that is not convex", "plane")
cosine = Quantity("cosine/mean_absolute", "", "mean |cosine|", "angle")
expected = Quantity("cosine/expected", "", "expected |cosine|", "angle")
way = Quantity("share/principal", "%", "share of the way of training in two principal components", "way")
random_way = Quantity("share/random", "%", "share of the way of training in two random directions", "way")


def correlation(rises: Quantity) -> Measure:
    """Spearman's correlation of sharpness and test error over the networks of a seed."""

    def spearman(values: list[float]) -> float:
        from scipy.stats import spearmanr

        return float(spearmanr(values[: len(ALL)], values[len(ALL) :]).statistic)

    says = f"Spearman correlation over the networks of rise and test error, normalisation {rises.where['normalise']}"
    sharpness = [along(rises(arm), "draw").over("mean") for arm in ALL]
    found = several("rank correlation", spearman, (*sharpness, *map(top1_error, ALL))).called(says, "")
    return replace(found, formula=f"rank correlation over arms(mean([{rises}] along draw), [{top1_error}])")


def agreement(rises: Quantity) -> Measure:
    """Kendall's W, 0 to 1: how far all lines rank the networks of a seed alike."""

    def concordance(*networks: list[float]) -> float:
        from scipy.stats import rankdata

        lines = list(zip(*networks, strict=True))
        sums = [sum(ranks) for ranks in zip(*map(rankdata, lines), strict=True)]
        spread, n = sum((total - mean(sums)) ** 2 for total in sums), len(networks)
        return 12 * float(spread) / (len(lines) ** 2 * (n**3 - n))

    found = reduced("concordance", concordance, *(along(rises(arm), "draw") for arm in ALL))
    says = "Kendall's W of how the lines rank the networks by the rise of the loss"
    return replace(found, formula=f"concordance over arms([{rises}] along draw)", says=says, unit="")


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

    return computed(says, "", partial(median_ratio, convex=convex), PAIRS, invent)


def median_ratio(records: Records, convex: bool) -> dict[int, float]:
    """Seed -> median ratio over the points of all maps that look convex, or over those that do not."""
    ratios: dict[int, list[float]] = {}
    for each in (each for arm in PAIRS for each in map_points(records, arm)):
        if math.isfinite(each.in_plane) and math.isfinite(each.ratio) and (each.in_plane > 0) is convex:
            ratios.setdefault(each.seed, []).append(each.ratio)
    return {seed: median(found) for seed, found in ratios.items()}


LI = "Li et al. 2018, arXiv:1712.09913"

CLAIMS = (
    Claim(
        "LL1",
        "Skip connections keep the loss smooth; without them deep networks have chaotic, non-convex surroundings.",
        f"{LI}, section 6, figures 1 and 5",
        "figures only; test error with shortcuts 5.89 % at 56 layers, 13.31 % without (7.37 and 8.18 % at 20)",
        tests=(
            # Ten points, because a share of a grid says little about a few of its points.
            Test("deep", (share(PLAIN[1]) - share(RESIDUAL[1])).called(
                f"share of the plane that is not convex, {DEEP} layers without minus with shortcuts"), at_least=10.0),
            Test("depth", ((share(RESIDUAL[0]) - share(RESIDUAL[1])) - (share(PLAIN[0]) - share(PLAIN[1]))).called(
                f"growth of that share from {SHALLOW} to {DEEP} layers, without minus with shortcuts"), at_least=0.0),
        ),
    ),
    Claim(
        "LL2",
        "Filter normalisation makes pictures comparable: with it, sharper networks err more, without it need not.",
        f"{LI}, section 5, figures 2 to 4, table 1",
        "figures only; VGG-9 errs 7.37 % (batch 128) and 11.07 % (8192) without decay, 6.0 and 10.19 % with",
        tests=(
            Test("gain", (correlation(rise) - correlation(raw_rise)).called(
                "Spearman correlation over the networks of rise along random lines and test error, with filter "
                "normalisation minus without"), at_least=0.0),
            Test("follows", correlation(rise).called("that correlation with filter normalisation"), at_least=0.0),
        ),
    ),
    Claim(
        "LL3",
        "The picture does not depend on the directions drawn.",
        f"{LI}, appendix, repeats with 10 random directions",
        "figure only: nearly identical curves",
        tests=(
            Test("concordance", agreement(rise), at_least=0.8),
        ),
    ),
    Claim(
        "LL4",
        "Two random directions are nearly orthogonal.",
        f"{LI}, section 7",
        "expected |cosine| about sqrt(2 / (pi n)) of n entries",
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
        "Random directions miss the trajectory of training; two principal components hold most of it.",
        f"{LI}, section 7, figures 8 and 9",
        "40 to 90 % of the variation in two principal components; random directions: almost nothing",
        tests=(
            Test("principal", way(RESIDUAL[1]).called(way.says), at_least=50.0),
            Test("random", random_way(RESIDUAL[1]).called(random_way.says), at_most=1.0),
        ),
    ),
    Claim(
        "LL6",
        "Where the picture looks convex the loss is: |lambda_min / lambda_max| of the Hessian is small there.",
        f"{LI}, section 6, figure 7",
        "figure only: near 0 in convex-looking regions (below 1 % in much of DenseNet's), large in chaotic ones",
        tests=(
            Test("convex", looks(convex=True), at_most=0.1),
            Test("gap", (looks(convex=False) - looks(convex=True)).called(
                "median ratio where it does not look convex minus where it does"), at_least=0.0),
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
        caption="Points where the loss curves downwards in some direction of the plane. The table below says at which "
        "loss each network ended: one that fits badly is seen from another height.",
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
)

if __name__ == "__main__":
    main(ABLATION)
