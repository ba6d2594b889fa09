"""Loss and error of a network whose weights are moved along directions: what a surface asks at every point.

The network itself is never written to: a copy is moved, and each point starts from the same kept weights, so that its
values do not depend on the points before it. Memory does not grow with the number of points.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ablations.probes.landscape.directions import Direction, refuse_misfits
from ablations.probes.landscape.surface_file import BatchNormPolicy, Precision
from modules.blocks.fold import folded
from modules.blocks.layers import check_choice

Batches = Sequence[tuple[Tensor, Tensor]]
"""Normalised images (N, C, H, W) and labels (N,), on the network's device."""

METRICS = ("loss", "loss_standard_error", "error")


@dataclass(frozen=True)
class Question:
    """A network, the splits of images to ask it about, where to move it, and how to compute.

    batch_norm: "keep" leaves the running statistics as trained; "recompute" averages them anew at every point over
    the split "train" (or the first one; each batch counts alike); "batch" normalises each batch by itself.
    precision: "bf16" computes in bfloat16 (under autocast, or with everything cast if folded); weights are moved in
    fp32. fold: let convolutions swallow the batch norm behind them, which is faster and equal up to rounding.
    compiled: torch.compile the copy; pays after some minutes of points.
    Raises ValueError for another word, if there is no image, if a direction moves what the network does not have, or if
    `fold` cannot be had: batch norm then must be kept as it is.
    """

    network: nn.Module
    batches: Mapping[str, Batches]
    directions: tuple[Direction, ...]
    batch_norm: BatchNormPolicy = "keep"
    precision: Precision = "fp32"
    fold: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        check_choice("batch_norm", self.batch_norm, get_args(BatchNormPolicy))
        check_choice("precision", self.precision, get_args(Precision))
        for split, batches in self.batches.items():
            if not sum(len(labels) for _, labels in batches):
                raise ValueError(f"split {split!r} has no images to compute a loss on")
        if not self.batches:
            raise ValueError("no images to compute a loss on")
        for direction in self.directions:
            refuse_misfits(self.network, direction)
        if self.fold and (self.batch_norm != "keep" or moves_norms(self.network, self.directions)):
            raise ValueError("fold needs batch norm as it is: batch_norm='keep', and no direction that moves it")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all values at a point, such as "train/loss"."""
        return tuple(f"{split}/{metric}" for split in self.batches for metric in METRICS)


def _norms(network: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]


def moves_norms(network: nn.Module, directions: Sequence[Direction]) -> bool:
    """Whether a direction moves parameters or statistics of a batch norm."""
    owners = {name for name, _ in _norms(network)}
    return any(name.rpartition(".")[0] in owners for direction in directions for name in direction)


def point_losses(question: Question) -> Callable[[Sequence[float]], dict[str, float]]:
    """A function from coordinates, one for each direction, to the values of `question.metrics`.

    Losses are mean cross entropies in nats with the standard error of that mean over the images (as if they were drawn
    from endlessly many), errors are in percent. What is not finite is given as it is.
    """
    network = copy.deepcopy(question.network).eval().requires_grad_(False)
    centre = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    directions = question.directions
    cast = question.precision == "bf16" and question.fold
    if question.fold:
        centre, directions = _folded_line(network, directions)
        network = folded(network, torch.bfloat16 if cast else torch.float32)
    if question.compiled:
        network.compile()
    targets = network.state_dict()  # the very tensors, not copies
    moved = [
        (targets[name], centre[name], [each.get(name) for each in directions])
        for name in targets
        if any(name in each for each in directions)
    ]
    norms = [module for _, module in _norms(network)]
    first = "train" if "train" in question.batches else next(iter(question.batches))
    device = next(iter(question.batches[first]))[0].device.type

    def under() -> AbstractContextManager[object]:
        if question.precision == "fp32":  # on a GPU too: no TF32, and the same sums every time
            return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        return nullcontext() if cast else torch.autocast(device, torch.bfloat16)

    def logits(images: Tensor) -> Tensor:
        found: Tensor = network(images.bfloat16() if cast else images)
        return found

    @torch.no_grad()
    def at(coordinates: Sequence[float]) -> dict[str, float]:
        for target, start, offsets in moved:
            here = start
            for coordinate, offset in zip(coordinates, offsets, strict=True):
                if offset is not None and coordinate != 0.0:  # the centre stays what it is to the last bit
                    here = here.add(offset, alpha=coordinate)
            target.copy_(here)
        with under():
            if question.batch_norm == "recompute":
                _recompute(norms, lambda: [logits(images) for images, _ in question.batches[first]])
            for norm in norms if question.batch_norm == "batch" else ():
                norm.train()
                norm.momentum = 0.0
            found: dict[str, float] = {}
            for split, batches in question.batches.items():
                found |= _values(split, logits, batches)
        return found

    return at


def _values(split: str, logits: Callable[[Tensor], Tensor], batches: Batches) -> dict[str, float]:
    losses, wrong = [], 0
    for images, labels in batches:
        answer = logits(images)
        answer = answer if answer.dtype == torch.float64 else answer.float()
        losses.append(nn.functional.cross_entropy(answer, labels, reduction="none").double())
        wrong += int((answer.argmax(1) != labels).sum())
    each = torch.cat(losses)
    error = float(each.std()) / len(each) ** 0.5 if len(each) > 1 else float("nan")
    values = (float(each.mean()), error, 100.0 * wrong / len(each))
    return {f"{split}/{metric}": value for metric, value in zip(METRICS, values, strict=True)}


def _recompute(norms: Sequence[_BatchNorm], run: Callable[[], object]) -> None:
    """Running statistics become the mean over the batches that `run` computes."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean instead of a moving one
        norm.train()
    run()
    for norm in norms:
        norm.eval()


def _folded_line(
    network: nn.Module, directions: Sequence[Direction]
) -> tuple[dict[str, Tensor], tuple[dict[str, Tensor], ...]]:
    """Where the folded network starts, and its directions: folding is linear while batch norm stays as it is."""

    def folded_state(offsets: Direction) -> dict[str, Tensor]:
        shifted = copy.deepcopy(network).double()
        state = shifted.state_dict()
        for name, offset in offsets.items():
            state[name].add_(offset)
        return folded(shifted, torch.float64).state_dict()

    with torch.no_grad():
        start = folded_state({})
        lines = []
        for direction in directions:
            end = folded_state(direction)
            lines.append({name: (end[name] - start[name]).float() for name in end if not end[name].equal(start[name])})
    return {name: tensor.float() for name, tensor in start.items()}, tuple(lines)
