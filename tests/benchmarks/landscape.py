"""Points of a loss surface per second, against the per-point procedure of the tool that everybody copies.

Baseline: set the weights, then a whole pass over a DataLoader (PIL image, ToTensor, Normalize, two workers that stay,
batches of 128), fp32, NCHW. Ours: ablations.probes.landscape.surface on batches in memory, in fp32 (the network's own
loss to the last bit), in fp32 with batch norm folded, in bf16 under autocast, in bf16 folded, and that compiled; with
two threads, and as two processes of one thread each. The same images, points and two random filter-normalised
directions; every arm lives in a process of its own. Deviations are from the baseline's losses, as a share of their
range over the points. Targets: 6 in bf16, 1.4 in exact fp32, 2 in folded or compiled fp32. The first was set on a
processor with AMX, where bf16 multiplies six times as fast as fp32; without, it is twice.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lesions import bf16_gain, trained
from PIL import Image
from timing import Ratio, Worker, alone, arguments, conclude, interleaved, ratio, show, timed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BASELINE = "baseline"
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
SPAN = 0.5
WAYS: dict[str, tuple[dict[str, Any], float | None]] = {  # how -> arguments of `surface`, target
    "fp32": ({}, 1.4),
    "fp32, folded": ({"fold": True}, 2.0),
    "bf16": ({"precision": "bf16"}, None),
    "bf16, folded": ({"precision": "bf16", "fold": True}, None),
    "bf16, folded, 2 processes": ({"precision": "bf16", "fold": True, "processes": 2}, None),
    "bf16, folded, compiled": ({"precision": "bf16", "fold": True, "compiled": True}, 6.0),
}


class Pictures(Dataset[tuple[Any, int]]):
    """uint8 pictures as PIL gives them, transformed one by one."""

    def __init__(self, pixels: np.ndarray[Any, Any], labels: Tensor) -> None:
        from torchvision import transforms

        self.pixels, self.labels = pixels, labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def pictures(num_images: int) -> Pictures:
    from lesions import samples

    images, labels = samples(num_images, seed=1)
    return Pictures(((images * 0.25 + 0.5).clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy(), labels)


def points(steps: int) -> list[tuple[float, float]]:
    return list(itertools.product(np.linspace(-SPAN, SPAN, steps).tolist(), repeat=2))


def network_and_directions(name: str, weights: Path) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    from ablations.probes.landscape.directions import random_direction
    from modules import build

    network = build(name).eval()
    network.load_state_dict(torch.load(weights))
    return network, [random_direction(network, seed) for seed in (0, 1)]


def reference(name: str, weights: Path, num_images: int, steps: int) -> Callable[[], tuple[float, list[float]]]:
    """Set the weights, pass over the loader, next point."""
    network, directions = network_and_directions(name, weights)
    start = copy.deepcopy(network.state_dict())
    loader = DataLoader(pictures(num_images), batch_size=128, num_workers=2, persistent_workers=True)

    @torch.no_grad()
    def loss_at(point: tuple[float, float]) -> float:
        network.load_state_dict(start)
        for parameter_name, parameter in network.named_parameters():
            for coordinate, direction in zip(point, directions, strict=True):
                if parameter_name in direction:
                    parameter += coordinate * direction[parameter_name]
        total = 0.0
        for images, labels in loader:
            total += float(nn.functional.cross_entropy(network(images), labels, reduction="sum"))
        return total / num_images

    loss_at((0.0, 0.0))  # the workers start, and stay

    def run() -> tuple[float, list[float]]:
        losses: list[float] = []
        return timed(lambda: losses.extend(loss_at(point) for point in points(steps))), losses

    return run


def ours(name: str, weights: Path, num_images: int, steps: int, how: str) -> Callable[[], tuple[float, list[float]]]:
    from ablations.harness import runtime
    from ablations.probes.landscape.surface import surface

    runtime.keep_freed_memory()
    network, directions = network_and_directions(name, weights)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = pictures(num_images)
    images = torch.stack([data[index][0] for index in range(num_images)])
    images = images.contiguous(memory_format=torch.channels_last)
    batches = list(zip(images.split(64), data.labels.split(64), strict=True))

    def run() -> tuple[float, list[float]]:
        losses: list[float] = []

        def whole() -> None:
            found = surface(network, batches, directions, steps, (-SPAN, SPAN), **WAYS[how][0])
            losses.extend(found.values["train/loss"].flatten().tolist())

        return timed(whole), losses

    run()  # compiles where that is asked for
    return run


def main() -> None:
    options = arguments(
        __doc__,
        network={"default": "resnet20", "metavar": "NAME"},
        images={"type": int, "default": 5120, "help": "per point, default 5120"},
        steps={"type": int, "default": 3, "help": "per axis, default 3"},
        rounds={"type": int, "default": 3, "help": "default 3"},
        ways={"nargs": "+", "default": list(WAYS), "choices": list(WAYS), "metavar": "WAY"},
    )
    if options.quick:
        options.images, options.steps, options.rounds = 256, 2, 1
    losses: dict[str, list[float]] = {}

    def remembering(name: str, run: Callable[[], Any]) -> Callable[[], float]:
        def seconds() -> float:
            taken, losses[name] = run()
            return float(taken)

        return seconds

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        alone(trained, options.network, 30, weights)
        asked = (options.network, weights, options.images, options.steps)
        workers = {BASELINE: Worker(reference, *asked), **{how: Worker(ours, *asked, how) for how in options.ways}}
        try:
            arms = {name: remembering(name, worker) for name, worker in workers.items()}
            seconds = interleaved(arms, options.rounds)
        finally:
            for worker in workers.values():
                worker.__exit__(None, None, None)

    expected = np.array(losses[BASELINE])
    spread = expected.max() - expected.min()
    gains: dict[str, Ratio] = {name: ratio(seconds[BASELINE], each) for name, each in seconds.items()}
    off = {name: float(np.abs(np.array(each) - expected).max()) for name, each in losses.items()}
    show(
        [
            {
                "arm": name,
                "s per point": statistics.median(each) / len(expected),
                "over baseline": gains[name],
                "largest deviation": off[name],
                "of the range": f"{100 * off[name] / spread:.2g} %",
            }
            for name, each in seconds.items()
        ]
    )
    faster = bf16_gain()
    print(f"losses: {expected.min():.3g} to {expected.max():.3g}; bf16 over fp32, one convolution: {faster:.1f}")
    verdicts = [f"{how}: {gains[how]} of {WAYS[how][1]}" for how in options.ways if WAYS[how][1] is not None]
    numbers = {name: {"seconds": seconds[name], "ratio": gains[name], "deviation": off[name]} for name in seconds}
    conclude(f"{options.network}, over the baseline, " + "; ".join(verdicts), {**numbers, "bf16_gain": faster}, options)


if __name__ == "__main__":
    main()
