"""Training step of ResNet-110 with stochastic depth, against the same step at constant depth.

Survival probability 0.5 for the last block, linear rule, one draw per mini-batch (Huang et al. 2016, arXiv:1603.09382,
section 4, who report 25 % less time). Both eager, channels_last, the same precision, batch 128 of CIFAR's shape, in one
process; a skipped branch is really skipped. Draws vary, so the share of branches that ran is printed beside the ratio.
Target: at most 0.80 of the time at constant depth; 0.745 would be the share of the branches alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from timing import arguments, conclude, interleaved, ratio, show, timed

from ablations.harness import runtime
from ablations.harness.stopwatch import training_steps
from modules import Network, build
from modules.training.recipe import HUANG2016_CIFAR, Precision

TARGET = 0.80


def steps_of(network: Network, batch_size: int, precision: Precision, count: int) -> Callable[[], float]:
    """A function that trains so many steps on one batch of noise and returns their seconds."""
    network = network.to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))
    return partial(timed, training_steps(network, replace(HUANG2016_CIFAR, precision=precision), images, labels, count))


def main() -> None:
    options = arguments(
        __doc__,
        network={"default": "resnet110", "metavar": "NAME"},
        batch={"type": int, "default": 128, "help": "images per step, default 128"},
        precision={"choices": ["32-true", "bf16-mixed"], "default": "32-true"},
        steps={"type": int, "default": 6, "help": "per turn, default 6"},
        rounds={"type": int, "default": 10, "help": "default 10"},
    )
    steps, rounds = (2, 2) if options.quick else (options.steps, options.rounds)
    runtime.keep_freed_memory()
    torch.manual_seed(0)
    stochastic = build(options.network, survival_prob=0.5)
    blocks = len(stochastic.blocks)
    expected = sum(block.survival_prob for _, block in stochastic.named_blocks()) / blocks
    arms = {
        "constant depth": steps_of(build(options.network), options.batch, options.precision, steps),
        "stochastic depth": steps_of(stochastic, options.batch, options.precision, steps),
    }
    ran = [0]
    for _, block in stochastic.named_blocks():
        block.branch.register_forward_pre_hook(lambda *_: ran.__setitem__(0, ran[0] + 1))
    seconds = interleaved(arms, rounds)
    share = ran[0] / (blocks * steps * rounds)
    saved = ratio(seconds["stochastic depth"], seconds["constant depth"])
    show(
        [
            {"arm": name, "s/step": statistics.median(each) / steps, "branches run": share_of}
            for (name, each), share_of in zip(seconds.items(), (1.0, share), strict=True)
        ]
    )
    print(f"branches expected to run: {expected:.3f}")
    numbers = {"seconds": seconds, "steps": steps, "share": share, "expected_share": expected, "ratio": saved}
    conclude(f"stochastic over constant depth {saved} of at most {TARGET}", numbers, options)


if __name__ == "__main__":
    main()
