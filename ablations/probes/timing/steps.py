"""Seconds of training steps: what skipping blocks saves of one, and what transformers add to it.

Networks take turns in one process, because whole runs on a shared machine cannot be compared; Huang et al. 2016,
arXiv:1603.09382, table 2, time whole runs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below, refuse_unknown
from ablations.harness.store.records import point
from modules.training.recipe import HUANG2016_CIFAR, Precision, with_overrides

SKIPPING, ALL_BLOCKS = "seconds/skipping", "seconds/all_blocks"
NETWORKS = {"cnn": "none", "single": "single", "multi": "multi"}
"""Name in the records -> the transformers of `st_svhn`."""
DIGITS = 5  # heads of the networks


@dataclass(frozen=True, kw_only=True)
class StepTime(Probe):
    """Seconds of a step in each round, of a network that goes on training with blocks skipped and with all of them.

    A round is `steps` steps of either on `batch_size` training images, in this `precision` of a recipe. depth: 0 for
    the network that is asked, else of a ResNet with random weights, `width` channels, the linear rule and p_L = 0.5,
    because a deep network can be timed where it cannot be trained.
    """

    batch_size: int
    precision: str
    depth: int = 0
    width: int = 16
    rounds: int = 20
    steps: int = 10
    units = {SKIPPING: "s", ALL_BLOCKS: "s"}
    version = 2
    asks_foreign = False

    def __post_init__(self) -> None:
        refuse_below(self, batch_size=1, rounds=1, steps=1, depth=0, width=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """The network is copied, and its copies train at a rate so small that nothing blows up."""
        import torch

        from ablations.harness.stopwatch import in_turns, training_steps
        from modules import build, set_survival

        size, network = self.batch_size, subject.network
        images, labels = next(iter(subject.data.evaluation_batches("train", size, subject.device, limit=size)))
        recipe = with_overrides(HUANG2016_CIFAR, {"learning_rate": 1e-4, "precision": self.precision})
        if self.depth:
            data = subject.data
            network = build(
                "resnet_cifar", data.num_classes, data.in_channels, depth=self.depth, width=self.width,
                average_shortcut=True, survival_prob=0.5,
            ).to(subject.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # fmt: skip
        networks = {SKIPPING: copy.deepcopy(network), ALL_BLOCKS: set_survival(copy.deepcopy(network), 1.0)}
        with torch.random.fork_rng([subject.device] if subject.device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(subject.seed)
            arms = {
                metric: training_steps(network, recipe, images, labels, self.steps)
                for metric, network in networks.items()
            }
            found = in_turns(arms, self.rounds, subject.device, subject.on_pass)
        for metric, seconds in found.items():
            for number, value in enumerate(seconds):
                yield Measurement(point("step", round=number), metric, value / self.steps)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Of both networks; the one that skips does about four fifths."""
        return 3 * 1.8 * self.rounds * self.steps * self.batch_size


@dataclass(frozen=True, kw_only=True)
class TransformerSteps(Probe):
    """Multiply-adds in M of `st_svhn` networks with random weights, and seconds of their training steps in turns.

    Whatever network is asked: how sampling compares with convolutions depends on the width, so that the width is given.
    precision: of a step. rounds: of turns. timed_batch, timed_size: images of a step and their pixels. timed_width,
    timed_hidden: filters and hidden units. `images_on_gpu`: of a step, 0 where it was timed on a CPU, which is no
    evidence for what a paper says of GPUs. Raises ValueError for what cannot be timed.
    """

    precision: Precision
    rounds: int
    timed_batch: int
    timed_size: int
    timed_width: int
    timed_hidden: int
    units = {"multiply_adds": "M", "seconds": "s", "images_on_gpu": ""}
    needs_blocks = False

    def __post_init__(self) -> None:
        refuse_unknown(self, precision=get_args(Precision))
        refuse_below(self, rounds=1, timed_batch=1, timed_size=16, timed_width=1, timed_hidden=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """On random colour images, without the subject's network."""
        import torch

        from ablations.harness.stopwatch import in_turns, training_steps
        from modules import build, recipe_for
        from modules.blocks.cost import cost

        size = self.timed_size
        yield Measurement(point("timed"), "images_on_gpu", float(self.timed_batch * (subject.device.type == "cuda")))
        devices = [subject.device] if subject.device.type == "cuda" else []
        # A tiny rate, because what is timed must not blow up.
        recipe = with_overrides(recipe_for("st_svhn"), {"learning_rate": 1e-6, "precision": self.precision})
        steps = {}
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed(subject.seed)
            images = torch.randn(self.timed_batch, 3, size, size, device=subject.device)
            images = images.contiguous(memory_format=torch.channels_last)
            labels = torch.randint(11, (len(images), DIGITS), device=subject.device)
            for name, transformers in NETWORKS.items():
                network = build(
                    "st_svhn", 11, 3, image_size=size, transformers=transformers, num_digits=DIGITS,
                    width=self.timed_width, hidden=self.timed_hidden,
                ).to(subject.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # fmt: skip
                counted = cost(network, (3, size, size)).multiply_adds / 1e6
                yield Measurement(point("timed", network=name), "multiply_adds", counted)
                steps[name] = training_steps(network, recipe, images, labels, 1)
            found = in_turns(steps, self.rounds, subject.device, subject.on_pass)
        for name, seconds in found.items():
            for number, value in enumerate(seconds):
                yield Measurement(point("timed", network=name, round=number), "seconds", value)
