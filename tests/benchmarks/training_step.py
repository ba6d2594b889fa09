"""Training throughput on a CPU, against the loop that most repositories for CIFAR ResNets have.

Baseline: per-sample PIL transforms over a Dataset of arrays, DataLoader with two workers, fp32, NCHW, unfused SGD, the
usual running loss and accuracy, default allocator. Ours: what the harness does, without Lightning's loop (see
lightning_overhead.py): pixels in memory, batched augmentation, channels_last, fused SGD, torchmetrics, freed memory
kept; then bf16 autocast; then torch.compile. The same networks, batch 128, invented pixels of CIFAR's shape.
Steady state: the baseline's prefetched batches are used up before the clock starts, and its workers never restart.
Target: images per second, our best arm over the baseline, 3.0 for ResNet-20 and ResNet-56, 2.7 for ResNet-110; set on
a processor with AMX, where that arm is the compiled one.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timing import Worker, arguments, conclude, interleaved, ratio, show
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

if TYPE_CHECKING:
    from datamodules.images import ImageData

BATCH_SIZE = 128
TARGETS = {"resnet20": 3.0, "resnet56": 3.0, "resnet110": 2.7}
OURS = {  # arm -> precision, compiled
    "ours fp32": ("32-true", False),
    "ours bf16": ("bf16-mixed", False),
    "ours bf16 compiled": ("bf16-mixed", True),
}
PREFETCHED = 8  # batches: two workers hold two each ready, the rest is for the balance between them and training

Steps = Callable[[int], float]
"""Runs so many steps and returns their seconds."""


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """10,000 images of noise, uint8 (N, 32, 32, 3), and labels."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, 10_000)


class PerSample(Dataset[tuple[Tensor, int]]):
    """Images as torchvision.datasets.CIFAR10 holds and transforms them."""

    def __init__(self) -> None:
        from torchvision import transforms

        self.data, self.targets = pixels()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index])), int(self.targets[index])


def baseline(network_name: str) -> Steps:
    """The usual loop; its loader never ends, so that no epoch restarts the workers."""
    from modules import build

    torch.manual_seed(0)
    network = build(network_name).train()
    sgd = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    images = PerSample()
    endless = RandomSampler(images, num_samples=10**9)
    batches = iter(DataLoader(images, BATCH_SIZE, sampler=endless, num_workers=2))
    running_loss, correct = 0.0, 0

    def step() -> None:
        nonlocal running_loss, correct
        inputs, targets = next(batches)
        sgd.zero_grad()
        outputs = network(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        sgd.step()
        running_loss += loss.item()
        correct += outputs.max(1)[1].eq(targets).sum().item()

    def steps(count: int) -> float:
        for _ in range(PREFETCHED):
            step()
        started = time.perf_counter()
        for _ in range(count):
            step()
        seconds = time.perf_counter() - started
        time.sleep(1.0)  # the workers fill their queue before another arm is timed
        return seconds

    return steps


def ours(network_name: str, precision: str, compiled: bool) -> Steps:
    """The harness's arithmetic: Classifier, ImageData and the recipe's optimiser."""
    from ablations.harness import runtime
    from datamodules.augment import Augment
    from datamodules.images import ImageData
    from datamodules.sources.pixels import Decoded, Pixels
    from modules.training.classifier import Classifier
    from modules.training.optimisation import optimiser
    from modules.training.recipe import HE2015_CIFAR

    runtime.keep_freed_memory()
    torch.manual_seed(0)
    images, labels = (torch.from_numpy(array) for array in pixels())
    whole = Pixels(images, labels)
    data = ImageData(
        Decoded(whole, whole, 10),
        name="noise",
        digest="",
        augment=Augment(4, True),
        batch_size=BATCH_SIZE,
        validation=0,
    )
    classifier = Classifier(network_name, {}, asdict(HE2015_CIFAR), 10, 3).train()
    sgd = optimiser(HE2015_CIFAR, classifier.network)
    if compiled:
        classifier.network.compile()
    batches = forever(data)

    def step() -> None:
        batch = data.on_after_batch_transfer(next(batches), 0)
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext():
            loss = classifier.training_step(batch, 0)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    def steps(count: int) -> float:
        step()
        started = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - started

    return steps


def forever(data: ImageData) -> Iterator[Any]:
    """Batches of epoch after epoch."""
    loader = data.train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader


def main() -> None:
    options = arguments(
        __doc__,
        networks={"nargs": "+", "default": list(TARGETS), "metavar": "NAME"},
        batches={"type": int, "default": 40, "help": "timed in each round, default 40"},
        rounds={"type": int, "default": 5, "help": "default 5"},
    )
    batches, rounds = (4, 2) if options.quick else (options.batches, options.rounds)
    numbers: dict[str, object] = {}
    verdicts, rows = [], []
    for network in options.networks:
        with contextlib.ExitStack() as stack:
            workers = {"baseline": stack.enter_context(Worker(baseline, network))}
            for name, how in OURS.items():
                workers[name] = stack.enter_context(Worker(ours, network, *how))
            for worker in workers.values():  # one after the other: compiling, too, needs the cores
                worker(2)
            seconds = interleaved({name: partial(worker, batches) for name, worker in workers.items()}, rounds)
        gains = {name: ratio(seconds["baseline"], each) for name, each in seconds.items()}
        for name, each in seconds.items():
            speed = batches * BATCH_SIZE / statistics.median(each)
            rows.append({"network": network, "arm": name, "images/s": speed, "over baseline": gains[name]})
            numbers[f"{network}/{name}"] = {"seconds": each, "images_per_second": speed, "ratio": gains[name]}
        best = max(gains, key=lambda name: gains[name].median)
        verdicts.append(f"{network} {gains[best]} of {TARGETS.get(network, '-')} ({best})")
    show(rows)
    conclude("best over baseline, of target: " + "; ".join(verdicts), numbers, options)


if __name__ == "__main__":
    main()
