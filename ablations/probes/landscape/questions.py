"""What `loss_landscape` asks a trained network: its plane, lines, angles, way, curvature and what lies between two.

Every part yields measurements for the records and leaves surfaces as .npz files in the subject's folder, where a
stopped one is gone on with. Directions are drawn from the run's seed, so that arms with one seed share them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ablations.harness.probing import Measurement, Subject
from ablations.harness.store.files import write_npz
from ablations.harness.store.records import point
from ablations.probes.landscape.convexity import excess_variation, least_curvature, mean_rise, share_negative
from ablations.probes.landscape.directions import between, cosine, moved, random_direction
from ablations.probes.landscape.hessian import Hessian, density, extremes, trace
from ablations.probes.landscape.point_losses import Batches, moves_norms
from ablations.probes.landscape.sharpness import curvature, epsilon_sharpness
from ablations.probes.landscape.spectrum import summary
from ablations.probes.landscape.surface import kept, surface
from ablations.probes.landscape.surface_file import COMPUTED, OPEN, Surface, resumed
from ablations.probes.landscape.trajectory import plane_of, principal_plane, share_of_random_walk
from modules.weights import read_weights

NORMALISATIONS = ("filter", "none")
LANCZOS_TOLERANCE = 0.05  # of each eigenvalue; ratios are compared with 0.1
ENDS = ("hessian/least", "hessian/least_residual", "hessian/largest")
KEPT_PIXELS = 200_000  # of images whose graphs fit in memory: 195 of CIFAR's size
HESSIAN_BATCH = 32  # with the graphs kept, small batches stay in the cache
CHECKED = 5  # points at which a surface in lower precision is compared with fp32


def batches_of(subject: Subject, split: str, limit: int, size: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """So many images of a split, without augmentation, always the same, in the memory format that convolves fastest."""
    size = size or subject.settings["batch_size"]
    found = subject.data.evaluation_batches(split, size, subject.device, limit)  # type: ignore[arg-type]
    return [(images.contiguous(memory_format=torch.channels_last), labels) for images, labels in found]


def both_splits(subject: Subject) -> dict[str, Batches]:
    """Images for the training loss and error and for the test error."""
    return {split: batches_of(subject, split, subject.settings["limit"]) for split in ("train", "test")}


def drawn(subject: Subject, number: int, normalise: str | None = None) -> dict[str, Tensor]:
    """Random direction `number` of this run's seed."""
    settings = subject.settings
    normalise = settings["normalise"] if normalise is None else normalise
    return random_direction(subject.network, direction_seed(subject, number), normalise, settings["vectors"])  # type: ignore[arg-type]


def direction_seed(subject: Subject, number: int) -> int:
    """Seeds of directions do not meet those of other runs."""
    return 100_000 * (subject.seed + 1) + number


def draw_surface(
    subject: Subject, name: str, batches: Any, directions: list[Any], steps: int, span: Any, **facts: Any
) -> Surface:
    """The surface along the directions as the settings want it computed, kept as `name`.npz."""
    settings = subject.settings
    cuda = subject.device.type == "cuda"
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if cuda else []
    fold = settings["fold"] and not moves_norms(subject.network, directions)  # else it cannot be had
    points = steps ** len(directions)
    title = f"{subject.arm} seed {subject.seed}: {name}"
    file = subject.folder / f"{name}.npz"
    before = points - Surface.load(file).open if file.exists() else 0
    with tqdm(
        total=points, initial=before, desc=title, unit="point", disable=not sys.stderr.isatty(), leave=False
    ) as bar:

        def on_point() -> None:
            bar.update()
            subject.on_pass()

        return surface(
            subject.network, batches, directions, steps, span,
            batch_norm=settings["batch_norm"], precision=settings["precision"], fold=fold,
            compiled=settings["compile"], tolerance=settings["tolerance"], file=file,
            facts={"data_name": subject.data.name, "vectors": settings["vectors"], **facts},
            processes=subject.processes, devices=devices, on_point=on_point,
        )  # fmt: skip


# -- surfaces ---------------------------------------------------------------------------------------------------------


def plane(subject: Subject) -> Iterator[Measurement]:
    """The surface around the network along two random directions: how much of it is not convex, and how rough."""
    settings = subject.settings
    directions = [drawn(subject, number) for number in (0, 1)]
    seeds = [direction_seed(subject, number) for number in (0, 1)]
    span = (-settings["span"], settings["span"])
    found = draw_surface(
        subject, "plane", both_splits(subject), directions, settings["steps"], span,
        normalise=settings["normalise"], direction_seeds=seeds,
    )  # fmt: skip
    values = found.computed["train/loss"]
    yield Measurement(point("plane"), "share_nonconvex", share_negative(values, found.axes), "%")
    yield Measurement(point("plane"), "excess_variation", excess_variation(values), "")
    yield Measurement(point("plane"), "holes", found.holes, "points")
    yield Measurement(point("plane"), "loss/range", _range(values), "nats")
    if found.centre is not None:
        for metric in ("train/loss", "train/loss_standard_error", "train/error", "test/loss", "test/error"):
            unit = "%" if metric.endswith("error") and "loss" not in metric else "nats"
            yield Measurement(point("centre"), metric, float(found.values[metric][found.centre]), unit)
    if settings["precision"] != "fp32" or settings["fold"]:
        yield deviation(subject, found, directions)


def deviation(subject: Subject, found: Surface, directions: list[Any]) -> Measurement:
    """How far the surface's losses are from exact ones at points along its diagonal, as a share of its range."""
    batches = batches_of(subject, "train", subject.settings["limit"])
    last = len(found.axes[0]) - 1
    off = []
    for number in range(CHECKED):
        index = round(number * last / (CHECKED - 1))
        where = [float(axis[index]) for axis in found.axes]
        exact = surface(moved(subject.network, directions, where), batches, directions[:1], 3, (-1e-6, 1e-6))
        off.append(abs(found.values["train/loss"][index, index] - exact.values["train/loss"][1]))
        subject.on_pass()
    share = 100 * max(off) / _range(found.computed["train/loss"])
    return Measurement(point("plane"), "deviation/from_fp32", share, "%")


def _range(values: Any) -> float:
    """Highest minus lowest finite value; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if finite.size else float("nan")


def lines(subject: Subject) -> Iterator[Measurement]:
    """How much the loss rises along several random lines, with the chosen normalisation and without any."""
    settings = subject.settings
    batches = {"train": batches_of(subject, "train", settings["limit"])}
    kinds = {settings["normalise"]: settings["line_span"], "none": settings["raw_span"]}
    for normalise, reach in kinds.items():
        for number in range(settings["draws"]):
            direction = drawn(subject, number, normalise)
            seeds = [direction_seed(subject, number)]
            found = draw_surface(
                subject, f"line_{normalise}_{number}", batches, [direction], settings["line_steps"], (-reach, reach),
                normalise=normalise, direction_seeds=seeds,
            )  # fmt: skip
            rise = mean_rise(found.values["train/loss"], settings["line_steps"] // 2)
            yield Measurement(point("line", normalise=normalise, draw=number), "rise", rise, "nats")


def to_others(subject: Subject) -> Iterator[Measurement]:
    """The line to another trained network, and surfaces along directions of the user's own, where asked for."""
    settings = subject.settings
    if settings["towards"]:
        direction = between(subject.network, read_weights(settings["towards"], subject.network))
        found = draw_surface(
            subject, "towards", both_splits(subject), [direction], settings["steps"], (-0.5, 1.5), normalise="between"
        )
        yield Measurement(point("towards"), "excess_variation", excess_variation(found.values["train/loss"]), "")
    if settings["along"]:
        own = [read_weights(path) for path in settings["along"].split(",")]
        directions = [{name: part.to(subject.device) for name, part in each.items()} for each in own]
        span = (-settings["span"], settings["span"])
        found = draw_surface(
            subject, "along", both_splits(subject), directions, settings["steps"], span, normalise="as given"
        )
        yield Measurement(point("along"), "excess_variation", excess_variation(found.values["train/loss"]), "")


# -- directions -------------------------------------------------------------------------------------------------------


def angles(subject: Subject) -> Iterator[Measurement]:
    """How far from orthogonal pairs of random directions are, beside what their number of entries lets expect."""
    pairs = subject.settings["pairs"]
    for normalise in NORMALISATIONS:
        cosines = []
        for number in range(pairs):
            first, second = (drawn(subject, 1000 + 2 * number + each, normalise) for each in (0, 1))
            cosines.append(abs(cosine(first, second)))
            subject.on_pass()
        entries = sum(part.numel() for part in first.values())
        yield Measurement(point("angle", normalise=normalise), "cosine/mean_absolute", mean(cosines), "")
        yield Measurement(point("angle", normalise=normalise), "cosine/expected", (2 / (np.pi * entries)) ** 0.5, "")


def way(subject: Subject) -> Iterator[Measurement]:
    """How much of the way of training lies in two principal components, in two random directions, and of a walk."""
    states = [subject.at(epoch).state_dict() for epoch in subject.snapshots]
    names = [name for name, _ in subject.network.named_parameters()]
    best = principal_plane(states, names)
    chance = plane_of(states, names, [drawn(subject, number, "filter") for number in (0, 1)])
    yield Measurement(point("way"), "share/principal", best.share, "%")
    yield Measurement(point("way"), "share/random", chance.share, "%")
    yield Measurement(point("way"), "share/random_walk", share_of_random_walk(len(states), subject.seed), "%")
    for kind, plane_found in (("principal", best), ("random", chance)):
        for epoch, (x, y) in zip(subject.snapshots, plane_found.coordinates.tolist(), strict=True):
            yield Measurement(point("way", plane=kind, epoch=epoch), "x", x, "")
            yield Measurement(point("way", plane=kind, epoch=epoch), "y", y, "")
        if subject.seed == 0:  # the figure shows the first seed
            batches = {"train": batches_of(subject, "train", subject.settings["limit"])}
            draw_surface(
                subject, f"way_{kind}", batches, list(plane_found.directions), subject.settings["steps"],
                _spans(plane_found.coordinates), normalise="principal components" if kind == "principal" else "filter",
            )  # fmt: skip


def _spans(coordinates: Any) -> list[tuple[float, float]]:
    """A quarter of the way's extent more on every side; at least a hundredth of the longer side, so never nothing."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = np.maximum(0.25 * (high - low), 0.01 * float((high - low).max()))
    return [(float(a - m), float(b + m)) for a, b, m in zip(low, high, margin, strict=True)]


# -- curvature --------------------------------------------------------------------------------------------------------


def curvature_map(subject: Subject) -> Iterator[Measurement]:
    """|lambda_min / lambda_max| of the whole Hessian over the plane, beside how the plane itself curves there."""
    settings = subject.settings
    found = Surface.load(subject.folder / "plane.npz")
    directions = [drawn(subject, number) for number in (0, 1)]
    projected = least_curvature(found.computed["train/loss"], found.axes)
    last = len(found.axes[0]) - 1
    places = [round(number * last / (settings["map_steps"] + 1)) for number in range(1, settings["map_steps"] + 1)]
    batches = batches_of(subject, "train", settings["map_images"], HESSIAN_BATCH)
    axes = [found.axes[axis][places] for axis in (0, 1)]
    facts = {"plane": found.facts, "map_images": settings["map_images"], "lanczos_steps": settings["lanczos_steps"]}
    ratios = resumed(subject.folder / "map.npz", Surface.blank(axes, ENDS, facts))
    with (
        kept(ratios, subject.folder / "map.npz") as keep,
        tqdm(
            total=ratios.state.size, initial=ratios.state.size - ratios.open, unit="point",
            desc=f"{subject.arm} seed {subject.seed}: map", disable=not sys.stderr.isatty(), leave=False,
        ) as bar,
    ):  # fmt: skip
        for index in zip(*np.nonzero(ratios.state == OPEN), strict=True):
            where = [float(axis[i]) for axis, i in zip(axes, index, strict=True)]
            ends = _ends(subject, moved(subject.network, directions, where), batches)
            for metric, value in zip(ENDS, ends, strict=True):
                ratios.values[metric][index] = value
            ratios.state[index] = COMPUTED
            keep()
            bar.update()
    for i, alpha in enumerate(axes[0]):
        for j, beta in enumerate(axes[1]):
            there = point("map", alpha=float(alpha), beta=float(beta))
            for metric in ENDS:
                yield Measurement(there, metric, float(ratios.values[metric][i, j]), "nats")
            in_plane = float(projected[places[i] - 1, places[j] - 1])
            yield Measurement(there, "curvature/least_in_plane", in_plane, "nats")


def _ends(subject: Subject, network: nn.Module, batches: Batches) -> tuple[float, float, float]:
    """Least eigenvalue, its residual and the largest one; NaN where the loss has no finite curvature."""
    try:
        found = extremes(
            hessian_of(subject, network, batches), subject.settings["lanczos_steps"], LANCZOS_TOLERANCE, subject.seed
        )
    except FloatingPointError:
        return (float("nan"),) * 3
    return found.smallest, found.smallest_residual, found.largest


def hessian_of(subject: Subject, network: nn.Module, batches: Batches) -> Hessian:
    """The network's Hessian on the batches, with its graph kept where that is small."""
    pixels = sum(images.shape[0] * images.shape[2] * images.shape[3] for images, _ in batches)
    return Hessian(network, batches, keep_graph=pixels <= KEPT_PIXELS, on_pass=subject.on_pass)


def centre(subject: Subject) -> Iterator[Measurement]:
    """Sharpness of the network itself, each with its error over draws; and its spectrum.

    Nothing where the network's own loss is not finite, which `plane` counts as holes.
    """
    settings = subject.settings
    batches = batches_of(subject, "train", settings["map_images"], HESSIAN_BATCH)
    try:
        hessian = hessian_of(subject, subject.network, batches)
        for number in range(settings["draws"]):
            along = curvature(hessian, drawn(subject, number))
            yield Measurement(point("curvature", draw=number), "curvature/along", along, "nats")
        total = trace(hessian, settings["trace_draws"], subject.seed)
        yield Measurement(point("centre"), "hessian/trace", total.mean, "nats")
        yield Measurement(point("centre"), "hessian/trace_standard_error", total.error, "nats")
        steps, draws = settings["lanczos_steps"], max(2, settings["sharpness_draws"])
        starts = [extremes(hessian, steps, LANCZOS_TOLERANCE, subject.seed * draws + draw) for draw in range(draws)]
        largest = summary([start.largest for start in starts])
        yield Measurement(point("centre"), "hessian/largest", largest.mean, "nats")
        yield Measurement(point("centre"), "hessian/largest_standard_error", largest.error, "nats")
        sharp = epsilon_sharpness(
            subject.network, batches, draws=settings["sharpness_draws"], seed=subject.seed, on_pass=subject.on_pass
        )
        yield Measurement(point("centre"), "epsilon_sharpness", sharp.mean, "%")
        yield Measurement(point("centre"), "epsilon_sharpness_standard_error", sharp.error, "%")
        if subject.seed == 0:
            spectrum = density(hessian, steps, 1, subject.seed)
            write_npz(
                subject.folder / "spectrum.npz", centres=spectrum.centres, weights=spectrum.weights,
                width=np.array(spectrum.width),
            )  # fmt: skip
    except FloatingPointError:
        return
