"""The loss surface of any network, along one or two directions in the space of its weights.

Li et al. 2018, "Visualizing the loss landscape of neural nets", arXiv:1712.09913, sections 3 and 4: the loss at
theta + alpha * d1 + beta * d2. Differs from the authors' tool: what batch norm does is an argument, an axis may hold 0
(and should: the centre is the network itself), points are shared among processes without talking to each other, a
stopped surface goes on where it was, and a fixed set of images stands for the training set where the caller says so.
"""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ablations.probes.landscape.directions import Direction
from ablations.probes.landscape.point_losses import Batches, Question, point_losses
from ablations.probes.landscape.refinement import Index, interpolate, new_points, strides, unneeded
from ablations.probes.landscape.surface_file import (
    COMPUTED,
    OPEN,
    BatchNormPolicy,
    Precision,
    Surface,
    axis,
    resumed,
)
from modules.weights import digest

SAVE_EVERY = 5.0  # seconds

Point = tuple[float, ...]


def surface(
    network: nn.Module,
    batches: Batches | Mapping[str, Batches],
    directions: Sequence[Direction],
    steps: int = 51,
    span: tuple[float, float] | Sequence[tuple[float, float]] = (-1.0, 1.0),
    *,
    batch_norm: BatchNormPolicy = "keep",
    precision: Precision = "fp32",
    fold: bool = False,
    compiled: bool = False,
    tolerance: float = 0.0,
    file: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
    processes: int = 1,
    devices: Sequence[str] = (),
    share: tuple[int, int] = (0, 1),
    on_point: Callable[[], object] = lambda: None,
) -> Surface:
    """Loss and error of the network at steps x ... points around it; the network is left as it is.

    batches: of images and labels on the network's device, or several splits of them by name; the plain ones are called
    "train". directions: one or two, see `directions`. span: lowest and highest coordinate, or those of each axis.
    batch_norm, precision, fold, compiled: see `Question`.
    tolerance: 0 computes every point; more leaves out points where the relative error of straight lines between
    coarser points was at most so much (they are marked INTERPOLATED; give 2^k + 1 steps).
    file: where the surface is kept while it grows; one that is there is gone on with. facts: more to keep in the file.
    processes: how many share the points, each a process of its own; devices: theirs in turn, such as "cuda:0" (default:
    the network's device). share: (rank, number of ranks) computes only that rank's points, for `merged`.
    on_point: called after each point.
    Raises ValueError for bad axes, directions or policies, or for a file of something else; an infinite or undefined
    loss is kept as it is, see `Surface.holes`.
    """
    splits = batches if isinstance(batches, Mapping) else {"train": batches}
    question = Question(network, splits, tuple(directions), batch_norm, precision, fold, compiled)
    if not 1 <= len(directions) <= 2:
        raise ValueError(f"{len(directions)} directions; a surface has one or two")
    spans = [each if isinstance(each, tuple) else span for each in span][: len(directions)]
    axes = [axis(each, steps) for each in spans]  # type: ignore[arg-type]
    rank, ranks = share
    if not 0 <= rank < ranks:
        raise ValueError(f"share {rank} of {ranks}; ranks count from 0")
    if tolerance < 0 or (tolerance and ranks > 1):
        raise ValueError(f"tolerance {tolerance:g}; give 0 or more, and 0 where ranks share: where to refine needs all")
    if tolerance and len(strides([len(each) for each in axes])) < 3:
        raise ValueError(f"tolerance {tolerance:g} needs coarser grids to begin with; give 2^k + 1 steps, not {steps}")
    if processes < 1:
        raise ValueError(f"{processes} processes; give 1 or more")
    described = json.loads(json.dumps({**identity(question), "tolerance": tolerance, **(facts or {})}))  # as in a file
    found = Surface.blank(axes, question.metrics, described)
    path = None if file is None else Path(file)
    if path is not None:
        found = resumed(path, found)
    if not found.open:
        return found
    home = str(next(iter(network.state_dict().values())).device)
    with _answering(question, processes, devices or [home]) as answers, kept(found, path) as keep:
        for points in _levels(found, tolerance):
            todo = [index for index in points[rank::ranks] if found.state[index] == OPEN]
            where = [tuple(float(a[i]) for a, i in zip(axes, index, strict=True)) for index in todo]
            for index, values in zip(todo, answers(where), strict=True):
                for metric, value in values.items():
                    found.values[metric][index] = value
                found.state[index] = COMPUTED
                keep()
                on_point()
    return found


def identity(question: Question) -> dict[str, Any]:
    """Hashes and policies: everything that the values depend on, so that a file is never gone on with by mistake."""
    images = itertools.chain.from_iterable(batch for split in question.batches.values() for batch in split)
    return {
        "network": digest(question.network.state_dict().items()),
        "directions": [digest(sorted(direction.items())) for direction in question.directions],
        "data": digest((str(number), tensor) for number, tensor in enumerate(images)),
        "images": {split: sum(len(y) for _, y in batches) for split, batches in question.batches.items()},
        "batch_norm": question.batch_norm,
        "precision": question.precision,
        "fold": question.fold,
        "compiled": question.compiled,
    }


def _levels(found: Surface, tolerance: float) -> Iterator[list[Index]]:
    """The points to compute, level by level; what need not be computed is interpolated on the way."""
    levels = strides(found.state.shape)
    metric = next(iter(found.values))
    for number, stride in enumerate(levels):
        points = new_points(found.state.shape, stride, levels[number - 1] if number else None)
        if tolerance and number >= 2:
            interpolate(
                found, unneeded(found, metric, points, levels[number - 2 : number + 1], tolerance), levels[number - 1]
            )
        yield points


@contextmanager
def kept(found: Surface, path: Path | None) -> Iterator[Callable[[], None]]:
    """Gives a function that saves the surface now and then; it is saved at the end, an interrupted one too."""
    last = time.monotonic()

    def keep() -> None:
        nonlocal last
        if path is not None and time.monotonic() - last > SAVE_EVERY:
            found.save(path)
            last = time.monotonic()

    try:
        yield keep
    finally:
        if path is not None:
            found.save(path)


# -- processes --------------------------------------------------------------------------------------------------------

Answers = Callable[[Sequence[Point]], Iterable[dict[str, float]]]


@contextmanager
def _answering(question: Question, processes: int, devices: Sequence[str]) -> Iterator[Answers]:
    """Gives a function from points to their values in order, computed here or by several processes."""
    if processes == 1:
        at = point_losses(question)
        yield lambda points: map(at, points)
        return
    packed = io.BytesIO()  # not shared memory, which containers give out sparingly
    torch.save(question, packed)
    spawn = multiprocessing.get_context("spawn")
    places = spawn.Queue()
    for number in range(processes):
        places.put(devices[number % len(devices)])
    threads = max(1, torch.get_num_threads() // processes)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    pool = ProcessPoolExecutor(processes, spawn, _prepare, (packed.getvalue(), places, threads))
    try:
        yield lambda points: pool.map(_answer, points)
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


_at: Callable[[Sequence[float]], dict[str, float]]


def _prepare(packed: bytes, places: Any, threads: int) -> None:
    """What a process does before its first point."""
    global _at
    from ablations.harness.runtime import keep_freed_memory

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    keep_freed_memory()
    torch.set_num_threads(threads)
    question: Question = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=False)  # from our parent
    _at = point_losses(_on(question, places.get()))


def _on(question: Question, device: str) -> Question:
    """The question with everything on a device."""
    return replace(
        question,
        network=question.network.to(device),
        batches={
            split: [(images.to(device), labels.to(device)) for images, labels in batches]
            for split, batches in question.batches.items()
        },
        directions=tuple({name: offset.to(device) for name, offset in each.items()} for each in question.directions),
    )


def _answer(point: Point) -> dict[str, float]:
    return _at(point)
