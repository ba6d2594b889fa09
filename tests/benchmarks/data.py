"""Data of CIFAR-10's size: opening the cache, the memory it takes, and preparing one training batch.

Baseline of the batch: torchvision's PIL transforms, image by image, in this process (a DataLoader's workers divide this
by their number). Ours: augmentation and normalisation of the whole batch. The pixels are invented.
Target: the cache opens in under 1 s, adds less than 1 GiB, and a batch costs a small part of a training step.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
from pathlib import Path

import torch
from timing import arguments, conclude, interleaved, ratio, show, timed

from datamodules import cache
from datamodules.augment import Augment, normalise
from datamodules.pixels import Decoded, Pixels

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def resident_mib() -> float:
    """Resident memory of this process now, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def invented(num_train: int, num_test: int) -> Decoded:
    """Noise in the shape of CIFAR-10."""
    draw = torch.Generator().manual_seed(0)
    splits = [
        Pixels(
            torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=draw),
            torch.randint(0, 10, (count,), generator=draw),
        )
        for count in (num_train, num_test)
    ]
    return Decoded(*splits, num_classes=10)


def main() -> None:
    options = arguments(__doc__, rounds={"type": int, "default": 5, "help": "default 5"})
    sizes = (5_000, 1_000) if options.quick else (50_000, 10_000)
    numbers: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pixels.safetensors"
        cache.load_or_decode(file, "benchmark", lambda: invented(*sizes))
        before = resident_mib()
        opened: list[object] = []

        def refuse() -> Decoded:
            raise RuntimeError("the cache was not trusted")

        seconds = [
            timed(lambda: opened.append(cache.load_or_decode(file, "benchmark", refuse))) for _ in range(options.rounds)
        ]
        grown = (resident_mib() - before) / options.rounds
    numbers["open"] = {"seconds": seconds, "mib": grown}
    show([{"what": "open and verify the cache", "seconds": statistics.median(seconds), "MiB each": grown}])

    from PIL import Image
    from torchvision import transforms

    images = invented(128, 1).train.images
    draws = torch.rand(128, 3)
    fill = torch.tensor([125, 123, 114], dtype=torch.uint8)
    augment = Augment(pad=4, flip=True)
    per_sample = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    arrays = images.numpy()
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    taken = interleaved(
        {
            "PIL, image by image": lambda: timed(
                lambda: torch.stack([per_sample(Image.fromarray(array)) for array in arrays])
            ),
            "ours": lambda: timed(lambda: normalise(augment(images, draws, fill), mean, std)),
        },
        4 * options.rounds,
    )
    show([{"batch of 128": name, "milliseconds": 1e3 * statistics.median(each)} for name, each in taken.items()])
    gain = ratio(taken["PIL, image by image"], taken["ours"])
    conclude(f"cache opens in {statistics.median(seconds):.2f} s of 1; batch: {gain} faster", numbers, options)


if __name__ == "__main__":
    main()
