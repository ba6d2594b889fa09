"""What the work will cost: multiply-adds counted, seconds measured on one real batch before anything is trained."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ablations.harness.stopwatch import Loss, label_loss, now, training_steps
from ablations.harness.store.runs import Run
from ablations.harness.training.lengths import batches
from datamodules.images import ImageData
from modules import ARCHITECTURES, Network, build
from modules.blocks.cost import Cost, cost
from modules.errors import first_line
from modules.families.colocalisation import training_triplets
from modules.training.recipe import with_overrides

# Seconds that a step takes beside the network (the Trainer's loop, making the batch, sums), and a run beside its steps
# (building, files, tracking). Measured on 583 runs of 342 steps; without them half of their time was announced.
LOOP, ASIDE = 0.0025, 0.5


class Estimate(NamedTuple):
    """Of one run: its cost per image, blocks, seconds to train, and seconds to evaluate one image in fp32."""

    cost: Cost
    blocks: int
    training: float
    per_image: float


def describe(run: Run) -> tuple[Cost, Network]:
    """The run's untrained network and its cost per image; raises ValueError if the network does not take the images."""
    network = build(run.network, run.data["num_classes"], run.data["in_channels"], **run.arguments)
    return count(network, run.network, run.data["in_channels"], run.data["image_size"]), network


def count(network: Network, name: str, in_channels: int, image_size: int) -> Cost:
    """The network's cost per image; raises ValueError if it does not take the images."""
    task = ARCHITECTURES[name].task if name in ARCHITECTURES else "classify"
    if task == "localise" and in_channels != 2:
        raise ValueError(
            f"network {name} takes pairs of images, one in each of 2 channels; this data has {in_channels}"
        )
    if task == "segment":
        raise ValueError(f"network {name} gives a label for every pixel, and this data has one for an image")
    shape = (in_channels, image_size, image_size)
    try:
        return cost(network, shape)
    except Exception as error:  # whatever a layer raises for an input it was not made for
        raise ValueError(f"network {name} does not take images of shape {shape}: {first_line(error)}") from error


def estimate(run: Run, data: ImageData, device: torch.device, timed_steps: int = 2) -> Estimate:
    """Times a few optimiser steps and one evaluation batch of a throwaway network, after one step of warm-up."""
    counted, network = describe(run)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = min(run.recipe.batch_size, len(data.test))
    images, labels = next(iter(data.evaluation_batches("test", batch_size=size, device=device)))
    recipe = with_overrides(run.recipe, {"precision": run.precision})
    loss: Loss = label_loss
    if ARCHITECTURES[run.network].task == "localise":
        loss = lambda network, images, *_: training_triplets(network, images).loss()  # noqa: E731
    steps_in_a_row = training_steps(network, recipe, images, labels, timed_steps, loss)
    started = now(device)
    steps_in_a_row()
    per_step = (now(device) - started) / timed_steps
    per_image = evaluation_time(network, images)
    return Estimate(counted, len(network.blocks), batches(run) * (per_step + LOOP) + ASIDE, per_image)


@torch.no_grad()
def evaluation_time(network: Network, images: torch.Tensor) -> float:
    """Seconds that the network takes to evaluate one image of the batch, after a pass of warm-up."""
    network.eval()
    network(images)
    started = now(images.device)
    network(images)
    return (now(images.device) - started) / len(images)


def in_words(seconds: float) -> str:
    """A duration as people say it: 40 s, 7 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
