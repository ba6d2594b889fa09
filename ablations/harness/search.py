"""Random search, `--search N`: every arm that declares what may vary gets N candidates, and takes over the best one.

The criterion is that of Srivastava et al. 2015 (arXiv:1507.06228, section 3.1): the lowest training loss of the last
epoch, read from metrics.csv; a candidate that diverged counts as infinite. Candidates are ordinary runs with a seed of
their own, so that they are kept, resumed and shared like any other. Like any other they end with an evaluation on the
test set: it is never read here, printed or reported.

What is tried follows from the arm alone, and what is chosen from the files alone: every process that prepares the same
trial arrives at the same plan.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ablations.harness.declare.ablation import Ablation, Arm, Plan
from ablations.harness.store.integrity import digest
from ablations.harness.store.runs import Run
from modules.training.recipe import Recipe

SEED = 1000  # of every candidate, beyond those of the arms (MAX_SEEDS)
CRITERION = "lowest training loss in the last epoch; the candidates' test errors are not looked at"
RECIPE_FIELDS = frozenset(each.name for each in fields(Recipe))


@dataclass(frozen=True)
class Search:
    """What was tried for an arm; losses: of the last epoch in nats, infinite if diverged, None if not trained yet."""

    arm: Arm
    candidates: tuple[Arm, ...]
    runs: tuple[Run, ...]
    losses: tuple[float | None, ...] = field(default=())

    @property
    def best(self) -> int | None:
        """The index of the candidate that is taken; None while one is missing, or if all of them diverged."""
        known = [loss for loss in self.losses if loss is not None]
        if len(known) < len(self.candidates) or not any(map(math.isfinite, known)):
            return None
        return known.index(min(known))

    @property
    def chosen(self) -> Arm:
        """The arm with the values of the best candidate, or as declared if there is none."""
        return self.arm if self.best is None else replace(self.candidates[self.best], note=self.arm.note)

    def __str__(self) -> str:
        if self.best is None:
            why = "every candidate diverged, so the script's own values"
            if None in self.losses:
                why = f"not yet, the script's own values until its {len(self.candidates)} candidates are trained"
            return f"{self.arm.name}: {why}"
        values = ", ".join(f"{k} {v}" for k, v in _varied(self.arm, self.candidates[self.best]).items())
        return (
            f"{self.arm.name}: {values}, the best of {len(self.candidates)}, training loss {self.losses[self.best]:.3g}"
        )

    def summary(self) -> dict[str, Any]:
        """For ablation.json, as plain values; a loss of null is a candidate that diverged."""
        tried = [_varied(self.arm, candidate) for candidate in self.candidates]
        losses = [loss if loss is not None and math.isfinite(loss) else None for loss in self.losses]
        return {
            "arm": self.arm.name,
            "criterion": CRITERION,
            "seed": SEED,
            "ranges": {name: list(values) for name, values in self.arm.search.items()},
            "candidates": [
                {"values": values, "run": run.name, "train_loss": loss}
                for values, run, loss in zip(tried, self.runs, losses, strict=True)
            ],
            "chosen": None if self.best is None else tried[self.best],
            "train_loss": None if self.best is None else self.losses[self.best],
        }


def trying(searches: Sequence[Search], ablation: Ablation) -> Ablation:
    """The ablation whose arms are the candidates: the first of every arm, then the second of every arm, and so on."""
    candidates = [
        replace(found.candidates[number], name=f"{found.arm.name} candidate {number}")
        for number in range(max(len(found.candidates) for found in searches))
        for found in searches
    ]
    return Ablation(
        name=ablation.name, title=f"{ablation.title}: search", question=ablation.question, claims=(),
        plan=lambda at: Plan(candidates, seeds=1, first_seed=SEED), trains_only=True,
        views=ablation.views,
    )  # fmt: skip


def drawn(arm: Arm, number: int) -> tuple[Arm, ...]:
    """The arm's first `number` candidates; more of them begin with the same ones.

    A range is drawn log-uniformly in magnitude and rounded to four digits, a list of words evenly. Names are those of
    recipe fields, else of the network's arguments.
    """
    generator = random.Random(digest([arm.network, dict(arm.arguments), dict(arm.recipe), dict(arm.search)]))
    candidates = []
    for _ in range(number):
        values = {name: _value(allowed, generator) for name, allowed in arm.search.items()}
        recipe = {name: value for name, value in values.items() if name in RECIPE_FIELDS}
        arguments = {name: value for name, value in values.items() if name not in RECIPE_FIELDS}
        candidates.append(
            replace(arm, recipe={**arm.recipe, **recipe}, arguments={**arm.arguments, **arguments}, note="")
        )
    return tuple(candidates)


def _value(allowed: tuple[float, float] | tuple[str, ...], generator: random.Random) -> float | str:
    first, last = allowed[0], allowed[-1]
    if isinstance(first, str) or isinstance(last, str):
        return str(generator.choice(allowed))
    low, high = sorted((abs(first), abs(last)))
    return float(f"{math.copysign(low * (high / low) ** generator.random(), first):.4g}")


def _varied(arm: Arm, candidate: Arm) -> dict[str, object]:
    found = {**candidate.arguments, **candidate.recipe}
    return {name: found[name] for name in arm.search}
