"""How gradients grow on their way back through untrained networks: by depth, shortcuts and batch norm.

In training such networks differ in how far they have come; at the start nothing but the architecture tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from modules import Network

GROWTH = "gradient/growth"
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "plain": {"skip": False},
    "original": {},
    "preact": {"order": "full_preactivation"},
}
"""Name -> arguments of `resnet_cifar`."""
NORMS = ("batch_norm", "no_norm")


def kind(family: str, norm: str) -> str:
    """What the records call networks of a family with or without batch norm."""
    return f"{family}_{norm}"


@dataclass(frozen=True, kw_only=True)
class UntrainedGradients(Probe):
    """Decades by which the gradient of untrained CIFAR networks grows from the last block's output to the first's.

    Negative where it vanishes. Of every family, with batch norm and without, at these depths and this width, with the
    weights that the seed draws; whatever network is asked. On `limit` training images.
    """

    depths: tuple[int, ...]
    width: int
    batch_size: int = 64
    limit: int = 256
    units = {GROWTH: "decades"}
    asks_foreign = False

    def __post_init__(self) -> None:
        refuse_below(self, width=1, batch_size=1, limit=1)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """There and back in double precision, which takes twice as long."""
        of_all = sum((depth - 2) // 2 for depth in self.depths) / max(1, blocks)
        return 6.0 * self.limit * of_all * len(FAMILIES) * len(NORMS)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        import torch

        from ablations.probes.gradients.block_gradients import block_norms
        from modules import build

        data = subject.data
        batches = [
            (images.double(), labels)
            for images, labels in data.evaluation_batches("train", self.batch_size, subject.device, limit=self.limit)
        ]
        for family, arguments in FAMILIES.items():
            for norm in NORMS:
                for depth in self.depths:
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(subject.seed)
                        network = build("resnet_cifar", data.num_classes, data.in_channels, depth=depth,
                                        width=self.width, **arguments)  # fmt: skip
                    if norm == "no_norm":
                        remove_norms(network)
                    norms = [norm for norm, _ in block_norms(network.to(subject.device).double(), batches).values()]
                    where = point("untrained", network=kind(family, norm), depth=depth)
                    yield Measurement(where, GROWTH, math.log10(norms[0] / norms[-1]))
                    subject.on_pass()


def remove_norms(network: Network) -> None:
    """Puts nothing in the place of every batch norm; the weights of all other layers stay."""
    from torch import nn

    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
