"""One loss surface computed by two processes of one thread each, against one process of one thread.

The time of the two includes their start. Both files must be the same to the last byte. Target: at most 0.6 of the time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from lesions import samples
from timing import Worker, arguments, conclude, interleaved, ratio, show, timed

TARGET = 0.6


def drawing(name: str, num_images: int, steps: int):  # type: ignore[no-untyped-def]
    """Called with a number of processes and a file; seconds for the whole surface."""
    from ablations.harness import runtime
    from ablations.probes.landscape.directions import random_direction
    from ablations.probes.landscape.surface import surface
    from modules import build

    runtime.keep_freed_memory()
    torch.manual_seed(0)
    network = build(name).eval().to(memory_format=torch.channels_last)
    images, labels = samples(num_images, seed=1)
    images = images.contiguous(memory_format=torch.channels_last)
    batches = list(zip(images.split(64), labels.split(64), strict=True))
    directions = [random_direction(network, seed) for seed in (0, 1)]

    def draw(processes: int, file: Path) -> float:
        torch.set_num_threads(processes)  # which the processes divide among them
        return timed(lambda: surface(network, batches, directions, steps, file=file, processes=processes))

    return draw


def main() -> None:
    options = arguments(
        __doc__,
        network={"default": "resnet20", "metavar": "NAME"},
        images={"type": int, "default": 1024, "help": "per point, default 1024"},
        steps={"type": int, "default": 11, "help": "per axis, default 11"},
        rounds={"type": int, "default": 3, "help": "default 3"},
    )
    if options.quick:
        options.images, options.steps, options.rounds = 128, 3, 1
    with (
        tempfile.TemporaryDirectory() as folder,
        Worker(drawing, options.network, options.images, options.steps) as own,
    ):
        count = 0

        def taken(processes: int) -> float:
            nonlocal count
            count += 1
            return float(own(processes, Path(folder) / f"{processes}-{count}.npz"))

        seconds = interleaved({"one": lambda: taken(1), "two": lambda: taken(2)}, options.rounds)
        same = len({file.read_bytes() for file in Path(folder).iterdir()}) == 1
    gain = ratio(seconds["two"], seconds["one"])
    show([{"processes": name, "seconds": sorted(each)[len(each) // 2]} for name, each in seconds.items()])
    verdict = f"{options.network}, {options.steps}^2 points: two processes take {gain} of {TARGET} of one's time"
    conclude(f"{verdict}; files {'the same' if same else 'DIFFER'}", {"seconds": seconds, "same": same}, options)


if __name__ == "__main__":
    main()
