"""Is the gradient of a deep residual network carried by few and short paths, and do these suffice for training?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
arXiv:1605.06431. Sections 3 and 4.3, figure 6: how many paths of each length lead through the blocks, how large the
gradient down a single one is, and the product of both. Section 5: training with 23 random blocks of 54 per mini-batch,
so that no long path is ever used.

    python ablations/path_lengths.py
    python ablations/path_lengths.py --data cifar10 --budget paper

The network has the paper's 54 blocks at every budget that decides anything, because the share of short paths among all
depends on their number; on small images it is narrower instead. Differs from the paper, which does not say what it did:
the gradient is that of training, with batch norm on the statistics of the batch, on training images without
augmentation; when some blocks are left out in training, evaluation uses all of them, each branch times the share of
mini-batches that kept it; networks are trained as He et al. 2016 (1603.05027) do. The same is asked of the untrained
network. The laptop budget trains 110 layers for a few hundred steps, far from where the paper stops: what PL4 finds
there holds for the start of training, which blocks that are left out half of the time prolong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean, quantiles
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import computed, top1_error
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

ERROR, COUNT, NORM = "test/top1_error", "paths", "gradient/norm"
ALL, SHORT = "all_blocks", "short_paths"
MASS = 0.95  # of the gradient, which the paper calls "almost all"
PAPER_BLOCKS, PAPER_KEPT = 54, 23


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """Width, epochs and draws that a budget allows on this data; the depth is the paper's but for smoke."""
    from modules.training.recipe import HE2016_CIFAR

    at = Scale.of(budget, data)
    network: dict[str, Any] = {"depth": 110, "order": "full_preactivation"}
    recipe = asdict(HE2016_CIFAR)
    # Eight seeds are the fewest that can decide a claim of two tests, among four claims, either way.
    seeds, draws, batch_size, batches = 8, 1000, 128, 50
    if budget == "short":
        recipe |= {"epochs": at.epochs(12), "warmup_steps": 100, "precision": FAST_TRAINING}
        draws, batches = 100, 10
    if budget in ("laptop", "smoke"):
        network["width"] = 8
        recipe |= {
            "batch_size": 64,
            "schedule": "linear",
            "nesterov": True,
            "epochs": at.epochs(12 if at.large else 20, 64),
        }
        recipe |= {"warmup_steps": 40, "warmup_rate": None}
        draws, batch_size, batches = (15, 16, 5) if at.large else (30, 32, 5)
        if not at.small:
            recipe |= {"batch_size": 128, "epochs": at.epochs(1), "warmup_steps": 60, "precision": FAST_TRAINING}
    if budget == "smoke":
        network["depth"], recipe["epochs"] = 14, 1
        seeds, draws, batches = 2, 2, 2
    blocks = (network["depth"] - 2) // 2
    kept = round(blocks * PAPER_KEPT / PAPER_BLOCKS)
    batch_size = at.batch_size(batch_size)
    arms = (
        Arm(ALL, "resnet_cifar", network, recipe, "every block in every mini-batch"),
        Arm(SHORT, "resnet_cifar", {**network, "kept_blocks": kept}, recipe,
            f"{kept} random blocks of {blocks} in each mini-batch"),
    )  # fmt: skip
    settings = {
        "draws": draws,
        "draws_untrained": -(-draws // 3),
        "batch_size": batch_size,
        "limit": min(batches * batch_size, len(data.train)),
    }
    return Plan(arms, seeds, settings, snapshots=2)


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """Number of paths by length, and norms of the gradient at the images down random paths of each length.

    Asked of the network with all blocks, or of one from outside; lengths count the branches on a path.
    """
    import copy

    import torch

    from ablations.harness.probing import Measurement
    from ablations.probes.gradients.paths import counts_by_length, sampled_norms
    from modules import build

    if subject.arm == SHORT or any(block.merge != "add" for _, block in subject.network.named_blocks()):
        return  # without sums there are no paths to choose among
    with torch.device("meta"):
        paper = build("preact_resnet110", subject.data.num_classes, subject.data.in_channels)
    for network, probe_name in ((paper, "paths_of_54_blocks"), (subject.network, "paths")):
        for length, count in enumerate(counts_by_length(network)):
            yield Measurement(point(probe_name, length=length), COUNT, float(count), "")
    size, limit = subject.settings["batch_size"], subject.settings["limit"]
    batches = list(subject.data.evaluation_batches("train", size, subject.device, limit))
    states = {"trained": (copy.deepcopy(subject.network), subject.settings["draws"])}
    if 0 in subject.snapshots:
        states["untrained"] = (subject.at(0), subject.settings["draws_untrained"])
    for state, (network, draws) in states.items():
        generator = torch.Generator().manual_seed(subject.seed)
        norms = sampled_norms(network.train(), batches, draws, generator, subject.on_pass)
        for length, values in norms.items():
            where = point("path", state=state, length=length)
            yield Measurement(where, NORM, mean(values), "")
            tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
            for name, tenth in (("q10", 1), ("q50", 5), ("q90", 9)):
                yield Measurement(where, f"{NORM}_{name}", tenths[tenth - 1], "")


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Passes over the images of all batches: a path goes back through half of the blocks, in two states."""
    if settings["arm"] == SHORT:
        return 0.0
    draws = settings["draws"] + settings["draws_untrained"]
    return (blocks + 1) * draws * settings["batch_size"] / settings["limit"]


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """The paper's figure 6, seeds of both arms, and the table of effective lengths beside the published ones."""
    from reports.drawings.path_lengths import draw

    return draw(records, folder)


# -- what decides -----------------------------------------------------------------------------------------------------


def counts(records: Records, seed: int, probe_name: str = "paths") -> list[float]:
    """Number of paths of length 0, 1, ..., n through the network."""
    return _by_length(records.where(ALL, seed, probe_name, COUNT))


def mean_norms(records: Records, seed: int, state: str = "trained") -> list[float]:
    """Mean norm of the gradient down a path of length 0, 1, ..., n."""
    return _by_length(records.where(ALL, seed, "path", NORM, state=state))


def _by_length(rows: Records) -> list[float]:
    return [value for _, value in sorted((int(row.fields["length"]), row.value) for row in rows)]


def shares(values: Sequence[float]) -> list[float]:
    """Each value as a share of their sum, in 0..1; empty if the sum is 0."""
    total = math.fsum(values)
    return [value / total for value in values] if total > 0 else []


def gradient_shares(records: Records, seed: int, state: str = "trained") -> list[float]:
    """Share of the gradient that paths of length 0, 1, ..., n carry: their number times their mean norm."""
    found = zip(counts(records, seed), mean_norms(records, seed, state), strict=False)
    return shares([count * norm for count, norm in found])


def interval(mass: Sequence[float], least: float = MASS) -> tuple[int, int]:
    """First and last index of the fewest neighbours whose shares sum to `least` or more; the heaviest such."""
    for width in range(1, len(mass) + 1):
        sums = [math.fsum(mass[first : first + width]) for first in range(len(mass) - width + 1)]
        heaviest = max(sums)
        if heaviest >= least * (1 - 1e-12):
            first = sums.index(heaviest)
            return first, first + width - 1
    raise ValueError(f"{least} of the mass is more than there is, {math.fsum(mass)}")


def share_of_paths(records: Records, seed: int, first: int, last: int) -> float:
    """Share in % of all paths whose length lies in first..last."""
    return 100.0 * math.fsum(shares(counts(records, seed))[first : last + 1])


def largest_deviation(records: Records) -> dict[int, float]:
    """Largest difference over all lengths between the number of paths of 54 blocks and the binomial coefficient."""
    for seed in records.seeds(ALL):
        found = counts(records, seed, "paths_of_54_blocks")
        if found:
            return {seed: max(abs(count - math.comb(len(found) - 1, k)) for k, count in enumerate(found))}
    return {}


def middle_share(records: Records) -> dict[int, float]:
    """Share in % of the paths of 54 blocks that go through 19 to 35 of them."""
    for seed in records.seeds(ALL):
        found = shares(counts(records, seed, "paths_of_54_blocks"))
        if found:
            return {seed: 100.0 * math.fsum(found[19:36])}
    return {}


def line(norms: Sequence[float]) -> tuple[float, float]:
    """Least squares of log10 norm on length, lengths that carry nothing left out: (slope, share of variance R^2).

    Raises ValueError for fewer than three lengths.
    """
    points = [(length, math.log10(norm)) for length, norm in enumerate(norms) if norm > 0]
    if len(points) < 3:
        raise ValueError(f"a line needs three lengths whose paths carry a gradient, got {len(points)}")
    middle, level = (mean(values) for values in zip(*points, strict=True))
    spread_x = math.fsum((x - middle) ** 2 for x, _ in points)
    spread_y = math.fsum((y - level) ** 2 for _, y in points)
    slope = math.fsum((x - middle) * (y - level) for x, y in points) / spread_x
    return slope, slope**2 * spread_x / spread_y if spread_y > 0 else 0.0


def factor(records: Records) -> dict[int, float]:
    """Seed -> what one block more multiplies the gradient of a path by, from the line."""
    return {seed: 10.0 ** line(norms)[0] for seed in records.seeds(ALL) if (norms := mean_norms(records, seed))}


def straightness(records: Records) -> dict[int, float]:
    """Seed -> R^2 of the line."""
    return {seed: line(norms)[1] for seed in records.seeds(ALL) if (norms := mean_norms(records, seed))}


def effective_share(records: Records) -> dict[int, float]:
    """Seed -> share in % of all paths in the shortest interval of lengths that holds 95 % of the gradient."""
    return {
        seed: share_of_paths(records, seed, *interval(mass))
        for seed in records.seeds(ALL)
        if (mass := gradient_shares(records, seed))
    }


def effective_length(records: Records) -> dict[int, float]:
    """Seed -> mean length of a path, weighed by the gradient, in % of the number of blocks."""
    return {
        seed: 100.0 * math.fsum(k * share for k, share in enumerate(mass)) / (len(mass) - 1)
        for seed in records.seeds(ALL)
        if (mass := gradient_shares(records, seed))
    }


of_all = partial(computed, arms=(ALL,))
VEIT = "Veit et al. 2016, arXiv:1605.06431"

CLAIMS = (
    Claim(
        "PL1",
        "A residual network of n blocks has 2^n paths, whose lengths are distributed binomially.",
        f"{VEIT}, sections 3 and 4.3, figure 6a",
        "54 blocks: more than 95 % of the paths go through 19 to 35 of them (exactly 98.0 %)",
        tests=(
            Test("binomial", of_all("largest deviation of a number of paths from the binomial coefficient, 54 blocks",
                                    "paths", largest_deviation, exact=True), at_most=0.0),
            Test("middle", of_all("share of the paths of 54 blocks that go through 19 to 35", "%", middle_share,
                                  exact=True), at_least=95.0),
        ),
    ),
    Claim(
        "PL2",
        "The gradient that a path carries shrinks about exponentially with its length.",
        f"{VEIT}, section 4.3, figure 6b",
        "figure only: about a straight line over the number of blocks, on a logarithmic axis",
        tests=(
            # The effective lengths of the paper (around 11 of 54) follow from a factor of 11 / 43 = 0.26, and are those
            # of all paths at a factor of 1; 0.5 lies halfway on the logarithmic axis.
            Test("factor", of_all("factor on a path's gradient for each block more", "", factor), at_most=0.5),
            # "About" exponentially: nine tenths of the variation are the line's.
            Test("straight", of_all("R^2 of a straight line through log mean norm over length", "", straightness),
                 at_least=0.9),
        ),
    ),
    Claim(
        "PL3",
        "Nearly all of the gradient comes from short paths, which are a tiny share of all paths.",
        f"{VEIT}, section 4.3, figure 6c",
        "54 blocks: lengths 5 to 17, 0.45 % of all paths",
        "lengths 9 to 18 (which are 0.99 % of all paths)",
        tests=(
            # Ten times the paper's share is still tiny; the sums of a few lengths grow by such steps.
            Test("few", of_all(f"share of all paths in the shortest interval of lengths that holds {100 * MASS:g} % of "
                               "the gradient", "%", effective_share), at_most=5.0),
            # Long paths are as few: 20 % are the paper's 11 of 54, 50 % the mean of all paths.
            Test("short", of_all("mean length of a path weighed by the gradient it carries", "% of the blocks",
                                 effective_length), at_most=35.0),
        ),
    ),
    Claim(
        "PL4",
        "Training only short paths, by keeping a random 23 of 54 blocks in each mini-batch, costs no accuracy.",
        f"{VEIT}, section 5",
        "5.96 % test error against 6.10 % of the whole network, no significant difference (CIFAR-10)",
        tests=(
            # Half a point, as this suite allows bf16 (TP1); runs scatter by 0.2. The paper's difference is -0.14.
            Test("cost", (top1_error(SHORT) - top1_error(ALL)).called(
                "test error with 23/54 of the blocks per mini-batch minus with all"), at_most=0.5),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="path_lengths",
    title="Lengths of paths",
    question="Is the gradient of a deep residual network carried by few and short paths, and do these suffice?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=ALL,
)

if __name__ == "__main__":
    main(ABLATION)
