"""Do residual networks survive the removal of layers, and plain ones not?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
arXiv:1605.06431, section 4. On a trained network: delete each block in turn (figure 3), delete k random blocks
(figure 5a), shuffle blocks of the same shape (figure 5b). A removed plain layer is replaced by the parameter-free shape
match. Two controls that critics ask for: VGG with batch norm, and deleting the shortcut instead of the branch.

    python ablations/remove_layers.py
    python ablations/remove_layers.py --data cifar10 --budget paper --seeds 5 --trainer.devices 8 --trainer.strategy ddp

Differs from the paper: it shows one network each, here every claim rests on paired seeds. Its training protocol is not
published; ours are the networks' own (see `modules/training/recipe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import Drawing
from ablations.harness.declare.measure import Measure, Quantity
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import Scale
from ablations.harness.declare.series import along
from ablations.harness.launch import main
from ablations.harness.store.records import Records
from ablations.probes.chance import Chance
from ablations.probes.lesions.delete import DeleteEach, LesionsAtRandom

RESIDUAL, STOCHASTIC, PLAIN, PLAIN_BN = "preact_resnet", "stochastic_depth", "vgg", "vgg_bn"
ERROR = "test/top1_error"


def plan(at: Scale) -> Plan:
    """Residual networks of one depth and VGG networks, deleted from one by one, at random and in other orders."""
    residual = {"depth": at(paper=110, laptop=38, smoke=14), "width": at(paper=16, laptop=8, cifar=16)}
    preactivated = {**residual, "order": "full_preactivation"}
    num_pools = min(5, at.image_size.bit_length() - 1)  # down to one pixel at most
    sizes: Mapping[str, Any] = at(paper={}, laptop={"width": 16, "hidden": 128, "dropout": 0.0})
    plain = {**sizes, "num_pools": at(paper=num_pools, laptop=min(3, num_pools), cifar=num_pools)}
    # short: a tenth of the schedule in its own shape, about an hour on one modern GPU.
    recipe = laptop_recipe(at, 10, short={"epochs": at.epochs(18), "precision": FAST_TRAINING})
    # A plain network without batch norm needs a small rate, or it blows up, and therefore more epochs.
    slow = {"learning_rate": 0.015, "warmup_steps": 100, "weight_decay": 1e-4, "epochs": at.epochs(24, 64)}
    slow_large = {"learning_rate": 0.02, "epochs": at.epochs(2)}
    smoke = at(paper={}, smoke={"epochs": 1})
    of_plain = {**recipe, **at(paper={}, laptop=slow, cifar=slow_large), **smoke}
    of_plain_bn = {**recipe, **at(paper={}, laptop={"learning_rate": 0.05}, cifar=slow_large), **smoke}
    arms = (
        Arm(RESIDUAL, "resnet_cifar", preactivated, recipe, "the paper's residual network"),
        Arm("original_resnet", "resnet_cifar", residual, recipe, "ReLU after the addition (He et al. 2015)"),
        Arm(STOCHASTIC, "resnet_cifar", {**preactivated, "survival_prob": 0.5}, recipe,
            "trained with stochastic depth, linear rule (Huang et al. 2016)"),
        Arm(PLAIN, "vgg_cifar", plain, of_plain, "the paper's plain network: no batch norm"),
        Arm(PLAIN_BN, "vgg_cifar", {**plain, "batch_norm": True}, of_plain_bn, "critics ask for batch norm"),
    )  # fmt: skip
    # Hundreds of draws go through the test images of `short`: no more of them than CIFAR-10 has.
    limit = at(paper=None, short=at.limit(10_000), laptop=at.limit(600))
    draws = at(paper=100, laptop=30, smoke=2)
    # Lesions at random are asked of every network where time allows, else of the paper's alone.
    random = LesionsAtRandom(of=at(paper=(), laptop=(RESIDUAL,)), draws=draws, reorderings=2 * draws, limit=limit)
    # Seven seeds are the fewest that can reproduce one of four claims.
    seeds = at(paper=8, short=1, laptop=7, smoke=2)
    return Plan(arms, seeds, [Chance(), DeleteEach(limit=limit, shortcuts=True), random])


def summary(records: Records) -> list[str]:
    """What deleting each block in turn did to the test error of one network."""
    rows = sorted(records.where(probe="delete", metric=ERROR), key=lambda row: row.value)
    if not rows:
        return []
    least, middle, most = rows[0].value, median(row.value for row in rows), rows[-1].value
    return [
        f"Deleting one of its {len(rows)} blocks: test error {middle:.2f} % in the median, from {least:.2f} % to "
        f"{most:.2f} % ({rows[-1].fields['block']})."
    ]


chance, intact = (Quantity(ERROR, "%", f"test error {probe}", probe) for probe in ("chance", "intact"))
deleted = Quantity(ERROR, "%", "test error without a block", "delete", {"changes_shape": "no"}, over="median")


def damage(arm: str) -> Measure:
    """Median damage done by deleting one block that keeps the shape, in % of the way to chance.

    0 is the intact network's error, 100 the error of guessing: a measure that does not depend on how well a network
    was trained, which errors do.
    """
    way = 100 * (deleted(arm) - intact(arm)) / (chance(arm) - intact(arm))
    return way.called(f"median damage of one deletion to {arm}", "% of the way to chance")


whole = intact(RESIDUAL)
some_deleted = Quantity(ERROR, "%", "test error without k blocks", "delete_random")
curve = along(some_deleted(RESIDUAL), "k").averaged().starting_at(whole)
shuffled = along(Quantity(ERROR, "%", "test error with blocks shuffled", "reorder")(RESIDUAL), "tau", downwards=True)
VEIT = "Veit et al. 2016, arXiv:1605.06431"

CLAIMS = (
    Claim(
        "RL1",
        "Deleting one block of a trained ResNet barely moves its error; deleting one layer of a VGG destroys it.",
        f"{VEIT}, section 4.1, figure 3",
        "figure only: ResNet-110 stays near its error except at downsampling blocks; VGG-15 goes to chance (90 %)",
        tests=(
            Test("gap", (damage(PLAIN) - damage(RESIDUAL)).called("median damage of one deletion, VGG minus ResNet"),
                 at_least=50.0),
            Test("resnet_survives", damage(RESIDUAL).called("median damage of one deletion to the ResNet"),
                 at_most=33.0),
            Test("not_batch_norm", (damage(PLAIN_BN) - damage(RESIDUAL)).called(
                "median damage of one deletion, VGG with batch norm minus ResNet"), at_least=50.0),
        ),
    ),
    Claim(
        "RL2",
        "The error of a ResNet rises smoothly with the number of deleted blocks.",
        f"{VEIT}, section 4.2, figure 5a",
        "figure only: smooth rise over 1 to 20 deleted blocks of 54",
        tests=(
            Test("rises", curve.rises().called("Kendall correlation of mean error and number of deleted blocks", ""),
                 at_least=0.8),
            Test("no_jump", (100 * curve.steps().over("greatest") / (curve.over("greatest") - whole)).called(
                "largest single step as a share of the whole rise", "%"), at_most=33.0),
        ),
    ),
    Claim(
        "RL3",
        "The error of a ResNet rises smoothly as its blocks are shuffled.",
        f"{VEIT}, section 4.3, figure 5b",
        "figure only: smooth rise as Kendall tau falls",
        tests=(
            Test("rises", shuffled.rank_correlation().called(
                "Spearman correlation of disorder (1 - Kendall tau) and error", ""), at_least=0.3),
            Test("no_jump", (100 * (shuffled.first(10) - whole) / (shuffled.last(10) - whole)).called(
                "rise at the least shuffled tenth as a share of the rise at the most shuffled", "%"), at_most=67.0),
        ),
    ),
    Claim(
        "RL4",
        "A ResNet trained with stochastic depth resists deletion at least as well.",
        f"{VEIT}, section 5, figure 8; Huang et al. 2016, arXiv:1603.09382",
        "figure only: slightly more resilient, mainly at downsampling blocks",
        tests=(
            Test("at_least_as_well", (damage(STOCHASTIC) - damage(RESIDUAL)).called(
                "median damage of one deletion, with stochastic depth minus without"), at_most=5.0),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="remove_layers",
    title="Removing layers",
    question="Do residual networks survive the removal of layers, and plain ones not?",
    claims=CLAIMS,
    plan=plan,
    charts=(Drawing(),),
    baseline=RESIDUAL,
    summary=summary,
)

if __name__ == "__main__":
    main(ABLATION)
