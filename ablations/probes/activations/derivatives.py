"""Saturated activations: the derivatives of sigmoid, tanh and ReLU at the inputs that a network gives them.

Passes are in training mode, with the batch's own statistics, on copies.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALL = 0.01  # a derivative below this is saturated: a sigmoid within about 0.01 of 0 or 1
NUM_BINS = 20  # of the histogram of derivatives in [0, 1]
SUMMARY = ("mean", "largest", "small", "inexact")


@dataclass(frozen=True, kw_only=True)
class ActivationDerivatives(Probe):
    """Derivatives of each layer's activation on `limit` training images, always the same, over training.

    snapshots: evenly spread epochs.
    """

    batch_size: int = 64
    limit: int = 256
    snapshots: int = 5
    units = {f"derivative/{name}": "" for name in (*SUMMARY, "share")}
    needs_blocks = False
    asks_foreign = False  # theirs may work in place, which leaves nothing of the input

    def __post_init__(self) -> None:
        refuse_below(self, batch_size=1, limit=1, snapshots=2)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        batches = list(subject.data.evaluation_batches("train", self.batch_size, subject.device, limit=self.limit))
        for epoch in subject.snapshots:
            for module, slopes in activation_derivatives(subject.at(epoch), batches, subject.on_pass).items():
                layer = module.partition(".")[0]
                where = point("derivative", epoch=epoch, layer=layer)
                for name in SUMMARY:
                    yield Measurement(where, f"derivative/{name}", getattr(slopes, name))
                for number, share in enumerate(slopes.histogram):
                    at = point("derivative_bin", epoch=epoch, layer=layer, bin=number, bins=len(slopes.histogram))
                    yield Measurement(at, "derivative/share", share)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Derivatives cost as much as the pass."""
        return 2.0 * self.snapshots * self.limit


class Derivatives(NamedTuple):
    """The derivatives of an activation at all its inputs.

    mean, largest: of them. small: share below `SMALL`, in [0, 1]. inexact: share of the active units (input above 0)
    whose derivative is not exactly 1. histogram: shares in `NUM_BINS` equal bins of [0, 1], the last one closed.
    """

    mean: float
    largest: float
    small: float
    inexact: float
    histogram: tuple[float, ...]


def derivative(activation: nn.Module, x: Tensor) -> Tensor:
    """The derivative of an elementwise activation at each element of x, by autograd."""
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # .forward, not a call: hooks of the module are about the network's own pass.
        (found,) = torch.autograd.grad(activation.forward(x).sum(), x)
    return found


def activation_derivatives(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, Derivatives]:
    """Activation module by dotted name -> the derivatives at its inputs over all batches of (images, labels).

    Raises ValueError if there are no batches.
    """
    import torch
    from torch import nn

    network = copy.deepcopy(network).train()
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        slopes = derivative(module, inputs[0])
        seen.setdefault(name, []).append((slopes.flatten().cpu(), inputs[0].flatten().cpu()))

    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU | nn.Sigmoid | nn.Tanh):
            module.register_forward_hook(partial(add, name.removeprefix("blocks.")))
    count = 0
    with torch.no_grad():
        for images, _ in batches:
            network(images)
            count += 1
            on_pass()
    if not count:
        raise ValueError("no batches to take derivatives at")
    return {name: _summary(*map(torch.cat, zip(*parts, strict=True))) for name, parts in seen.items()}


def _summary(slopes: Tensor, inputs: Tensor) -> Derivatives:
    active = slopes[inputs > 0]
    counts = (slopes * NUM_BINS).long().clamp(0, NUM_BINS - 1).bincount(minlength=NUM_BINS)
    return Derivatives(
        mean=slopes.double().mean().item(),
        largest=slopes.max().item(),
        small=(slopes < SMALL).double().mean().item(),
        inexact=(active != 1).double().mean().item() if len(active) else 0.0,
        histogram=tuple((counts / len(slopes)).tolist()),
    )
