"""Seconds per training step of the harness's Trainer, against a bare loop with the same arithmetic.

Real path: ablations.harness.training.train with its callbacks, metrics and hooks, without a tracker. Baseline: loader,
augmentation, forward, loss, backward, fused SGD and schedule in a plain loop. ResNet-20, CIFAR's shape, batch 128,
fp32, one process: the data module stops the Trainer between two steps and runs the bare loop's turn meanwhile, so both
have the same threads and memory.
Target: at most 3 % longer.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timing import arguments, conclude, ratio, show
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ablations.harness import runtime
from ablations.harness.store.runs import Run
from ablations.harness.training.train import train
from datamodules.augment import Augment
from datamodules.images import ImageData
from datamodules.sources.pixels import Decoded, Pixels
from modules import build
from modules.training.optimisation import optimiser
from modules.training.recipe import Recipe, learning_rate

TARGET = 1.03
WARM_UP = 3


class Turns:
    """Whose turn it is: `pause` is called before every step of the Trainer and takes the bare loop's turn when due."""

    def __init__(self, bare: Callable[[], object], steps: int) -> None:
        self.bare, self.steps = bare, steps
        self.seen = 0
        self.started = 0.0
        self.trainer_seconds: list[float] = []
        self.bare_seconds: list[float] = []

    def pause(self) -> None:
        now = time.perf_counter()
        measured = self.seen - WARM_UP
        self.seen += 1
        if measured < 0 or measured % self.steps:
            return
        if measured:
            self.trainer_seconds.append(now - self.started)
        started = time.perf_counter()
        for _ in range(self.steps):
            self.bare()
        self.started = time.perf_counter()
        self.bare_seconds.append(self.started - started)


class Paced(ImageData):
    """Data that lets the other loop have its turn."""

    turns: Turns

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        assert self.trainer is not None
        if self.trainer.training:
            self.turns.pause()
        return super().on_after_batch_transfer(batch, dataloader_idx)


def noise(num_images: int) -> Pixels:
    """Random pixels and labels."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, 32, 32, 3), dtype=torch.uint8, generator=draw)
    return Pixels(images, torch.randint(0, 10, (num_images,), generator=draw))


def bare_loop(data: ImageData, recipe: Recipe, network_name: str, total_steps: int) -> Iterator[None]:
    """One training step per `next`."""
    network = build(network_name).train().to(memory_format=torch.channels_last)
    sgd = optimiser(recipe, network)
    schedule = LambdaLR(sgd, lambda step: learning_rate(recipe, step, total_steps) / recipe.learning_rate)
    loader = data.train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            images, labels = data.on_after_batch_transfer(batch, 0)
            loss = nn.functional.cross_entropy(network(images), labels)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            schedule.step()
            yield


def main() -> None:
    options = arguments(
        __doc__,
        network={"default": "resnet20", "metavar": "NAME"},
        batch={"type": int, "default": 128, "help": "images per step, default 128"},
        steps={"type": int, "default": 5, "help": "per turn, default 5"},
        rounds={"type": int, "default": 20, "help": "default 20"},
    )
    steps, rounds = (2, 3) if options.quick else (options.steps, options.rounds)
    runtime.keep_freed_memory()
    runtime.quiet()
    total_steps = WARM_UP + steps * rounds + 1  # the last step closes the last turn
    decoded = Decoded(noise(total_steps * options.batch), noise(options.batch), 10)
    settings: dict[str, Any] = {"name": "noise", "digest": "", "augment": Augment(4, True), "validation": 0.0}
    recipe = Recipe(epochs=1, batch_size=options.batch)
    plain = ImageData(decoded, batch_size=options.batch, **settings)
    loop = bare_loop(plain, recipe, options.network, total_steps)
    for _ in range(WARM_UP):
        next(loop)
    data = Paced(decoded, **settings)
    data.turns = Turns(lambda: next(loop), steps)
    with tempfile.TemporaryDirectory() as out:
        train(Run(options.network, {}, recipe, data.identity, 0), data, Path(out), show_progress=False)

    turns = data.turns
    bare = turns.bare_seconds[: len(turns.trainer_seconds)]  # the closing step begins one more turn
    overhead = ratio(turns.trainer_seconds, bare)
    per_step = {"bare loop": bare, "Trainer": turns.trainer_seconds}
    show(
        [
            {"arm": name, "ms/step, median": 1e3 * statistics.median(each) / steps, "least": 1e3 * min(each) / steps}
            for name, each in per_step.items()
        ]
    )
    whole = sum(turns.trainer_seconds) / sum(bare)
    print(f"over all rounds together: {whole:.3f}")
    verdict = f"Trainer over bare loop {overhead.median:.3f} ({overhead.least:.3f} to {overhead.greatest:.3f})"
    numbers = {"seconds": per_step, "steps": steps, "ratio": overhead, "ratio_of_sums": whole}
    conclude(f"{verdict} of at most {TARGET}", numbers, options)


if __name__ == "__main__":
    main()
