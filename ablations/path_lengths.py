"""Is the gradient of a deep residual network carried by few and short paths, and do these suffice for training?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
arXiv:1605.06431. Sections 3 and 5, figure 6: how many paths of each length lead through the blocks, how large the
gradient down a single one is, and the product of both; and training with 23 random blocks of 54 per mini-batch, so that
no long path is ever used.

    python ablations/path_lengths.py
    python ablations/path_lengths.py --data mnist --budget hour
    python ablations/path_lengths.py --data cifar10 --budget paper

The network whose paths are measured has the paper's 54 blocks at every budget that decides anything, because the share
of short paths among all depends on their number; on small images it is narrower instead. The untrained network is
asked the same and is the control: random blocks shorten the gradient's paths too, and what counts is what training
adds. To train on short paths alone takes longer, as blocks are left out half of the time: below the short budget that
pair has 18 blocks, of which 8 are kept, and `hour` trains it on 2,000 images until both fit them.
Differs from the paper, which does not say what it did: the gradient is that of training, with batch norm on the
statistics of the batch, on training images without augmentation; when some blocks are left out in training, evaluation
uses all of them, each branch times the share of mini-batches that kept it; networks are trained as He et al. 2016
(1603.05027) do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablations.harness.declare.ablation import Ablation, Amendment, Arm, Claim, Need, Plan, Test
from ablations.harness.declare.chart import Curves, Drawing, Pairs
from ablations.harness.declare.measure import Quantity, counted, top1_error
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import Scale, View
from ablations.harness.declare.series import along, reduced
from ablations.harness.launch import main
from ablations.probes.activations.training_fit import TrainingFit
from ablations.probes.gradients.path_lengths import (
    COUNT,
    MASS,
    NORM,
    PathCounts,
    PathNorms,
    effective_length,
    effective_share,
    line,
    shares,
)
from modules.training.recipe import HE2016_CIFAR

MEASURED, ALL, SHORT = "all_54_blocks", "all_blocks", "short_paths"


def plan(at: Scale) -> Plan:
    """A network of the paper's depth, but for smoke, and a pair trained with all blocks and with some in each batch."""
    depth, of_pair = at(paper=110, smoke=14), at(paper=110, laptop=38, smoke=14)
    kept = round((of_pair - 2) // 2 * 23 / 54)  # of 54 the paper keeps 23
    network = {"width": at(paper=16, laptop=8), "order": "full_preactivation"}
    short = {"epochs": at.epochs(12), "warmup_steps": 100, "precision": FAST_TRAINING}
    recipe = laptop_recipe(at, 12 if at.large else 20, HE2016_CIFAR, short=short)
    longer = {**recipe, **at(paper={}, hour={"epochs": at.epochs_of(4_000, 64)}, smoke={})}
    arms = (
        Arm(MEASURED, "resnet_cifar", {**network, "depth": depth}, recipe, "whose paths are measured"),
        Arm(ALL, "resnet_cifar", {**network, "depth": of_pair}, longer, "every block in every mini-batch"),
        Arm(SHORT, "resnet_cifar", {**network, "depth": of_pair, "kept_blocks": kept}, longer,
            f"{kept} random blocks of {(of_pair - 2) // 2} in each mini-batch"),
    )  # fmt: skip
    draws = at(paper=1000, short=100, laptop=15 if at.large else 30, smoke=2)
    size = at.batch_size(at(paper=128, laptop=16 if at.large else 32))
    limit = min(at(paper=50, short=10, laptop=5, smoke=2) * size, at.num_train)
    gradients = PathNorms(of=(MEASURED,), draws=draws, draws_untrained=-(-draws // 3), batch_size=size, limit=limit)
    fits = TrainingFit(train_images=min(at(paper=10_000, laptop=5_000), at.num_train))
    # Eight can decide a claim of three tests among three either way; ten see what PL4 allows in 2,000 test images.
    return Plan(arms, at(paper=8, hour=10, smoke=2), [PathCounts(of=(MEASURED,)), gradients, fits])


paths_of_54, paths = (
    along(Quantity(COUNT, probe=each)(MEASURED), "length") for each in ("paths_of_54_blocks", "paths")
)
norms, at_start = (
    along(Quantity(NORM, probe="path", where={"state": state})(MEASURED), "length")
    for state in ("trained", "untrained")
)
factor, factor_at_start = (reduced("factor", lambda _, found: line(found)[0], each) for each in (norms, at_start))
length, length_at_start = (reduced("effective length", effective_length, paths, each) for each in (norms, at_start))
error_of = Quantity("train/top1_error", "%", "training error", "trained_on")


def deviation(lengths: Sequence[float], counts: Sequence[float]) -> float:
    """The largest difference over all lengths between the number of paths and the binomial coefficient."""
    return max(abs(count - math.comb(len(counts) - 1, k)) for k, count in enumerate(counts))


def middle(lengths: Sequence[float], counts: Sequence[float]) -> float:
    """Share in % of the paths that go through 19 to 35 blocks."""
    return 100.0 * math.fsum(shares(counts)[19:36])


VEIT = "Veit et al. 2016, arXiv:1605.06431"
ELSEWHERE = "--data mnist --budget hour would do"
trained = Need("trained", error_of(MEASURED), at_most=10.0, met_by=ELSEWHERE)
CONTROL = Amendment(
    "2026-11-28", "tests of the trained network alone", "the untrained network is a control in the same claim",
    "its paths pass the same thresholds, or nearly: a factor of 0.47 and a mean length of 33 %",
)  # fmt: skip

CLAIMS = (
    Claim(
        "PL1",
        "A residual network of n blocks has 2^n paths, whose lengths are distributed binomially.",
        f"{VEIT}, sections 3 and 5, figure 6a",
        "54 blocks: more than 95 % of the paths go through 19 to 35 of them (exactly 98.0 %)",
        tests=(
            Test("binomial", counted(reduced("deviation", deviation, paths_of_54)).called(
                "largest deviation of a number of paths from the binomial coefficient, 54 blocks", "paths"),
                at_most=0.0),
            Test("middle", counted(reduced("middle", middle, paths_of_54)).called(
                "share of the paths of 54 blocks that go through 19 to 35", "%"), at_least=95.0),
        ),
        kind="check",
    ),
    Claim(
        "PL2",
        "The gradient that a path carries shrinks about exponentially with its length, and faster for training.",
        f"{VEIT}, section 5, figure 6b",
        "figure only: about a straight line over the number of blocks, on a logarithmic axis",
        tests=(
            # The effective lengths of the paper (around 11 of 54) follow from a factor of 11 / 43 = 0.26, and are those
            # of all paths at a factor of 1; 0.5 lies halfway on the logarithmic axis. Margins: a third of what digits
            # showed before (a factor of 0.25, trained, and 0.47, untrained).
            Test("factor", factor.called("factor on a path's gradient for each block more"), at_most=0.5, margin=0.08),
            # "About" exponentially: nine tenths of the variation are the line's.
            Test("straight", reduced("R^2", lambda _, found: line(found)[1], norms).called(
                "R^2 of a straight line through log mean norm over length"), at_least=0.9, margin=0.03),
            Test("learned", (factor - factor_at_start).called("that factor, trained minus untrained"), at_most=0.0,
                 margin=0.07),
        ),
        needs=(trained,),
        amended=(CONTROL,),
    ),
    Claim(
        "PL3",
        "Nearly all of the gradient comes from short paths, a tiny share of all, and training makes them shorter.",
        f"{VEIT}, section 5, figure 6c",
        "54 blocks: lengths 5 to 17, 0.45 % of all paths",
        "lengths 9 to 18 (which are 0.99 % of all paths)",
        tests=(
            # Ten times the paper's share is still tiny; the sums of a few lengths grow by such steps.
            Test("few", reduced("effective share", effective_share, paths, norms).called(
                f"share of all paths in the shortest interval of lengths that holds {100 * MASS:g} % of the gradient",
                "%"), at_most=5.0, margin=1.5),
            # Long paths are as few: 20 % are the paper's 11 of 54, 50 % the mean of all paths.
            Test("short", length.called("mean length of a path weighed by the gradient it carries", "% of the blocks"),
                 at_most=35.0, margin=10.0),
            Test("learned", (length - length_at_start).called(
                "that length, trained minus untrained", "% of the blocks"), at_most=0.0, margin=4.0),
        ),
        needs=(trained,),
        amended=(CONTROL,),
    ),
    Claim(
        "PL4",
        "Training only short paths, by keeping a random 23 of 54 blocks in each mini-batch, costs no accuracy.",
        f"{VEIT}, section 5",
        "5.96 % test error against 6.10 % of the whole network, no significant difference (CIFAR-10)",
        tests=(
            # No worse, where networks err by three times that or more.
            Test("cost", (top1_error(SHORT) - top1_error(ALL)).called(
                "test error with 23/54 of the blocks per mini-batch minus with all"), at_most=0.5),
        ),
        needs=(
            # Three times what may be lost.
            Need("room", top1_error(ALL), at_least=1.5, met_by=ELSEWHERE),
            Need("fits", error_of(ALL), at_most=1.0, met_by=ELSEWHERE),
            # What is trained on half of the blocks needs longer; where it has not come as far, that is what costs.
            Need("fits_alike", (error_of(SHORT) - error_of(ALL)).called(
                "training error with 23/54 of the blocks per mini-batch minus with all"), at_most=0.3,
                met_by="--data mnist --budget hour, or else --data cifar10 --budget paper, would do"),
        ),
        amended=(
            Amendment("2026-11-28", "110 layers, 360 steps, whatever they fit",
                      "38 layers below the short budget, where both fit their training images alike and err enough",
                      "the pair was compared at a training loss of 0.50 against 0.011"),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="path_lengths",
    title="Lengths of paths",
    question="Is the gradient of a deep residual network carried by few and short paths, and do these suffice?",
    claims=CLAIMS,
    plan=plan,
    charts=(
        Drawing(),
        Pairs((ALL, SHORT), "test error in %"),
        Curves("training_loss", "Training loss", {"train/loss": "training loss"}, (ALL, SHORT), logarithmic=True),
    ),
    baseline=ALL,
    views={"hour": View(image_size=16, train_images=2_000)},
)

if __name__ == "__main__":
    main(ABLATION)
