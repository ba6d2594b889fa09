"""How networks are trained: every optimiser setting and schedule of the suite, each with its source.

A recipe's learning rate belongs to its global batch size; the batch is divided among processes, the rate never scaled.
Each family's file says which recipe its networks have by default (`modules.recipe_for` looks it up). Those that several
files name stand here; this file needs no torch, so that what names one costs no time to import.
Differs from the papers: milestones are fractions of all steps, so that a shorter budget keeps the schedule's shape; the
last, incomplete batch of an epoch is left out; where a paper lowers the rate "on plateaus", the fractions are ours;
augmentation is the data's own (`datamodules`), or none, never a paper's colour shifts or weight averaging.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

Precision = Literal["32-true", "bf16-mixed"]
Schedule = Literal["milestones", "linear", "cosine", "exponential"]
Augmentation = Literal["usual", "none"]
Decay = Literal["all", "weights"]


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with momentum and a schedule.

    batch_size: global, over all processes. learning_rate: peak.
    weight_decay, decay: on every parameter (`all`, as most papers do) or on those with two dimensions or more
        (`weights`: no batch norms, no biases).
    schedule: `milestones` multiplies the rate by milestone_factor at these fractions of all steps; `linear` and
        `cosine` go down to 0, `exponential` falls evenly on a logarithmic scale to final_fraction of the peak.
    warmup_steps: steps at the start; with warmup_rate they run at that constant rate (He et al. 2015, section 4.2),
        without it the rate rises linearly.
    localisation_factor: times the rate for the localisation networks of spatial transformers.
    auxiliary_weight: of the loss of each auxiliary head, in a network that has them.
    gradient_clip: longer gradients are cut to this norm, over all parameters; None cuts none. A Trainer's own
        gradient_clip_val goes before it.
    augmentation: `usual` is the data's own, see `datamodules`.
    precision: of the training arithmetic; evaluation is always fp32.
    Raises ValueError for a value that makes no sense, naming it.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: Decay = "all"
    schedule: Schedule = "milestones"
    milestones: tuple[float, ...] = (0.5, 0.75)
    milestone_factor: float = 0.1
    final_fraction: float = 0.01
    warmup_steps: int = 0
    warmup_rate: float | None = None
    localisation_factor: float = 1.0
    auxiliary_weight: float = 0.3
    gradient_clip: float | None = None
    augmentation: Augmentation = "usual"
    precision: Precision = "32-true"
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "milestone_factor", "final_fraction"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("momentum", "weight_decay", "localisation_factor", "auxiliary_weight", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.gradient_clip is not None and not 0 < self.gradient_clip < math.inf:
            raise ValueError(f"gradient_clip must be positive, or null for none, got {self.gradient_clip}")
        for name, literal in CHOICES.items():
            if getattr(self, name) not in get_args(literal):
                raise ValueError(f"{name} must be one of {', '.join(get_args(literal))}, got {getattr(self, name)!r}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")


Fields = Mapping[str, bool | int | float | list[float] | tuple[float, ...] | str | None]
"""Some fields of a recipe; the types of its values in an order in which a command line can tell them apart."""

CHOICES = {"schedule": Schedule, "precision": Precision, "decay": Decay, "augmentation": Augmentation}


def learning_rate(recipe: Recipe, step: int, total_steps: float) -> float:
    """The learning rate of optimiser step `step` (from 0) out of `total_steps`; the peak if those are infinite."""
    if step < recipe.warmup_steps:
        if recipe.warmup_rate is not None:
            return recipe.warmup_rate
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if math.isinf(total_steps):
        return recipe.learning_rate
    if recipe.schedule == "milestones":
        passed = sum(step >= milestone * total_steps for milestone in recipe.milestones)
        return recipe.learning_rate * recipe.milestone_factor**passed
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.final_fraction ** (step / max(1, total_steps))
    left = (total_steps - step) / max(1, total_steps - recipe.warmup_steps)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 - math.cos(math.pi * left)) / 2
    return recipe.learning_rate * left


HE2015_CIFAR = Recipe(epochs=182, source="He et al. 2015, 1512.03385, section 4.2: 64k steps on the 45k split")
HE2015_CIFAR_DEEP = replace(
    HE2015_CIFAR,
    warmup_steps=400,
    warmup_rate=0.01,
    source="He et al. 2015, section 4.2, ResNet-110: 400 steps at 0.01",
)
HE2016_CIFAR = replace(HE2015_CIFAR_DEEP, source="He et al. 2016, 1603.05027, appendix")
HE2015_IMAGENET = Recipe(
    epochs=120, batch_size=256, milestones=(0.25, 0.5, 0.75), source="He et al. 2015, section 3.4: 60e4 steps of 256"
)
HUANG2016_CIFAR = Recipe(epochs=500, nesterov=True, source="Huang et al. 2016, 1603.09382, section 4")
LI2017_CIFAR = Recipe(
    epochs=300,
    nesterov=True,
    weight_decay=5e-4,
    milestones=(0.5, 0.75, 275 / 300),
    source="Li et al. 2017, 1712.09913, authors' code: 10x down at epochs 150, 225, 275",
)


def with_overrides(recipe: Recipe, overrides: Mapping[str, object]) -> Recipe:
    """The recipe with some fields changed; raises ValueError naming an unknown field and those there are.

    Milestones may be a list, as JSON and checkpoints have them.
    """
    known = {field.name for field in fields(Recipe)}
    unknown = set(overrides) - known
    if unknown:
        raise ValueError(f"a recipe has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    changed = replace(recipe, **overrides)  # type: ignore[arg-type]
    return replace(changed, milestones=tuple(changed.milestones))
