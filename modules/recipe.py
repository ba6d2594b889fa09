"""How networks are trained: every optimiser setting and schedule of the suite, each with its source.

A recipe's learning rate belongs to its global batch size; the batch is divided among processes, the rate never scaled.
Differs from the papers: milestones are fractions of all steps, so that a shorter budget keeps the schedule's shape, and
the last, incomplete batch of an epoch is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from torch import nn
from torch.optim import SGD

Precision = Literal["32-true", "bf16-mixed"]
Schedule = Literal["milestones", "linear"]


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with momentum and a schedule.

    batch_size: global, over all processes. learning_rate: peak. weight_decay: on every parameter, as the papers do.
    schedule: `milestones` multiplies the rate by 0.1 at these fractions of all steps; `linear` goes down to 0.
    warmup_steps: steps at the start; with warmup_rate they run at that constant rate (He et al. 2015, section 4.2),
        without it the rate rises linearly.
    precision: of the training arithmetic; evaluation is always fp32.
    Raises ValueError for a value that makes no sense, naming it.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: Schedule = "milestones"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup_steps: int = 0
    warmup_rate: float | None = None
    precision: Precision = "32-true"
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {self.schedule!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """The learning rate of optimiser step `step` (from 0) out of `total_steps`."""
    if step < recipe.warmup_steps:
        if recipe.warmup_rate is not None:
            return recipe.warmup_rate
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "linear":
        return recipe.learning_rate * (total_steps - step) / max(1, total_steps - recipe.warmup_steps)
    passed = sum(step >= milestone * total_steps for milestone in recipe.milestones)
    return recipe.learning_rate * 0.1**passed


def optimiser(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> SGD:
    """SGD as the recipe says, in PyTorch's fused form (one kernel for all tensors)."""
    return SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


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
HUANG2016_CIFAR = Recipe(
    epochs=500,
    nesterov=True,
    source="Huang et al. 2016, 1603.09382, section 4",
)
SIMONYAN2014 = Recipe(
    epochs=74,
    batch_size=256,
    learning_rate=0.01,
    weight_decay=5e-4,
    milestones=(0.4, 0.7, 0.9),
    source="Simonyan & Zisserman 2014, 1409.1556, section 3.1 (there 10x down on plateaus; the fractions are ours)",
)
VGG_CIFAR = Recipe(
    epochs=182,
    learning_rate=0.01,
    weight_decay=5e-4,
    warmup_steps=400,
    source="optimiser of Simonyan & Zisserman 2014, schedule of He et al. 2015; Veit et al. 2016 do not give theirs",
)


def recipe_for(network: str) -> Recipe:
    """The published recipe of an architecture, by its registered name."""
    if network.startswith("timm:"):
        return HE2015_IMAGENET
    if network.startswith("vgg"):
        return VGG_CIFAR if network in ("vgg_cifar", "vgg15", "vgg15_bn") else SIMONYAN2014
    if network.startswith("preact"):
        return HE2016_CIFAR
    if network in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        return HE2015_IMAGENET
    return HE2015_CIFAR_DEEP if network in ("resnet110", "resnet1202") else HE2015_CIFAR


def with_overrides(recipe: Recipe, overrides: dict[str, object]) -> Recipe:
    """The recipe with some fields changed; raises ValueError naming an unknown field and those there are."""
    known = {field.name for field in fields(Recipe)}
    unknown = set(overrides) - known
    if unknown:
        raise ValueError(f"a recipe has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    return replace(recipe, **overrides)  # type: ignore[arg-type]
