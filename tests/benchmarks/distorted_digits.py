"""Distorted digits made on the fly, against the training step that consumes them.

A batch of 256 images of 60 x 60 pixels, of every kind of datamodules.made.distorted_digits: rows and draws chosen,
described, painted and normalised, new draws at every epoch. The step is ST-CNN's (affine, average pooling behind the
transformer as for RTS and TC), forward, backward and SGD in fp32, on one such batch, without Lightning's loop. Both in
one process.
Target: a batch costs at most 0.15 of a step, for every kind.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator

import torch
from timing import arguments, conclude, interleaved, ratio, show, timed
from torch import Tensor

import datamodules
from ablations.harness import runtime
from ablations.harness.stopwatch import training_steps
from datamodules.augment import Augment
from datamodules.images import ImageData
from datamodules.made.distorted_digits import KINDS
from datamodules.sources.pixels import Decoded, Pixels
from modules import build, recipe_for

BATCH_SIZE, IMAGE_SIZE = 256, 60
TARGET = 0.15


def source(num_images: int) -> ImageData:
    """Invented pixels of MNIST's shape."""
    draw = torch.Generator().manual_seed(0)

    def split(count: int) -> Pixels:
        images = torch.randint(0, 256, (count, 28, 28, 1), dtype=torch.uint8, generator=draw)
        return Pixels(images, torch.arange(count) % 10)

    decoded = Decoded(split(num_images), split(500), 10)
    return ImageData(decoded, name="noise", digest="", augment=Augment(), batch_size=BATCH_SIZE, validation=0)


def batches(data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    """What training gets, epoch after epoch."""
    loader = data.train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            yield data.on_after_batch_transfer(batch, 0)


def taking(made: Iterator[tuple[Tensor, Tensor]], count: int) -> Callable[[], float]:
    next(made)
    return lambda: timed(lambda: [next(made) for _ in range(count)]) / count


def main() -> None:
    options = arguments(
        __doc__,
        images={"type": int, "default": 20_000, "help": "training images, default 20000"},
        batches={"type": int, "default": 20, "help": "of each kind per round, default 20"},
        rounds={"type": int, "default": 7, "help": "default 7"},
    )
    num_images, count, rounds = (1000, 3, 3) if options.quick else (options.images, options.batches, options.rounds)
    runtime.keep_freed_memory()
    digits = source(num_images)
    made = {kind: batches(datamodules.make(digits, "distorted_digits", kind=kind, size=IMAGE_SIZE)) for kind in KINDS}
    network = build("st_cnn", 10, 1, image_size=IMAGE_SIZE, pool=2).to(memory_format=torch.channels_last)
    steps = max(1, count // 4)
    train = training_steps(network, recipe_for("st_cnn"), *next(made["TC"]), steps)
    arms = {"training step": lambda: timed(train) / steps, **{kind: taking(made[kind], count) for kind in made}}
    seconds = interleaved(arms, rounds)
    shares = {name: ratio(each, seconds["training step"]) for name, each in seconds.items()}
    show(
        [
            {"256 of 60 x 60": name, "ms": 1e3 * statistics.median(each), "share of the step": shares[name]}
            for name, each in seconds.items()
        ]
    )
    worst = max((shares[kind] for kind in KINDS), key=lambda share: share.median)
    numbers = {"seconds": seconds, "shares": shares, "target": TARGET}
    conclude(f"dearest kind {worst} of a step, at most {TARGET}", numbers, options)


if __name__ == "__main__":
    main()
