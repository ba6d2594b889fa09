"""Do residual networks survive the removal of layers, and plain ones not?

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
arXiv:1605.06431, section 4; figure 8 is of section 6. On a trained network: delete each block in turn (figure 3),
delete k random blocks (figure 5a), shuffle blocks of the same shape (figure 5b). A removed plain layer is replaced by
the parameter-free shape match. Controls that critics ask for: VGG with batch norm, a plain network whose convolutions
are those of a residual one, without the shortcuts, and deleting the shortcut instead of the branch.

    python ablations/remove_layers.py
    python ablations/remove_layers.py --budget hour
    python ablations/remove_layers.py --data cifar10 --budget paper --seeds 8 --trainer.devices 8 --trainer.strategy ddp

The paper's 54 blocks need `hour`; a laptop deletes from fewer in minutes, which is too few to see whether the error
rises smoothly (RL2), and trains stochastic depth too briefly to compare it (RL4).

Differs from the paper: it shows one network each, here every claim rests on paired seeds. Its training protocol is not
published; ours are the networks' own (see `modules/training/recipe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from ablations.harness.declare.ablation import Ablation, Amendment, Arm, Claim, Need, Plan, Test
from ablations.harness.declare.chart import ArmTable, Drawing
from ablations.harness.declare.measure import Measure, Quantity, absolute, counted, greatest, least
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import Scale, View
from ablations.harness.declare.series import along, reduced
from ablations.harness.launch import main
from ablations.harness.store.records import Records
from ablations.probes.chance import Chance
from ablations.probes.lesions.delete import DeleteEach, LesionsAtRandom

RESIDUAL, STOCHASTIC, PLAIN, PLAIN_BN = "preact_resnet", "stochastic_depth", "vgg", "vgg_bn"
TWIN, PAIR = "plain_twin", "residual_twin"
ERROR = "test/top1_error"
SMALL = View(image_size=16, train_images=7_200)  # as wide as digits; few enough for whole epochs in a short training


def plan(at: Scale) -> Plan:
    """Residual and plain networks, deleted from one by one, at random and in other orders."""
    width = at(paper=16, laptop=8)
    residual = {"depth": at(paper=110, laptop=44, hour=110, smoke=14), "width": width, "order": "full_preactivation"}
    # Deep enough that nobody would call it shallow, and shallow enough to be trained without shortcuts.
    twin = {**residual, "depth": at(paper=32, laptop=26, hour=32, smoke=8)}
    num_pools = min(5, at.image_size.bit_length() - 1)  # down to one pixel at most
    plain: Mapping[str, Any] = at(paper={"num_pools": num_pools}, laptop={
        "num_pools": min(3, num_pools), "width": 16, "hidden": 128, "dropout": 0.0,
    })  # fmt: skip

    def recipe(laptop: int, hour: int, **others: object) -> dict[str, Any]:
        """Lengths in epochs of the digits; others: what a laptop and an hour have of their own."""
        return laptop_recipe(
            at, 1,
            # short: a tenth of the schedule in its own shape, about an hour on one modern GPU.
            short={"epochs": at.epochs(18), "precision": FAST_TRAINING},
            laptop={"batch_size": 32, "epochs": at.epochs(laptop, 32), **others},
            hour={"batch_size": 64, "epochs": at.epochs(hour, 64)},
        )  # fmt: skip

    # A plain network without batch norm needs a small rate, or it blows up, and therefore more steps.
    slow = {"learning_rate": 0.02, "warmup_steps": 100, "weight_decay": 1e-4}
    arms = (
        Arm(RESIDUAL, "resnet_cifar", residual, recipe(6, 20), "the paper's residual network"),
        Arm(STOCHASTIC, "resnet_cifar", {**residual, "survival_prob": 0.5}, recipe(8, 60),
            "trained with stochastic depth, linear rule (Huang et al. 2016), and longer, for an equal error"),
        Arm(PLAIN, "vgg_cifar", plain, recipe(14, 50, **slow), "the paper's plain network: no batch norm"),
        Arm(PLAIN_BN, "vgg_cifar", {**plain, "batch_norm": True}, recipe(6, 20, learning_rate=0.05),
            "critics ask for batch norm"),
        Arm(TWIN, "resnet_cifar", {**twin, "skip": False}, recipe(6, 40), "residual_twin without its shortcuts"),
        Arm(PAIR, "resnet_cifar", twin, recipe(6, 40), "the same convolutions as plain_twin"),
    )  # fmt: skip
    # Hundreds of draws go through the test images of `short`: no more of them than CIFAR-10 has.
    limit = at(paper=None, short=at.limit(10_000), laptop=at.limit(600), hour=at.limit(2_000))
    draws = at(paper=100, laptop=10, hour=20, smoke=2)
    # Lesions at random are asked of every network where time allows, else of the paper's alone.
    some = at(paper=limit, hour=at.limit(1_000))
    random = LesionsAtRandom(of=at(paper=(), laptop=(RESIDUAL,)), draws=draws, reorderings=4 * draws, limit=some)
    # Eight seeds are the fewest that can decide a claim of three tests, among four claims, either way.
    seeds = at(paper=8, short=1, laptop=8, smoke=2)
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
any_deleted = Quantity(ERROR, "%", "test error without a block", "delete")
blocks = counted(
    reduced("number", lambda places, _: float(len(places)), along(any_deleted(RESIDUAL), "position"))
).called("number of the ResNet's blocks", "")
# What a plain network loses beyond a residual one: VGG beside the ResNet, and the twins, which differ in nothing else.
GAPS = (damage(PLAIN) - damage(RESIDUAL), damage(PLAIN_BN) - damage(RESIDUAL), damage(TWIN) - damage(PAIR))


RESHAPING = {
    f"without {block}, %": Quantity(ERROR, "%", probe="delete", where={"block": block})
    for block in ("stage2_block1", "stage3_block1")
}


def trained(*arms: str) -> Need:
    """They err far less than by guessing, so that there is something to destroy."""
    errors = greatest(*map(intact, arms)).called(f"largest test error of {', '.join(arms)}, intact")
    return Need("trained", errors, at_most=30.0, met_by="a longer training (--budget hour, short or paper)")


# The paper prints figures only: margins are a third of the way from a threshold to what they show.
VEIT = "Veit et al. 2016, arXiv:1605.06431"

CLAIMS = (
    Claim(
        "RL1",
        "Deleting one block of a trained ResNet barely moves its error; deleting one layer of a VGG destroys it.",
        f"{VEIT}, section 4.1, figure 3",
        "figure only: ResNet-110 stays near its error except at downsampling blocks; VGG-15 goes to chance (90 %)",
        tests=(
            Test("gap", least(*GAPS).called(
                "median damage of one deletion, plain minus residual, the least of VGG, VGG with batch norm, and twins "
                "with the same convolutions"), at_least=33.0, margin=22.0),
            Test("resnet_survives", damage(RESIDUAL).called("median damage of one deletion to the ResNet"),
                 at_most=10.0, margin=3.0),
            Test("by_few_points", (deleted(RESIDUAL) - whole).called(
                "median rise of the ResNet's test error by one deletion"), at_most=5.0, margin=1.5),
        ),
        needs=(trained(RESIDUAL, PLAIN, PLAIN_BN, TWIN, PAIR),),
        amended=(
            Amendment("2026-11-20", "the ResNet loses at most 10 points, VGG 30 more", "at most 33 % of the way to "
                      "chance, VGG 50 % more (commit fd8855e)", "one rule for all data; it is wider, after pilots"),
            Amendment("2026-11-28", "at most 33 % of the way to chance", "at most 10 % of it and 5 points; twins "
                      "of the same convolutions", "a third is no small damage, and VGG lacks more than shortcuts"),
        ),
    ),
    Claim(
        "RL2",
        "The error of a ResNet rises smoothly with the number of deleted blocks.",
        f"{VEIT}, section 4.2, figure 5a",
        "figure only: smooth rise over 1 to 20 deleted blocks of 54",
        tests=(
            Test("rises", curve.rises().called("Kendall correlation of mean error and number of deleted blocks", ""),
                 at_least=0.8, margin=0.07),
            Test("no_jump", (100 * curve.steps().over("greatest") / (curve.over("greatest") - whole)).called(
                "largest single step as a share of the whole rise", "%"), at_most=33.0, margin=9.0),
        ),
        needs=(
            trained(RESIDUAL),
            # The curve goes to 20 deleted blocks: in the paper that is a part of them, and in fewer blocks it is all.
            Need("blocks", blocks, at_least=40.0, met_by="--budget hour would do"),
        ),
        amended=(
            Amendment("2026-11-28", "any number of blocks", "40 or more", "one step of 18 is a third of the rise by "
                      "itself, and deleting all blocks is no smooth change"),
        ),
    ),
    Claim(
        "RL3",
        "The error of a ResNet rises smoothly as its blocks are shuffled.",
        f"{VEIT}, section 4.3, figure 5b",
        "figure only: smooth rise as Kendall tau falls",
        tests=(
            Test("rises", shuffled.rank_correlation().called(
                "Spearman correlation of disorder (1 - Kendall tau) and error", ""), at_least=0.3, margin=0.17),
            Test("no_jump", (100 * (shuffled.first(10) - whole) / (shuffled.last(10) - whole)).called(
                "rise at the least shuffled tenth as a share of the rise at the most shuffled", "%"), at_most=67.0,
                 margin=19.0),
        ),
        needs=(trained(RESIDUAL),),
    ),
    Claim(
        "RL4",
        "A ResNet trained with stochastic depth resists deletion at least as well.",
        f"{VEIT}, section 6, figure 8; Huang et al. 2016, arXiv:1603.09382",
        "figure only: slightly more resilient, mainly at downsampling blocks",
        tests=(
            Test("at_least_as_well", (damage(STOCHASTIC) - damage(RESIDUAL)).called(
                "median damage of one deletion, with stochastic depth minus without"), at_most=3.0),
        ),
        needs=(
            trained(RESIDUAL, STOCHASTIC),
            Need("equal", absolute(intact(STOCHASTIC) - whole).called("difference of the intact errors"), at_most=2.0,
                 met_by="a longer training of stochastic_depth (--budget hour)"),
        ),
        amended=(
            Amendment("2026-11-28", "at most 5 % of the way, trained as long", "at most 3 %, trained to an equal error",
                      "as many steps left stochastic depth with several times the error"),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="remove_layers",
    title="Removing layers",
    question="Do residual networks survive the removal of layers, and plain ones not?",
    claims=CLAIMS,
    plan=plan,
    charts=(
        Drawing(),
        ArmTable(
            "deletions",
            "Deleting one block: median, maximum, and the blocks that change the shape",
            {
                "intact, %": intact,
                "without a block, median, %": deleted,
                "maximum, %": replace(any_deleted, over="greatest"),
                **RESHAPING,
            },
            "Test errors, means over seeds. The median is over blocks that keep the shape, as the rules count it; the "
            "maximum over all blocks. The last columns are the downsampling blocks of residual networks.",
        ),
    ),
    views={"laptop": SMALL, "hour": SMALL},
    baseline=RESIDUAL,
    summary=summary,
)

if __name__ == "__main__":
    main(ABLATION)
