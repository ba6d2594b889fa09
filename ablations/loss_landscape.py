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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Measure, Quantity, absolute, computed, log2
from ablations.harness.declare.precision import FAST_PROBE, FAST_TRAINING
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

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
TEST_ERROR = "test/top1_error"


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """ResNets of two depths with and without shortcuts; a VGG with small and large batches, with and without decay."""
    from modules.training.recipe import LI2017_CIFAR

    at = Scale.of(budget, data)
    recipe, width, vgg_width, batches = asdict(LI2017_CIFAR), 16, 64, (128, 8192)
    seeds, snapshots = 8, 31
    settings: dict[str, Any] = {
        "limit": 1000,  # images of either split
        "batch_size": 125,
        "steps": 51,
        "span": 1.0,
        "normalise": "filter",
        "vectors": "fixed",
        "batch_norm": "keep",
        "precision": FAST_PROBE,
        "fold": True,
        "compile": False,
        "tolerance": 0.0,
        "draws": 10,
        "line_steps": 21,
        "line_span": 0.5,
        "raw_span": 0.05,  # entries of a direction that is not normalised have a standard deviation of 1
        "pairs": 100,
        "map_steps": 7,
        "map_images": 512,
        "lanczos_steps": 80,
        "trace_draws": 10,
        "sharpness_draws": 3,
        "towards": "",
        "along": "",
    }
    if budget == "short":  # a thirtieth of the schedule in its own shape
        recipe |= {"epochs": at.epochs(10), "precision": FAST_TRAINING}
        snapshots = 11
        settings |= {"steps": 25, "line_steps": 11, "map_steps": 3, "map_images": 256, "lanczos_steps": 60}
    if budget in ("laptop", "smoke"):
        width, vgg_width, batches, snapshots = (8, 8, (32, 256), 13) if at.small else (16, 16, (64, 1024), 4)
        seeds = 1 if at.large else seeds
        recipe |= {"schedule": "linear", "warmup_steps": 40, "batch_size": 64, "epochs": at.epochs(12, 64)}
        if not at.small:
            recipe |= {"batch_size": 128, "warmup_steps": 100, "epochs": at.epochs(3), "precision": FAST_TRAINING}
        settings |= {"line_steps": 7, "map_steps": 3, "lanczos_steps": 40, "trace_draws": 5, "sharpness_draws": 2}
        settings |= {"limit": 500, "steps": 21, "map_images": 96}
        if at.small:
            settings |= {"limit": 200, "steps": 15, "map_images": 64, "batch_size": 100, "precision": "fp32"}
    if budget == "smoke":
        width, vgg_width, seeds, snapshots = 2, 2, 2, 3
        recipe |= {"epochs": 2}
        settings |= {"limit": 64, "steps": 5, "line_steps": 3, "draws": 2, "pairs": 3, "map_steps": 1}
        settings |= {"map_images": 32, "lanczos_steps": 4, "trace_draws": 2, "sharpness_draws": 1}

    def residual(name: str, depth: int, skip: bool) -> Arm:
        shape = {"depth": depth, "width": width, "shortcut": "B", **({} if skip else {"skip": False})}
        return Arm(name, "resnet_cifar", shape, recipe, f"{depth} layers, {'with' if skip else 'without'} shortcuts")

    def vgg(name: str, large: bool, decay: bool) -> Arm:
        chosen = {**recipe, "batch_size": batches[large], "weight_decay": 5e-4 if decay else 0.0}
        chosen["warmup_steps"] = min(recipe["warmup_steps"], 10)
        note = f"batch {batches[large]}, {'with' if decay else 'without'} weight decay"
        return Arm(name, "vgg9_bn", {"width": vgg_width}, chosen, note)

    arms = [residual(name, depth, True) for name, depth in zip(RESIDUAL, (SHALLOW, DEEP), strict=True)]
    arms += [residual(name, depth, False) for name, depth in zip(PLAIN, (SHALLOW, DEEP), strict=True)]
    arms += [vgg(name, large, decay) for name, (large, decay) in BATCHES.items()]
    return Plan(tuple(arms), seeds, settings, snapshots)


def check(settings: Mapping[str, Any], network: Any) -> dict[str, str]:
    """Refuses, before anything is trained, settings that no surface can have and files that do not fit the network.

    Gives the hashes of those files, so that another one in the same place is asked anew.
    """
    from typing import get_args

    from ablations.probes.landscape.directions import Normalise, Vectors, between, refuse_misfits
    from ablations.probes.landscape.point_losses import BatchNormPolicy, Precision
    from ablations.probes.landscape.surface_file import axis
    from modules.blocks.layers import check_choice
    from modules.weights import digest, read_weights

    axis((-settings["span"], settings["span"]), settings["steps"])
    for name in ("line_span", "raw_span"):
        axis((-settings[name], settings[name]), settings["line_steps"])
    for name, words in (
        ("normalise", Normalise), ("vectors", Vectors), ("batch_norm", BatchNormPolicy), ("precision", Precision)
    ):  # fmt: skip
        check_choice(f"--probe.{name}", settings[name], get_args(words))
    if settings["fold"] and (settings["batch_norm"] != "keep" or settings["vectors"] != "fixed"):
        raise ValueError("--probe.fold yes goes with --probe.batch_norm keep and --probe.vectors fixed; give fold no")
    if settings["line_steps"] % 2 == 0:
        raise ValueError(f"--probe.line_steps {settings['line_steps']}: give an odd number, so that one is the centre")
    if settings["tolerance"] < 0:
        raise ValueError(f"--probe.tolerance {settings['tolerance']:g}: give 0 or more")
    for name in ("limit", "batch_size", "draws", "pairs", "map_images", "lanczos_steps", "sharpness_draws"):
        if settings[name] < 1:
            raise ValueError(f"--probe.{name} {settings[name]}: give 1 or more")
    if settings["trace_draws"] < 2:
        raise ValueError(f"--probe.trace_draws {settings['trace_draws']}: give 2 or more, for an error")
    if not 1 <= settings["map_steps"] <= settings["steps"] - 2:
        raise ValueError(f"--probe.map_steps {settings['map_steps']}: give 1 to {settings['steps'] - 2} (steps - 2)")
    if network is None and (settings["towards"] or settings["along"]):
        raise ValueError("--probe.towards and --probe.along go with --network and --weights, which they start from")
    if settings["towards"]:
        between(network, read_weights(settings["towards"], network))
    along = [path for path in settings["along"].split(",") if path]
    if len(along) > 2:
        raise ValueError(f"--probe.along names {len(along)} files; a surface has one or two directions")
    for path in along:
        refuse_misfits(network, read_weights(path))
    files = [path for path in (settings["towards"], *along) if path]
    return {f"content of {path}": digest(sorted(read_weights(path).items())) for path in files}


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """Lines for every network; plane, map, sharpness, way of training and angles for those of the first claims."""
    from ablations.probes.landscape import questions as ask

    yield from ask.lines(subject)
    if subject.arm in BATCHES:
        return
    yield from ask.plane(subject)
    yield from ask.curvature_map(subject)
    yield from ask.centre(subject)
    if subject.arm in (RESIDUAL[1], PLAIN[1]) and subject.snapshots:
        yield from ask.way(subject)
    if subject.arm == RESIDUAL[1] or subject.arm not in ALL:
        yield from ask.angles(subject)
    yield from ask.to_others(subject)


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Passes over the images of a surface; a product with the Hessian is worth five."""
    lines = 2.0 * settings["draws"] * settings["line_steps"]
    if settings["arm"] in BATCHES:
        return lines
    maps = settings["map_steps"] ** 2 * settings["lanczos_steps"]
    products = maps + settings["draws"] + settings["trace_draws"] + 12 * settings["sharpness_draws"]
    planes = 2.0 * settings["steps"] ** 2
    return float(lines + planes + 5 * products * settings["map_images"] / settings["limit"])


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """Surfaces side by side, lines, trajectories, maps, spectra, and sharpness against test error."""
    from reports.drawings.loss_landscape import draw

    return draw(records, folder, map_points)


# -- what decides -----------------------------------------------------------------------------------------------------


def one(records: Records, arm: str, probe: str, metric: str, **fields: object) -> dict[int, float]:
    """Seed -> the one value of a metric."""
    found = records.by_seed(arm=arm, probe=probe, metric=metric, **fields)
    return {seed: values[0] for seed, values in found.items()}


share = Quantity("share_nonconvex", "%", "share of the plane that is not convex", "plane")
cosine = Quantity("cosine/mean_absolute", "", "mean |cosine|", "angle")
expected = Quantity("cosine/expected", "", "expected |cosine|", "angle")
way = Quantity("share/principal", "%", "share of the way of training in two principal components", "way")
random_way = Quantity("share/random", "%", "share of the way of training in two random directions", "way")


def rises(records: Records, normalise: str) -> dict[int, dict[str, list[float]]]:
    """Seed -> arm -> the rise of the loss along each of the lines; only seeds that have all arms."""
    each = {arm: records.by_seed(arm=arm, probe="line", metric="rise", normalise=normalise) for arm in ALL}
    return {seed: {arm: each[arm][seed] for arm in ALL} for seed in each[ALL[0]] if all(seed in each[a] for a in ALL)}


def rank_correlation(records: Records, normalise: str) -> dict[int, float]:
    """Seed -> Spearman's correlation over the arms between mean rise of the loss and test error."""
    from scipy.stats import spearmanr

    errors = {arm: one(records, arm, "test", TEST_ERROR) for arm in ALL}
    found = {}
    for seed, by_arm in rises(records, normalise).items():
        sharpness = [mean(by_arm[arm]) for arm in ALL]
        error = [errors[arm].get(seed, math.nan) for arm in ALL]
        found[seed] = float(spearmanr(sharpness, error).statistic)
    return found


def concordance(records: Records) -> dict[int, float]:
    """Seed -> Kendall's W: how far all lines rank the networks alike, 0 to 1."""
    from scipy.stats import rankdata

    found = {}
    for seed, by_arm in rises(records, "filter").items():
        lines = list(zip(*(by_arm[arm] for arm in ALL), strict=True))
        if any(math.isnan(value) for line in lines for value in line):
            found[seed] = math.nan
            continue
        sums = [sum(ranks) for ranks in zip(*(rankdata(line) for line in lines), strict=True)]
        spread = sum((total - mean(sums)) ** 2 for total in sums)
        n = len(ALL)
        found[seed] = 12 * float(spread) / (len(lines) ** 2 * (n**3 - n))
    return found


class MapPoint(NamedTuple):
    """A point of a plane: its least curvature there (in nats), and |lambda_min / lambda_max|; NaN if not known."""

    seed: int
    alpha: float
    beta: float
    in_plane: float
    ratio: float


def map_points(records: Records, arm: str) -> list[MapPoint]:
    """Every point of an arm's maps; what Lanczos had not settled of lambda_min counts as if it made it less convex."""
    values: dict[tuple[int, float, float], dict[str, float]] = {}
    for row in records.where(arm, probe="map"):
        there = row.seed, float(row.fields["alpha"]), float(row.fields["beta"])
        values.setdefault(there, {})[row.metric] = row.value
    found = []
    for there, point in values.items():
        least, largest = point["hessian/least"] - point["hessian/least_residual"], point["hessian/largest"]
        ratio = abs(least / largest) if largest else math.nan
        found.append(MapPoint(*there, point["curvature/least_in_plane"], ratio))
    return found


def median_over_points(records: Records, convex: bool) -> dict[int, float]:
    """Seed -> median ratio over the points of all maps that look convex, or over those that do not."""
    ratios: dict[int, list[float]] = {}
    for each in (each for arm in PAIRS for each in map_points(records, arm)):
        if math.isfinite(each.in_plane) and math.isfinite(each.ratio) and (each.in_plane > 0) is convex:
            ratios.setdefault(each.seed, []).append(each.ratio)
    return {seed: median(found) for seed, found in ratios.items()}


def correlation(normalise: str) -> Measure:
    """Of sharpness and test error over the networks."""
    says = f"Spearman correlation over the networks of rise and test error, normalisation {normalise}"
    return computed(says, "", lambda records: rank_correlation(records, normalise), ALL)


def looks(convex: bool) -> Measure:
    """The median ratio over the points that look convex, or over those that do not."""
    says = f"median |lambda_min / lambda_max| over the points that {'' if convex else 'do not '}look convex"
    return computed(says, "", lambda records: median_over_points(records, convex), PAIRS)


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
            Test("gain", (correlation("filter") - correlation("none")).called(
                "Spearman correlation over the networks of rise along random lines and test error, with filter "
                "normalisation minus without"), at_least=0.0),
            Test("follows", correlation("filter").called("that correlation with filter normalisation"), at_least=0.0),
        ),
    ),
    Claim(
        "LL3",
        "The picture does not depend on the directions drawn.",
        f"{LI}, appendix, repeats with 10 random directions",
        "figure only: nearly identical curves",
        tests=(
            Test("concordance", computed("Kendall's W of how the lines rank the networks by the rise of the loss", "",
                                         concordance, ALL), at_least=0.8),
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

ABLATION = Ablation(
    name="loss_landscape",
    title="Loss landscape",
    question="Do skip connections smooth the loss, and can pictures of it be trusted?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=RESIDUAL[0],
    check=check,
    needs_blocks=False,
)

if __name__ == "__main__":
    main(ABLATION)
