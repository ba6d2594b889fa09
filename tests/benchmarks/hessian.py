"""Twenty Lanczos steps on the Hessian of ResNet-20's loss over 256 images, against plain products.

Baseline: fp32, NCHW, batches of 128; in every product, forward pass, gradient with create_graph and its derivative
anew, default allocator. Ours: ablations.probes.landscape.curvature.hessian, the graph of the gradient kept over the
products (its making is timed too) or made anew, in batches of several sizes. All arms run the same `lanczos`, from the
same vector, each in a process of its own; the last columns are the process's peak memory, and how far the extreme
eigenvalues are from the baseline's, relative to the largest. The network is trained for a moment on invented classes.
Six convolutions are the least that a product takes where a forward pass takes one, and a gradient three: of the
baseline's nine (all made anew), keeping the graph saves three.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from lesions import samples, trained
from timing import Worker, alone, arguments, conclude, interleaved, ratio, show
from torch import Tensor, nn

BASELINE = "baseline"
BASELINE_BATCH = 128

Study = Callable[[], tuple[float, float, float, float]]
"""Seconds of one Lanczos run, the smallest and the largest eigenvalue, and the peak memory so far in GB."""


def loaded(name: str, weights: Path) -> nn.Module:
    from modules import build

    network = build(name).eval()
    network.load_state_dict(torch.load(weights))
    return network


def peak_memory() -> float:
    """Of this process, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def plain(name: str, weights: Path, num_images: int, steps: int) -> Study:
    """Every product from the images on."""
    from ablations.probes.landscape.curvature.hessian import lanczos

    network = loaded(name, weights)
    parameters = list(network.parameters())
    images, labels = samples(num_images, seed=1)
    batches = list(zip(images.split(BASELINE_BATCH), labels.split(BASELINE_BATCH), strict=True))

    def product(vector: Tensor) -> Tensor:
        parts = vector.split([parameter.numel() for parameter in parameters])
        shaped = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
        total = torch.zeros_like(vector)
        for batch, answers in batches:
            loss = nn.functional.cross_entropy(network(batch), answers, reduction="sum") / num_images
            gradient = torch.autograd.grad(loss, parameters, create_graph=True)
            found = torch.autograd.grad(gradient, parameters, shaped)
            total += torch.cat([part.reshape(-1) for part in found])
        return total

    def study() -> tuple[float, float, float, float]:
        started = time.perf_counter()
        ritz = lanczos(product, sum(parameter.numel() for parameter in parameters), steps)
        return time.perf_counter() - started, float(ritz.values[0]), float(ritz.values[-1]), peak_memory()

    return study


def ours(name: str, weights: Path, num_images: int, steps: int, batch_size: int, keep_graph: bool) -> Study:
    """As the probe does it."""
    from ablations.harness import runtime
    from ablations.probes.landscape.curvature.hessian import Hessian, extremes

    runtime.keep_freed_memory()
    network = loaded(name, weights)
    images, labels = samples(num_images, seed=1)
    batches = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))

    def study() -> tuple[float, float, float, float]:
        started = time.perf_counter()
        found = extremes(Hessian(network, batches, keep_graph=keep_graph), steps, tolerance=0.0)
        return time.perf_counter() - started, found.smallest, found.largest, peak_memory()

    return study


def main() -> None:
    options = arguments(
        __doc__,
        network={"default": "resnet20", "metavar": "NAME"},
        images={"type": int, "default": 256, "help": "default 256"},
        products={"type": int, "default": 20, "help": "default 20"},
        sizes={"type": int, "nargs": "+", "default": [32, 64, 128], "metavar": "N", "help": "images per batch"},
        rounds={"type": int, "default": 3, "help": "default 3"},
    )
    if options.quick:
        options.images, options.products, options.sizes, options.rounds = 32, 3, [16, 32], 1
    arms: dict[str, Worker] = {}
    last: dict[str, tuple[float, float, float]] = {}

    def seconds_of(name: str) -> float:
        seconds, smallest, largest, memory = arms[name]()
        last[name] = smallest, largest, memory
        return float(seconds)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights = Path(folder) / "weights.pt"
        alone(trained, options.network, 30, weights)
        common = (options.network, weights, options.images, options.products)
        arms[BASELINE] = stack.enter_context(Worker(plain, *common))
        for keep in (True, False):
            for size in options.sizes:
                name = f"{'kept graph' if keep else 'anew'}, batches of {size}"
                arms[name] = stack.enter_context(Worker(ours, *common, size, keep))
        timings = interleaved({name: partial(seconds_of, name) for name in arms}, options.rounds)

    smallest, largest, _ = last[BASELINE]
    rows, numbers = [], {}
    gains = {name: ratio(timings[BASELINE], each) for name, each in timings.items()}
    for name, (low, high, memory) in last.items():
        off = max(abs(low - smallest), abs(high - largest)) / largest
        rows.append(
            {
                "arm": name,
                "seconds": statistics.median(timings[name]),
                "baseline over it": gains[name],
                "GB": memory,
                "eigenvalues apart": off,
            }
        )
        numbers[name] = {"seconds": timings[name], "ratio": gains[name], "memory": memory, "apart": off}
    show(rows)
    print(f"extreme eigenvalues {smallest:.4g} and {largest:.4g}")
    best = max((name for name in gains if name.startswith("kept")), key=lambda name: gains[name].median)
    conclude(f"{best}: {gains[best]} times as fast as products made anew", numbers, options)


if __name__ == "__main__":
    main()
