"""Data of CIFAR-10's size: opening decoded pixels, the memory they take, and the making of a training batch.

60,000 images of noise are written through the cache and opened again in a fresh process, digest checked, as
every start of a script does. Batches of 128: rows chosen, cropped, flipped and normalised by datamodules.augment, in
one process, against torchvision per sample as a Dataset does it: PIL transforms, or transforms.v2 on tensors, collated.
Target: opened within 1 s; at most 1.1 times the pixels in memory of its own, beside the pages of the file, which all
processes share and the system may take back; a batch 10 times faster than with PIL.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Worker, alone, arguments, conclude, interleaved, ratio, show, timed
from torch import Tensor
from torch.utils.data import default_collate

from ablations.harness import runtime

BATCH_SIZE = 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TARGETS = {"open": 1.0, "memory": 1.1, "batch": 10.0}


def noise(num_images: int) -> Tensor:
    """Pixels, uint8 (N, 32, 32, 3)."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, 32, 32, 3), dtype=torch.uint8, generator=draw)


def written(file: Path, num_images: int) -> float:
    """Writes the cache file; seconds for digest and file, without the making of the noise."""
    from datamodules.sources.cache import load_or_decode
    from datamodules.sources.pixels import Decoded, Pixels

    images = noise(num_images)
    labels = torch.arange(num_images) % 10
    test = num_images // 6
    decoded = Decoded(Pixels(images[test:], labels[test:]), Pixels(images[:test], labels[:test]), 10)
    return timed(lambda: load_or_decode(file, "noise", lambda: decoded))


def opener(file: Path) -> Callable[[], dict[str, float]]:
    """Opens the file and makes a data module of it, once; seconds and resident bytes added by each."""
    from datamodules.augment import Augment
    from datamodules.images import ImageData
    from datamodules.sources.cache import load_or_decode

    def never() -> None:
        raise AssertionError("the cache file was not believed")

    def opened() -> dict[str, float]:
        before = memory()
        started = time.perf_counter()
        decoded, digest = load_or_decode(file, "noise", never)  # type: ignore[arg-type]
        found = {"open": time.perf_counter() - started}
        found |= {f"open, {kind}": now - before[kind] for kind, now in memory().items()}
        started = time.perf_counter()
        data = ImageData(decoded, name="noise", digest=digest, augment=Augment(4, True))
        del decoded
        found["module"] = time.perf_counter() - started
        found |= {f"module, {kind}": now - before[kind] for kind, now in memory().items()}
        assert len(data.train)
        return found

    return opened


def memory() -> dict[str, float]:
    """Resident memory of this process in bytes, its own and that of mapped files, as Linux tells it."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    values = {words[0]: 1024.0 * int(words[1]) for words in lines if words[0] in ("RssAnon:", "RssFile:")}
    return {"own": values["RssAnon:"], "file": values["RssFile:"]}


def makers(num_images: int) -> dict[str, Callable[[], Tensor]]:
    """Three ways to make one training batch from pixels in memory."""
    from PIL import Image
    from torchvision import transforms
    from torchvision.transforms import v2

    from datamodules.augment import NUM_DRAWS, Augment, normalise

    images = noise(num_images)
    augment, fill = Augment(4, True), torch.tensor([125, 123, 114], dtype=torch.uint8)
    arrays, planes = images.numpy(), images.permute(0, 3, 1, 2).contiguous()
    crop = (32, 4)
    with_pil = transforms.Compose(
        [
            transforms.RandomCrop(*crop),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    with_tensors = v2.Compose(
        [
            v2.RandomCrop(*crop),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def rows() -> Tensor:
        return torch.randint(0, num_images, (BATCH_SIZE,))

    def ours() -> Tensor:
        chosen = images.index_select(0, rows())
        return normalise(augment(chosen, torch.rand(BATCH_SIZE, NUM_DRAWS), fill), MEAN, STD)

    return {
        "PIL per sample": lambda: default_collate([with_pil(Image.fromarray(arrays[i])) for i in rows().tolist()]),
        "v2 per sample": lambda: default_collate([with_tensors(planes[i]) for i in rows().tolist()]),
        "ours": ours,
    }


def main() -> None:
    options = arguments(
        __doc__,
        images={"type": int, "default": 60_000, "help": "default 60000"},
        batches={"type": int, "default": 20, "help": "of each kind per round, default 20"},
        rounds={"type": int, "default": 9, "help": "default 9"},
    )
    batches, rounds = (4, 3) if options.quick else (options.batches, options.rounds)
    pixel_bytes = options.images * 32 * 32 * 3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noise.safetensors"
        wrote = alone(written, file, options.images)
        opens = []
        for _ in range(rounds if options.quick else 5):
            with Worker(opener, file) as process:
                opens.append(process())
    found = {name: statistics.median(each[name] for each in opens) for name in opens[0]}
    rows: list[dict[str, object]] = [{"step": "write, with digest", "seconds": wrote, "own memory": "", "file": ""}]
    for step, key in (("open, digest checked", "open"), ("split and statistics", "module")):
        shares = {
            name: found[f"{key}, {kind}"] / pixel_bytes for name, kind in (("own memory", "own"), ("file", "file"))
        }
        rows.append({"step": step, "seconds": found[key], **shares})
    print("memory added, in sizes of the pixels, after each step")
    show(rows)

    runtime.keep_freed_memory()
    torch.manual_seed(0)
    arms = makers(options.images)
    for arm in arms.values():
        arm()
    turns = {name: lambda f=arm: timed(lambda: [f() for _ in range(batches)]) for name, arm in arms.items()}
    seconds = interleaved(turns, rounds)
    gains = {name: ratio(each, seconds["ours"]) for name, each in seconds.items()}
    print()
    show(
        [
            {"batch of 128": name, "ms": 1e3 * statistics.median(each) / batches, "over ours": gains[name]}
            for name, each in seconds.items()
        ]
    )
    grown = found["module, own"] / pixel_bytes
    numbers = {"written": wrote, "opened": opens, "memory": grown, "seconds": seconds, "ratios": gains}
    verdict = f"opened in {found['open']:.2f} s of {TARGETS['open']}, memory {grown:.2f} of {TARGETS['memory']}"
    conclude(f"{verdict}, PIL over ours {gains['PIL per sample']} of {TARGETS['batch']}", numbers, options)


if __name__ == "__main__":
    main()
