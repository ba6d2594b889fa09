"""One training step of every family against the reference implementation, in one process, taking turns.

The reference is timm's or torchvision's network where there is one, else the same network written as a tutorial would
(plain_networks.py). Same input, fp32, same optimiser, same number of parameters (checked), the harness's allocator
settings for both. Target: our steps per second over the reference's, at least 0.97 for every family.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import plain_networks
import timm
import torch
import torchvision
from timing import Ratio, arguments, conclude, interleaved, ratio, show, timed
from torch import Tensor, nn

from ablations.harness import runtime
from modules import build
from modules.blocks.network import TrainingOutputs

TARGET = 0.97

Make = Callable[[], nn.Module]
vision, plain = torchvision.models, plain_networks


def _theta(pixels: int) -> nn.Module:
    """Three hidden layers of 32 units and one that starts with the identity."""
    last = nn.Linear(32, 6)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])
    hidden = [layer for size in (pixels, 32, 32) for layer in (nn.Linear(size, 32), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, last)


def _googlenet() -> nn.Module:
    return vision.googlenet(aux_logits=False, transform_input=False, init_weights=False)


# family -> ours, reference, its name, shape of a batch (N, C, H, W), classes; a step takes well under 1 s
FAMILIES: dict[str, tuple[Make, Make, str, tuple[int, int, int, int], int]] = {
    "mlp": (partial(build, "mlp20", 10, 1), partial(plain.mlp, 20, 71), "plain", (128, 1, 28, 28), 10),
    "lenet": (partial(build, "lenet5", 10, 1), plain.lenet5, "plain", (256, 1, 28, 28), 10),
    "alexnet": (
        partial(build, "alexnet", 1000, widths=(64, 192, 384, 256, 256), groups=1, response_norm=False),
        vision.alexnet, "torchvision", (16, 3, 224, 224), 1000),
    "vgg": (partial(build, "vgg11_bn", 1000), vision.vgg11_bn, "torchvision", (4, 3, 112, 112), 1000),
    "nin": (partial(build, "nin_cifar"), plain.nin, "plain", (32, 3, 32, 32), 10),
    "googlenet": (
        partial(build, "googlenet_bn", 1000, auxiliary=False, kernel=3),
        _googlenet, "torchvision", (8, 3, 112, 112), 1000),
    "highway": (partial(build, "highway20", 10, 1), partial(plain.Highway, 20, 50), "plain", (128, 1, 28, 28), 10),
    "resnet_cifar": (partial(build, "resnet20"), partial(plain.resnet_cifar, 20), "plain", (64, 3, 32, 32), 10),
    "resnet": (partial(build, "resnet50", 1000), vision.resnet50, "torchvision", (8, 3, 112, 112), 1000),
    "resnet_d": (
        partial(build, "resnet50d", 1000), partial(timm.create_model, "resnet50d"), "timm", (8, 3, 112, 112), 1000),
    "resnext": (
        partial(build, "resnext50_32x4d", 1000), vision.resnext50_32x4d, "torchvision", (8, 3, 112, 112), 1000),
    "wide_resnet": (
        partial(build, "wide_resnet50_2", 1000), vision.wide_resnet50_2, "torchvision", (4, 3, 112, 112), 1000),
    "densenet": (partial(build, "densenet121", 1000), vision.densenet121, "torchvision", (8, 3, 112, 112), 1000),
    "unet": (partial(build, "unet", 2, 1, dropout=0.0), plain.UNet, "plain", (1, 1, 220, 220), 2),
    "spatial_transformer": (
        partial(build, "transformed", 10, 3, network="resnet20", transform="affine", localisation="fc"),
        lambda: plain.Transformed(_theta(3 * 32 * 32), plain.resnet_cifar(20)), "plain", (64, 3, 32, 32), 10),
}  # fmt: skip


def step_of(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One step of plain SGD on one batch."""
    sgd = torch.optim.SGD(network.train().parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        outputs = network(images)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
        sgd.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        sgd.step()

    return step


def repeated(step: Callable[[], None], times: int) -> float:
    return timed(lambda: [step() for _ in range(times)])


def compare(family: str, rounds: int, seconds: float) -> tuple[Ratio, float]:
    """Reference over ours, and the median seconds of one of our steps."""
    make_ours, make_theirs, _, shape, classes = FAMILIES[family]
    torch.manual_seed(0)
    networks = {"ours": make_ours(), "reference": make_theirs()}
    counts = [sum(p.numel() for p in network.parameters()) for network in networks.values()]
    assert abs(counts[0] - counts[1]) <= 0.001 * counts[1], f"{family}: {counts} parameters"
    images = torch.randn(*shape)
    with torch.no_grad():
        spatial = networks["reference"].eval()(images).shape[2:]
    labels = torch.randint(classes, (shape[0], *spatial))
    steps = {name: step_of(network, images, labels) for name, network in networks.items()}
    each = [repeated(step, 2) / 2 for step in steps.values()]  # warm-up, and how long a round should be
    times = max(1, round(seconds / max(each)))
    found = interleaved({name: partial(repeated, step, times) for name, step in steps.items()}, rounds)
    return ratio(found["reference"], found["ours"]), statistics.median(found["ours"]) / times


def main() -> None:
    options = arguments(
        __doc__,
        families={"nargs": "+", "default": list(FAMILIES), "choices": list(FAMILIES), "metavar": "NAME"},
        rounds={"type": int, "default": 7, "help": "default 7"},
        seconds={"type": float, "default": 1.0, "help": "of each arm in each round, about; default 1"},
    )
    rounds, seconds = (2, 0.0) if options.quick else (options.rounds, options.seconds)
    runtime.keep_freed_memory()  # as the harness does, for both arms
    rows, numbers = [], {}
    for family in options.families:
        gained, per_step = compare(family, rounds, seconds)
        reference, shape = FAMILIES[family][2:4]
        rows.append({
            "family": family, "reference": reference, "batch": " x ".join(map(str, shape)),
            "ours ms/step": 1000 * per_step, "reference / ours": str(gained),
        })  # fmt: skip
        numbers[family] = {"ratio": gained, "seconds_per_step": per_step}
    show(rows)
    slow = [row["family"] for row in rows if numbers[row["family"]]["ratio"].median < TARGET]
    conclude(f"families below {TARGET}: {', '.join(map(str, slow)) or 'none'}", numbers, options)


if __name__ == "__main__":
    main()
