"""Seconds of training steps: of one network, or of several that take turns in one process, which compares fairly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from modules import Network
from modules.training.optimisation import optimiser, training_loss
from modules.training.recipe import Recipe

Loss = Callable[[Network, Tensor, Tensor, Recipe], Tensor]
"""Of a network on one batch of (images, labels), by a recipe."""


def label_loss(network: Network, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """The loss of a network that classifies."""
    return training_loss(network(images), labels, recipe)


def training_steps(
    network: Network, recipe: Recipe, images: Tensor, labels: Tensor, count: int, loss: Loss = label_loss
) -> Callable[[], object]:
    """A function that trains `count` steps on one batch of (images (N, C, H, W), labels (N,)); one is done at once.

    The network is set to training mode and its weights change.
    """
    network.train()
    sgd = optimiser(recipe, network)
    kind, is_bf16 = images.device.type, recipe.precision.startswith("bf16")

    def steps(number: int = count) -> None:
        for _ in range(number):
            with torch.autocast(kind, torch.bfloat16, enabled=is_bf16):
                found = loss(network, images, labels, recipe)
            sgd.zero_grad()
            found.backward()
            sgd.step()

    steps(1)
    return steps


def in_turns(
    arms: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    on_turn: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Arm -> the seconds of its turn in each round; every second round goes through the arms backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds):
        for name in list(arms)[:: -1 if number % 2 else 1]:
            started = now(device)
            arms[name]()
            seconds[name].append(now(device) - started)
            on_turn()
    return seconds


def now(device: torch.device) -> float:
    """Seconds of a clock, once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
