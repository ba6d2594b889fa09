"""Gradients inside a network: their norm at each block, the identity of residual stages, and saturated activations.

The identity is that of He et al. 2016, arXiv:1603.05027, equation 5: with identity shortcuts and nothing after the
addition x_L = x_l + sum of F, hence dE/dx_l = dE/dx_L + dE/dx_L * d(sum of F)/dx_l.
All passes are in training mode, with the batch's own statistics, as the gradients of training are; they run on copies,
so that no running statistic of the given network moves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules import Network

ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Tanh)
SMALL = 0.01  # a derivative below this is saturated: a sigmoid within about 0.01 of 0 or 1
NUM_BINS = 20  # of the histogram of derivatives in [0, 1]

Batches = Iterable[tuple[Tensor, Tensor]]


class Norms(NamedTuple):
    """L2 norms of the gradient of a batch's mean loss: by a block's output (all images at once), and by its weights."""

    activation: float
    parameters: float


def forward(network: Network, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The output of each block of the chain by name, gradients included, and the logits (N, classes)."""
    x = network.stem(images)
    outputs = {}
    for name in network.order:
        x = network.block(name)(x)
        outputs[name] = x
    return outputs, network.head(x)


def block_norms(network: Network, batches: Batches, on_pass: Callable[[], object] = lambda: None) -> dict[str, Norms]:
    """Block of the chain -> its norms, each the mean over the batches of (images (N, C, H, W), labels (N,)).

    Raises ValueError if there are no batches.
    """
    network = copy.deepcopy(network).train()
    owners = {name: list(network.block(name).parameters()) for name in network.order}
    weights = [weight for owned in owners.values() for weight in owned]
    sums = {name: [0.0, 0.0] for name in network.order}
    count = 0
    for images, labels in batches:
        outputs, logits = forward(network, images)
        loss = nn.functional.cross_entropy(logits, labels)
        found = torch.autograd.grad(loss, [*outputs.values(), *weights])
        remaining = iter(found[len(outputs) :])
        for name, gradient in zip(outputs, found, strict=False):
            squares = [next(remaining).square().sum() for _ in owners[name]]
            sums[name][0] += gradient.norm().item()
            sums[name][1] += float(torch.stack(squares).sum().sqrt()) if squares else 0.0
        count += 1
        on_pass()
    if not count:
        raise ValueError("no batches to take gradients of")
    return {name: Norms(*(total / count for total in totals)) for name, totals in sums.items()}


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

    x_l is the output of the stage's first block, x_L of its last, the F are the branches between. In float64 on the
    CPU: where the identity holds only rounding is left, about 1e-15.
    """
    network = copy.deepcopy(network).to("cpu", torch.float64).train()
    branches: dict[str, Tensor] = {}
    for name in network.order:
        network.block(name).branch.register_forward_hook(partial(_keep, branches, name))
    outputs, logits = forward(network, images.to("cpu", torch.float64))
    loss = nn.functional.cross_entropy(logits, labels.to("cpu"))
    found = []
    for first, *others in stages(network):
        start, end = outputs[first], outputs[others[-1]]
        at_start, at_end = torch.autograd.grad(loss, [start, end], retain_graph=True)
        residual = sum((branches[name] for name in others), torch.zeros_like(end))
        (through,) = torch.autograd.grad(residual, start, at_end, retain_graph=True)
        found.append(float((at_start - at_end - through).norm() / at_start.norm()))
    return found


def _keep(found: dict[str, Tensor], name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
    found[name] = output


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
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # .forward, not a call: hooks of the module are about the network's own pass.
        (found,) = torch.autograd.grad(activation.forward(x).sum(), x)
    return found


@torch.no_grad()
def activation_derivatives(
    network: Network, batches: Batches, on_pass: Callable[[], object] = lambda: None
) -> dict[str, Derivatives]:
    """Activation module by dotted name -> the derivatives at its inputs over all batches of (images, labels).

    Raises ValueError if there are no batches.
    """
    network = copy.deepcopy(network).train()
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        slopes = derivative(module, inputs[0])
        seen.setdefault(name, []).append((slopes.flatten().cpu(), inputs[0].flatten().cpu()))

    for name, module in network.named_modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_hook(partial(add, name.removeprefix("blocks.")))
    count = 0
    for images, _ in batches:
        network(images)
        count += 1
        on_pass()
    if not count:
        raise ValueError("no batches to take derivatives at")
    return {name: _summary(*map(torch.cat, zip(*parts, strict=True))) for name, parts in seen.items()}


def _summary(slopes: Tensor, inputs: Tensor) -> Derivatives:
    active = slopes[inputs > 0]
    counts = torch.bincount((slopes * NUM_BINS).long().clamp(0, NUM_BINS - 1), minlength=NUM_BINS)
    return Derivatives(
        mean=slopes.double().mean().item(),
        largest=slopes.max().item(),
        small=(slopes < SMALL).double().mean().item(),
        inexact=(active != 1).double().mean().item() if len(active) else 0.0,
        histogram=tuple((counts / len(slopes)).tolist()),
    )
