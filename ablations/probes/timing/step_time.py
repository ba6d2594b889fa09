"""What skipping blocks saves of a training step (Huang et al. 2016, arXiv:1603.09382, table 2).

Differs from the paper, which times whole runs: steps of one network with and without skipping take turns, because whole
runs on a shared machine cannot be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

SKIPPING, ALL_BLOCKS = "seconds/skipping", "seconds/all_blocks"


@dataclass(frozen=True, kw_only=True)
class StepTime(Probe):
    """Seconds of a step in each round, of a network that goes on training with blocks skipped and with all of them.

    A round is `steps` steps of either on `batch_size` training images, in this `precision` of a recipe.
    """

    batch_size: int
    precision: str
    rounds: int = 20
    steps: int = 10
    units = {SKIPPING: "s", ALL_BLOCKS: "s"}
    asks_foreign = False

    def __post_init__(self) -> None:
        refuse_below(self, batch_size=1, rounds=1, steps=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """The trained network is copied, and its copies train at a rate so small that nothing blows up."""
        import torch

        from ablations.harness.stopwatch import in_turns, training_steps
        from modules import set_survival
        from modules.training.recipe import HUANG2016_CIFAR, with_overrides

        size = self.batch_size
        images, labels = next(iter(subject.data.evaluation_batches("train", size, subject.device, limit=size)))
        recipe = with_overrides(HUANG2016_CIFAR, {"learning_rate": 1e-4, "precision": self.precision})
        networks = {
            SKIPPING: copy.deepcopy(subject.network),
            ALL_BLOCKS: set_survival(copy.deepcopy(subject.network), 1.0),
        }
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
