"""How exactly the gradient passes a stage of residual blocks: He et al. 2016, arXiv:1603.05027, equation 5.

With identity shortcuts and nothing after the addition x_L = x_l + sum of F, hence
dE/dx_l = dE/dx_L + dE/dx_L * d(sum of F)/dx_l.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point
from ablations.probes.gradients.block_gradients import forward

if TYPE_CHECKING:
    from torch import Tensor

    from modules import Network

DEVIATION = "relative_deviation"


@dataclass(frozen=True, kw_only=True)
class ResidualIdentity(Probe):
    """The relative deviation of each stage from the identity on training images, after evenly spread epochs.

    identity_images: how many, the first of the `limit` that `BlockGradients` takes. snapshots: epochs; a network that
    was given with its weights is asked once. A network without additions has no answer.
    """

    identity_images: int = 16
    limit: int = 256
    snapshots: int = 5
    units = {DEVIATION: ""}

    def __post_init__(self) -> None:
        refuse_below(self, identity_images=1, limit=1, snapshots=2)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        if subject.network.block(subject.network.order[0]).merge != "add":
            return
        batches = subject.data.evaluation_batches("train", self.identity_images, subject.device, limit=self.limit)
        images, labels = next(iter(batches))
        for epoch in subject.snapshots or (0,):
            network = subject.at(epoch) if subject.snapshots else subject.network
            for stage, deviation in enumerate(identity_deviations(network, images, labels), start=1):
                yield Measurement(point("identity", epoch=epoch, stage=stage), DEVIATION, deviation)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Forward and backward, and backward again for each stage, in double precision."""
        return 20.0 * self.snapshots * self.identity_images


def stages(network: Network) -> list[list[str]]:
    """The runs of neighbouring blocks between changes of shape: all but the first of each keep the shape; 2 or more."""
    groups: list[list[str]] = []
    for name in network.order:
        if not groups or network.block(name).changes_shape:
            groups.append([])
        groups[-1].append(name)
    return [group for group in groups if len(group) > 1]


def identity_deviations(network: Network, images: Tensor, labels: Tensor) -> list[float]:
    """For each stage, how far dE/dx_l is from dE/dx_L + dE/dx_L * d(sum of F)/dx_l, relative to its own norm.

    x_l is the output of the stage's first block, x_L of its last, the F are the branches between. In training mode on
    a copy, in float64 on the CPU: where the identity holds only rounding is left, about 1e-15.
    """
    import torch

    network = copy.deepcopy(network).to("cpu", torch.float64).train()
    branches: dict[str, Tensor] = {}
    for name in network.order:
        network.block(name).branch.register_forward_hook(lambda _, x, y, name=name: branches.update({name: y}))
    outputs, logits = forward(network, images.to("cpu", torch.float64))
    loss = torch.nn.functional.cross_entropy(logits, labels.to("cpu"))
    found = []
    for first, *others in stages(network):
        start, end = outputs[first], outputs[others[-1]]
        at_start, at_end = torch.autograd.grad(loss, [start, end], retain_graph=True)
        residual = sum((branches[name] for name in others), torch.zeros_like(end))
        (through,) = torch.autograd.grad(residual, start, at_end, retain_graph=True)
        found.append(float((at_start - at_end - through).norm() / at_start.norm()))
    return found
