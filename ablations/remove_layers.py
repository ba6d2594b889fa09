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

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Measure, Quantity, computed
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

RESIDUAL, STOCHASTIC, PLAIN, PLAIN_BN = "preact_resnet", "stochastic_depth", "vgg", "vgg_bn"
ERROR = "test/top1_error"


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """Depth, width, epochs and draws that a budget allows on this data."""
    at = Scale.of(budget, data)
    num_pools = min(5, data.image_size.bit_length() - 1)  # down to one pixel at most
    if budget in ("paper", "short"):
        residual: dict[str, Any] = {"depth": 110}
        plain: dict[str, Any] = {"num_pools": num_pools}
        # short: a tenth of the schedule in its own shape, about an hour on one modern GPU.
        recipe: dict[str, Any] = {} if budget == "paper" else {"epochs": at.epochs(18), "precision": FAST_TRAINING}
        plain_recipe = plain_bn_recipe = recipe
        # Hundreds of draws go through the test images of `short`: no more of them than CIFAR-10 has.
        seeds, draws, limit = (8, 100, None) if budget == "paper" else (1, 100, at.limit(10_000))
    else:
        residual = {"depth": 38, "width": 8 if at.small else 16}
        plain = {"width": 16, "hidden": 128, "num_pools": min(3, num_pools) if at.small else num_pools, "dropout": 0.0}
        recipe = {"schedule": "linear", "nesterov": True, "warmup_steps": 40, "batch_size": 64}
        recipe["epochs"] = at.epochs(10, 64)
        # Seven seeds are the fewest that can reproduce one of four claims.
        seeds, draws, limit = 7, 30, at.limit(600)
        if not at.small:
            recipe |= {"batch_size": 128, "epochs": at.epochs(1), "warmup_steps": 60, "precision": FAST_TRAINING}
        if budget == "smoke":
            residual, seeds, draws = {**residual, "depth": 14}, 2, 2
        # A plain network without batch norm needs a small rate, or it blows up, and therefore more epochs.
        if at.small:
            plain_recipe = {**recipe, "learning_rate": 0.015, "warmup_steps": 100, "weight_decay": 1e-4}
            plain_recipe["epochs"] = at.epochs(24, 64)
            plain_bn_recipe = {**recipe, "learning_rate": 0.05}
        else:
            plain_recipe = plain_bn_recipe = {**recipe, "learning_rate": 0.02, "epochs": at.epochs(2)}
        if budget == "smoke":
            recipe, plain_recipe, plain_bn_recipe = (
                {**each, "epochs": 1} for each in (recipe, plain_recipe, plain_bn_recipe)
            )
    preactivated = {**residual, "order": "full_preactivation"}
    arms = (
        Arm(RESIDUAL, "resnet_cifar", preactivated, recipe, "the paper's residual network"),
        Arm("original_resnet", "resnet_cifar", residual, recipe, "ReLU after the addition (He et al. 2015)"),
        Arm(STOCHASTIC, "resnet_cifar", {**preactivated, "survival_prob": 0.5}, recipe,
            "trained with stochastic depth, linear rule (Huang et al. 2016)"),
        Arm(PLAIN, "vgg_cifar", plain, plain_recipe, "the paper's plain network: no batch norm"),
        Arm(PLAIN_BN, "vgg_cifar", {**plain, "batch_norm": True}, plain_bn_recipe, "critics ask for batch norm"),
    )  # fmt: skip
    settings = {
        "most_deleted": 20,
        "draws": draws,
        "reorderings": 2 * draws,
        "most_swaps": 20,
        # Random deletions and orders are asked of every network where time allows, else of the paper's alone.
        "random_arms": [arm.name for arm in arms] if budget in ("paper", "short") else [RESIDUAL],
        "limit": limit,
    }
    return Plan(arms, seeds, settings)


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """Test errors of the network intact, with each block or shortcut deleted, k blocks deleted, and blocks shuffled."""
    import torch

    from ablations.harness.probing import Measurement
    from ablations.probes.lesions import lesions

    network, settings = subject.network, subject.settings
    blocks = dict(network.named_blocks())
    yield Measurement(point("chance"), ERROR, 100.0 - 100.0 / subject.data.num_classes, "%")
    chains = {point("intact"): lesions.chain(network)}
    for position, (name, block) in enumerate(blocks.items(), start=1):
        where = {"block": name, "position": position, "changes_shape": block.changes_shape}
        chains[point("delete", **where)] = lesions.chain(network, {name: "shortcut"})
        if block.merge == "add":
            chains[point("delete_shortcut", **where)] = lesions.chain(network, {name: "branch"})
    batches = list(subject.data.evaluation_batches("test", device=subject.device, limit=settings["limit"]))
    if subject.arm in settings["random_arms"] or "weights" in settings:
        draws = torch.Generator().manual_seed(subject.seed)
        names = list(blocks)
        for k in range(1, min(settings["most_deleted"], len(names)) + 1):
            for draw in range(settings["draws"]):
                chosen = [names[i] for i in torch.randperm(len(names), generator=draws)[:k].tolist()]
                chains[point("delete_random", k=k, draw=draw)] = lesions.chain(
                    network, dict.fromkeys(chosen, "shortcut")
                )
        groups = lesions.interchangeable(network, batches[0][0])
        for draw in range(settings["reorderings"] if groups else 0):
            swaps = 1 + draw % settings["most_swaps"]
            order = lesions.swapped(names, groups, swaps, draws)
            tau = round(lesions.kendall_tau(order, names), 6)
            chains[point("reorder", swaps=swaps, draw=draw, tau=tau)] = lesions.chain(network, order=order)
    errors = lesions.error_rates(network, list(chains.values()), batches, subject.on_pass)
    for where_, error in zip(chains, errors, strict=True):
        yield Measurement(where_, ERROR, error, "%")


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Passes over the images that the probe is worth: common prefixes are walked once, deleted blocks skipped."""
    single = blocks / 2 * (1 if settings["arm"] in (PLAIN, PLAIN_BN) else 2)
    if settings["arm"] not in settings["random_arms"]:
        return 1 + single
    most = min(settings["most_deleted"], blocks)
    return 1 + single + 0.6 * most * settings["draws"] * (1 - most / 2 / blocks) + 0.9 * settings["reorderings"]


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """The paper's three figures, redrawn from the records, and the controls."""
    from reports.drawings.remove_layers import draw

    return draw(records, folder)


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


# -- what decides -----------------------------------------------------------------------------------------------------


OF_CHANCE = "% of the way to chance"
chance, intact = (Quantity(ERROR, "%", f"test error {probe}", probe) for probe in ("chance", "intact"))
deleted = Quantity(ERROR, "%", "test error without a block", "delete", {"changes_shape": "no"}, over="median")


def damage(arm: str) -> Measure:
    """Median damage done by deleting one block that keeps the shape, in % of the way to chance.

    0 is the intact network's error, 100 the error of guessing: a measure that does not depend on how well a network
    was trained, which errors do.
    """
    way = 100 * (deleted(arm) - intact(arm)) / (chance(arm) - intact(arm))
    return way.called(f"median damage of one deletion to {arm}", OF_CHANCE)


def curve(records: Records, seed: int) -> list[float]:
    """Mean test error of the residual network with k = 0, 1, 2, ... random blocks deleted, in %."""
    rows = records.where(arm=RESIDUAL, seed=seed, metric=ERROR)
    by_k: dict[int, list[float]] = {0: rows.where(probe="intact").values()}
    for row in rows.where(probe="delete_random"):
        by_k.setdefault(int(row.fields["k"]), []).append(row.value)
    return [mean(by_k[k]) for k in sorted(by_k) if by_k[k]]  # a diverged run has none


def monotony(records: Records) -> dict[int, float]:
    """Seed -> Kendall correlation of error and number of deleted blocks: share of rising minus falling pairs."""
    found = {}
    for seed in records.seeds(RESIDUAL):
        errors = curve(records, seed)
        pairs = [(a, b) for i, a in enumerate(errors) for b in errors[i + 1 :]]
        if pairs:
            found[seed] = mean((b > a) - (b < a) for a, b in pairs)
    return found


def largest_step(records: Records) -> dict[int, float]:
    """Seed -> largest rise between k and k + 1 deleted blocks, as a share in % of the whole rise."""
    found = {}
    for seed in records.seeds(RESIDUAL):
        errors = curve(records, seed)
        steps = [b - a for a, b in pairwise(errors)]
        if steps and max(errors) > errors[0]:
            found[seed] = 100.0 * max(steps) / (max(errors) - errors[0])
    return found


def reordering(records: Records) -> dict[int, tuple[list[float], list[float]]]:
    """Seed -> Kendall tau and test errors of the shuffled residual network."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    for row in records.where(arm=RESIDUAL, probe="reorder", metric=ERROR):
        taus, errors = found.setdefault(row.seed, ([], []))
        taus.append(float(row.fields["tau"]))
        errors.append(row.value)
    return found


def order_matters(records: Records) -> dict[int, float]:
    """Seed -> Spearman correlation of disorder (1 - tau) and test error."""
    from scipy.stats import spearmanr

    return {
        seed: float(spearmanr([1 - tau for tau in taus], errors).statistic)
        for seed, (taus, errors) in reordering(records).items()
    }


def smallest_disorder(records: Records) -> dict[int, float]:
    """Seed -> mean rise of the error over the least shuffled tenth, as a share in % of the most shuffled tenth's."""
    intact = records.by_seed(arm=RESIDUAL, probe="intact", metric=ERROR)
    found = {}
    for seed, (taus, errors) in reordering(records).items():
        by_disorder = [error for _, error in sorted(zip(taus, errors, strict=True), key=lambda pair: -pair[0])]
        tenth = max(1, len(by_disorder) // 10)
        most = mean(by_disorder[-tenth:]) - intact[seed][0]
        if most > 0:
            found[seed] = 100.0 * (mean(by_disorder[:tenth]) - intact[seed][0]) / most
    return found


of_residual = partial(computed, arms=(RESIDUAL,))
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
            Test("rises", of_residual("Kendall correlation of mean error and number of deleted blocks", "", monotony),
                 at_least=0.8),
            Test("no_jump", of_residual("largest single step as a share of the whole rise", "%", largest_step),
                 at_most=33.0),
        ),
    ),
    Claim(
        "RL3",
        "The error of a ResNet rises smoothly as its blocks are shuffled.",
        f"{VEIT}, section 4.3, figure 5b",
        "figure only: smooth rise as Kendall tau falls",
        tests=(
            Test("rises", of_residual("Spearman correlation of disorder (1 - Kendall tau) and error", "",
                                      order_matters), at_least=0.3),
            Test("no_jump", of_residual("rise at the least shuffled tenth as a share of the rise at the most shuffled",
                                        "%", smallest_disorder), at_most=67.0),
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
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=RESIDUAL,
    summary=summary,
)

if __name__ == "__main__":
    main(ABLATION)
