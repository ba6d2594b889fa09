"""The lesion study of ResNet-110, 54 single deletions, against one full forward pass per deletion.

Baseline: fp32, NCHW, the network run whole once per deleted block (modules.blocks.surgery.removed), batches of 250,
default allocator. Ours: ablations.probes.lesions.lesions.error_rates, which walks common beginnings once, in fp32
channels_last; then in bf16 with the batch norms folded into the convolutions (modules.blocks.fold). Evaluation batches
of several sizes, because what fits the cache is faster. The network is trained for a moment on invented classes, so
that answers differ. Target: 2.5 in fp32 with the same number of errors after every deletion, 9 in bf16. The second was
set on a processor with AMX, where bf16 multiplies six times as fast as fp32; without, it is twice, so what this machine
gains is printed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import Ratio, Worker, alone, arguments, conclude, interleaved, ratio, show, timed
from torch import Tensor, nn

BASELINE = "baseline"
BASELINE_BATCH = 250
TARGETS = {"fp32": 2.5, "bf16": 9.0}

Study = Callable[[], tuple[float, list[int]]]
"""Seconds of one whole study, and the errors after each deletion."""


def samples(num_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten classes, each a random pattern under noise: images (N, 3, 32, 32) and labels."""
    patterns = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (num_images,), generator=draw)
    smooth = nn.functional.interpolate(patterns, scale_factor=4.0, mode="bilinear")
    return 1.5 * smooth[labels] + torch.randn(num_images, 3, 32, 32, generator=draw), labels


def trained(network_name: str, steps: int, file: Path) -> None:
    """Writes weights after so many steps: realistic batch norm statistics, and an error that deletions change."""
    from modules import build
    from modules.training.optimisation import optimiser
    from modules.training.recipe import Recipe

    torch.manual_seed(0)
    network = build(network_name).train().to(memory_format=torch.channels_last)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.3  # the statistics arrive within the few steps
    sgd = optimiser(Recipe(epochs=1, learning_rate=0.01, momentum=0.5), network)
    for step in range(steps):
        images, labels = samples(64, seed=100 + step)
        loss = nn.functional.cross_entropy(network(images.contiguous(memory_format=torch.channels_last)), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    torch.save(network.state_dict(), file)


def naive(network_name: str, weights: Path, num_images: int) -> Study:
    """Deletes a block, evaluates the whole network, next block."""
    from modules import build, removed

    network = build(network_name).eval()
    network.load_state_dict(torch.load(weights))
    images, labels = samples(num_images, seed=1)
    batches = list(zip(images.split(BASELINE_BATCH), labels.split(BASELINE_BATCH), strict=True))

    @torch.no_grad()
    def study() -> tuple[float, list[int]]:
        started = time.perf_counter()
        errors = []
        for name in network.blocks:
            with removed(network, [name]):
                errors.append(sum(int((network(x).argmax(1) != y).sum()) for x, y in batches))
        return time.perf_counter() - started, errors

    return study


def ours(network_name: str, weights: Path, num_images: int) -> Callable[[str, int], tuple[float, list[int]]]:
    """As the probe does it; called with precision and batch size."""
    from ablations.harness import runtime
    from ablations.probes.lesions import lesions
    from modules import build
    from modules.blocks.fold import folded

    runtime.keep_freed_memory()
    network = build(network_name).eval()
    network.load_state_dict(torch.load(weights))
    network = network.to(memory_format=torch.channels_last)
    networks = {"fp32": network, "bf16": folded(network, torch.bfloat16)}
    images, labels = samples(num_images, seed=1)
    images = images.contiguous(memory_format=torch.channels_last)

    def study(precision: str, batch_size: int) -> tuple[float, list[int]]:
        asked = networks[precision]
        chains = [lesions.chain(asked, {name: "shortcut"}) for name in asked.blocks]
        inputs = images.to(torch.bfloat16) if precision == "bf16" else images
        batches = zip(inputs.split(batch_size), labels.split(batch_size), strict=True)
        started = time.perf_counter()
        rates = lesions.error_rates(asked, chains, batches)
        return time.perf_counter() - started, [round(rate * num_images / 100) for rate in rates]

    return study


def main() -> None:
    options = arguments(
        __doc__,
        network={"default": "resnet110", "metavar": "NAME"},
        images={"type": int, "default": 500, "help": "default 500"},
        sizes={"type": int, "nargs": "+", "default": [64, 125, 250, 500], "metavar": "N", "help": "evaluation batches"},
        steps={"type": int, "default": 30, "help": "of training beforehand, default 30"},
        rounds={"type": int, "default": 3, "help": "default 3"},
    )
    if options.quick:
        options.images, options.sizes, options.steps, options.rounds = 64, [32, 64], 10, 1
    errors: dict[str, list[int]] = {}

    def remembering(name: str, study: Callable[[], Any]) -> Callable[[], float]:
        def seconds() -> float:
            taken, errors[name] = study()
            return float(taken)

        return seconds

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        alone(trained, options.network, options.steps, weights)
        with (
            Worker(naive, options.network, weights, options.images) as baseline,
            Worker(ours, options.network, weights, options.images) as own,
        ):
            arms = {BASELINE: remembering(BASELINE, baseline)}
            for precision in TARGETS:
                for size in options.sizes:
                    name = f"{precision}, batches of {size}"
                    arms[name] = remembering(name, partial(own, precision, size))
            seconds = interleaved(arms, options.rounds)

    rows, numbers = [], {}
    gains: dict[str, Ratio] = {}
    for name, each in seconds.items():
        off = [abs(a - b) for a, b in zip(errors[name], errors[BASELINE], strict=True)]
        gains[name] = ratio(seconds[BASELINE], each)
        rows.append(
            {
                "arm": name,
                "seconds": statistics.median(each),
                "over baseline": gains[name],
                "errors the same": "yes" if not any(off) else f"no, up to {max(off)} of {options.images} apart",
            }
        )
        numbers[name] = {"seconds": each, "ratio": gains[name], "errors": errors[name], "most_apart": max(off)}
    show(rows)
    print(f"errors after deletions: {min(errors[BASELINE])} to {max(errors[BASELINE])} of {options.images}")
    faster = bf16_gain()
    print(f"bf16 over fp32 on this machine, one convolution of 64 channels: {faster:.1f}")
    verdicts = []
    for precision, target in TARGETS.items():
        best = max((name for name in gains if name.startswith(precision)), key=lambda name: gains[name].median)
        verdicts.append(f"{best}: {gains[best]} of {target}")
    conclude("over one pass per deletion, " + "; ".join(verdicts), {**numbers, "bf16_gain": faster}, options)


@torch.no_grad()
def bf16_gain() -> float:
    """How much faster the processor convolves in bf16 than in fp32; best of ten each."""
    best = []
    for dtype in (torch.float32, torch.bfloat16):
        convolution = nn.Conv2d(64, 64, 3, padding=1).to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(125, 64, 8, 8).to(dtype, memory_format=torch.channels_last)
        best.append(min(timed(partial(convolution, images)) for _ in range(10)))
    return best[0] / best[1]


if __name__ == "__main__":
    main()
