"""Training step of the house number network with one or four spatial transformers, against the same without.

Jaderberg et al. 2015, arXiv:1506.02025, section 4.2 and appendix A.5: 48 to 192 channels, five heads, 64 pixels, in
colour; fp32, channels_last, eager, on one batch of noise, forward, backward and SGD, in one process. The paper's batch
is 128; a smaller one keeps memory and time down, and both sides have the same.
Target: four transformers add at most the paper's 6 % to the step, plus what they add to its multiply-adds. Sampling has
none in this count, the localisation networks and the positions have.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from timing import arguments, conclude, interleaved, ratio, show, timed

from ablations.harness import runtime
from ablations.harness.stopwatch import training_steps
from modules import build, recipe_for
from modules.blocks.cost import cost

KINDS = ("none", "single", "multi")
PUBLISHED_WIDTH, PUBLISHED_HIDDEN = 48, 3072
SLOWER = 0.06


def main() -> None:
    options = arguments(
        __doc__,
        width={"type": int, "default": PUBLISHED_WIDTH, "help": "channels of the first convolution, default 48"},
        size={"type": int, "default": 64, "help": "of the images, in pixels, default 64"},
        batch={"type": int, "default": 16, "help": "images per step, default 16"},
        steps={"type": int, "default": 1, "help": "per turn, default 1"},
        rounds={"type": int, "default": 15, "help": "default 15"},
    )
    rounds = 2 if options.quick else options.rounds
    runtime.keep_freed_memory()
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(11, (options.batch, 5))
    hidden = PUBLISHED_HIDDEN * options.width // PUBLISHED_WIDTH
    arms, counted = {}, {}
    for kind in KINDS:
        network = build(
            "st_svhn", 11, 3, image_size=options.size, transformers=kind, num_digits=5, width=options.width,
            hidden=hidden,
        ).to(memory_format=torch.channels_last)  # fmt: skip
        counted[kind] = cost(network, (3, options.size, options.size)).multiply_adds
        run = training_steps(network, recipe_for("st_svhn"), images, labels, options.steps)
        arms[kind] = partial(timed, run)
    seconds = interleaved(arms, rounds)
    ratios = {kind: ratio(seconds[kind], seconds["none"]) for kind in KINDS}
    dearer = {kind: counted[kind] / counted["none"] for kind in KINDS}
    show(
        [
            {
                "transformers": kind,
                "s/step": statistics.median(seconds[kind]) / options.steps,
                "multiply-adds, M": counted[kind] / 1e6,
                "time over none": f"{ratios[kind].median:.3f}",
                "multiply-adds over none": f"{dearer[kind]:.3f}",
            }
            for kind in KINDS
        ]
    )
    target = dearer["multi"] + SLOWER
    numbers = {"seconds": seconds, "steps": options.steps, "ratios": ratios, "multiply_adds": counted, "target": target}
    conclude(f"four transformers over none {ratios['multi']} of at most {target:.3f}", numbers, options)


if __name__ == "__main__":
    main()
