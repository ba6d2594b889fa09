"""The loss around a trained network: a plane of random directions, the Hessian over it, and the network's sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.harness.declare.probe import Measurement, Subject, refuse_below
from ablations.harness.store.files import write_npz
from ablations.harness.store.records import point
from ablations.probes.landscape.convexity import excess_variation, least_curvature, share_negative
from ablations.probes.landscape.surface_file import COMPUTED, OPEN, Surface, axis, resumed
from ablations.probes.landscape.surface_probe import SurfaceProbe, told

if TYPE_CHECKING:
    from torch import nn

    from ablations.probes.landscape.curvature.hessian import Hessian
    from ablations.probes.landscape.curvature.spectrum import Estimate
    from ablations.probes.landscape.directions import Direction
    from ablations.probes.landscape.point_losses import Batches
    from datamodules.images import Split

LANCZOS_TOLERANCE = 0.05  # of each eigenvalue; ratios are compared with 0.1
ENDS = ("hessian/least", "hessian/least_residual", "hessian/largest")
KEPT_PIXELS = 200_000  # of images whose graphs fit in memory: 195 of CIFAR's size
HESSIAN_BATCH = 32  # with the graphs kept, small batches stay in the cache
CHECKED = 5  # points at which a surface in lower precision is compared with fp32


@dataclass(frozen=True, kw_only=True)
class Plane(SurfaceProbe):
    """The surface along two random directions: how much of it is not convex, how rough it is, and what it is made of.

    Curvature counts where the network is better than guessing. steps, span: of either axis. pairs: of directions, each
    with a surface of its own; test images are shown on the first of the first seed. map_steps: points along either axis
    of the first, up to map_span to either side, at which the whole Hessian's extreme eigenvalues are sought by at most
    lanczos_steps products on map_images training images. draws: directions along which the curvature is measured.
    trace_draws, sharpness_draws: of the trace and of epsilon-sharpness.
    """

    version = 2
    units = {
        **dict.fromkeys(("share_nonconvex", "deviation/from_fp32", "train/error"), "%"),
        **dict.fromkeys(("epsilon_sharpness", "epsilon_sharpness_standard_error"), "%"),
        **dict.fromkeys(("loss/range", "train/loss", "train/loss_standard_error"), "nats"),
        **dict.fromkeys((*ENDS, "hessian/largest_standard_error", "hessian/trace"), "nats"),
        **dict.fromkeys(("hessian/trace_standard_error", "curvature/along", "curvature/least_in_plane"), "nats"),
        "excess_variation": "",
        "holes": "points",
    }
    shows_first = True
    steps: int = 51
    span: float = 1.0
    pairs: int = 1
    draws: int = 10
    map_steps: int = 7
    map_span: float = 0.5
    map_images: int = 512
    lanczos_steps: int = 80
    trace_draws: int = 10
    sharpness_draws: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        axis((-self.span, self.span), self.steps)
        refuse_below(self, pairs=1, draws=1, map_images=1, lanczos_steps=1, sharpness_draws=1, trace_draws=2)
        if not 1 <= self.map_steps <= self.steps - 2:
            raise ValueError(f"--probe.map_steps {self.map_steps}: give 1 to {self.steps - 2} (steps - 2)")

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """First the surfaces, then the Hessian over the first and at the network itself."""
        first, directions = self._surface(subject, 0)
        for pair in range(self.pairs):
            found = self._surface(subject, pair)[0] if pair else first
            yield from _shape(point("plane", pair=pair), found, guessing(subject))
        yield from self._middle(subject, first, directions)
        images = self.batches(subject, "train", limit=self.map_images, size=HESSIAN_BATCH)["train"]
        yield from self._map(subject, first, directions, images)
        yield from self._centre(subject, images)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Every point is a pass over the images; a product with the Hessian is worth five of its images."""
        products = self.map_steps**2 * self.lanczos_steps + self.draws + self.trace_draws + 12 * self.sharpness_draws
        return 1.0 * self.pairs * self.steps**2 * self.limit + 5.0 * products * self.map_images

    def _surface(self, subject: Subject, pair: int) -> tuple[Surface, list[Direction]]:
        splits: tuple[Split, ...] = ("train", "test") if subject.is_first and not pair else ("train",)
        name = f"plane_{pair}" if pair else "plane"
        return self.random_plane(subject, name, self.batches(subject, *splits), self.steps, self.span, pair)

    def _middle(self, subject: Subject, found: Surface, directions: Sequence[Direction]) -> Iterator[Measurement]:
        """Numbers of the network itself, where a point of the surface is, and how exact the surface is."""
        if found.centre is not None:
            for metric in ("train/loss", "train/loss_standard_error", "train/error"):
                yield Measurement(point("centre"), metric, float(found.values[metric][found.centre]))
        if self.precision != "fp32" or self.fold:
            deviation = self._deviation(subject, found, directions)
            yield Measurement(point("plane", pair=0), "deviation/from_fp32", deviation)

    def _deviation(self, subject: Subject, found: Surface, directions: Sequence[Direction]) -> float:
        """How far the losses are from exact ones at points along the diagonal, as a share of their range in %."""
        from ablations.probes.landscape.directions import moved
        from ablations.probes.landscape.surface import surface

        batches, last, off = self.batches(subject, "train"), len(found.axes[0]) - 1, []
        for number in range(CHECKED):
            index = round(number * last / (CHECKED - 1))
            where = [float(axis[index]) for axis in found.axes]
            exact = surface(moved(subject.network, directions, where), batches, directions[:1], 3, (-1e-6, 1e-6))
            off.append(abs(found.values["train/loss"][index, index] - exact.values["train/loss"][1]))
            subject.on_pass()
        return 100 * float(max(off)) / _range(found.computed["train/loss"])

    def _map(
        self, subject: Subject, found: Surface, directions: Sequence[Direction], images: Batches
    ) -> Iterator[Measurement]:
        """The extreme eigenvalues of the whole Hessian over the plane, beside how the plane itself curves there.

        Only where the network is better than guessing.
        """
        from ablations.probes.landscape.directions import moved
        from ablations.probes.landscape.surface import kept

        projected = least_curvature(found.computed["train/loss"], found.axes)
        wanted = np.linspace(-self.map_span, self.map_span, self.map_steps) if self.map_steps > 1 else [0.0]
        places = sorted({1 + int(np.abs(found.axes[0][1:-1] - at).argmin()) for at in wanted})
        axes = [found.axes[axis][places] for axis in (0, 1)]
        seen = found.computed["train/loss"][np.ix_(places, places)] < guessing(subject)
        facts = {"plane": found.facts, "map_images": self.map_images, "lanczos_steps": self.lanczos_steps}
        file = subject.folder / "map.npz"
        ends = resumed(file, Surface.blank(axes, ENDS, facts))
        left = np.argwhere(seen & (ends.state == OPEN))
        with kept(ends, file) as keep, told(subject, "map", int(seen.sum()), len(left)) as advance:
            for index in map(tuple, left):
                where = [float(axis[i]) for axis, i in zip(axes, index, strict=True)]
                values = self._ends(subject, moved(subject.network, directions, where), images)
                for metric, value in zip(ENDS, values, strict=True):
                    ends.values[metric][index] = value
                ends.state[index] = COMPUTED
                keep()
                advance()
        for i, j in np.argwhere(seen):
            there = point("map", alpha=float(axes[0][i]), beta=float(axes[1][j]))
            for metric in ENDS:
                yield Measurement(there, metric, float(ends.values[metric][i, j]))
            in_plane = float(projected[places[i] - 1, places[j] - 1])
            yield Measurement(there, "curvature/least_in_plane", in_plane)

    def _ends(self, subject: Subject, network: nn.Module, images: Batches) -> tuple[float, float, float]:
        """Least eigenvalue, its residual and the largest one; NaN where the loss has no finite curvature."""
        from ablations.probes.landscape.curvature.hessian import extremes

        try:
            found = extremes(hessian_of(subject, network, images), self.lanczos_steps, LANCZOS_TOLERANCE, subject.seed)
        except FloatingPointError:
            return (math.nan,) * 3
        return found.smallest, found.smallest_residual, found.largest

    def _centre(self, subject: Subject, images: Batches) -> Iterator[Measurement]:
        """Sharpness of the network itself, each with its error over draws; and its spectrum.

        Nothing where the network's own loss is not finite, which is counted among the holes.
        """
        from ablations.probes.landscape.curvature.hessian import density, extremes, trace
        from ablations.probes.landscape.curvature.sharpness import curvature, epsilon_sharpness
        from ablations.probes.landscape.curvature.spectrum import summary

        try:
            hessian = hessian_of(subject, subject.network, images)
            for number in range(self.draws):
                along = curvature(hessian, self.direction(subject, number))
                yield Measurement(point("curvature", draw=number), "curvature/along", along)
            steps, draws = self.lanczos_steps, max(2, self.sharpness_draws)
            seeds = range(subject.seed * draws, (subject.seed + 1) * draws)
            estimates: dict[str, Callable[[], Estimate]] = {
                "hessian/trace": lambda: trace(hessian, self.trace_draws, subject.seed),
                "hessian/largest": lambda: summary(
                    [extremes(hessian, steps, LANCZOS_TOLERANCE, seed).largest for seed in seeds]
                ),
                "epsilon_sharpness": lambda: epsilon_sharpness(
                    subject.network, images, draws=self.sharpness_draws, seed=subject.seed, on_pass=subject.on_pass
                ),
            }
            for metric, estimate in estimates.items():
                found = estimate()
                yield Measurement(point("centre"), metric, found.mean)
                yield Measurement(point("centre"), f"{metric}_standard_error", found.error)
            if subject.is_first:
                spectrum = density(hessian, steps, 1, subject.seed)
                write_npz(
                    subject.folder / "spectrum.npz", centres=spectrum.centres, weights=spectrum.weights,
                    width=np.array(spectrum.width),
                )  # fmt: skip
        except FloatingPointError:
            return


def guessing(subject: Subject) -> float:
    """The loss in nats of guessing among the classes."""
    return math.log(subject.data.num_classes)


def _shape(where: str, found: Surface, below: float) -> Iterator[Measurement]:
    """Numbers of a surface."""
    values = found.computed["train/loss"]
    yield Measurement(where, "share_nonconvex", share_negative(values, found.axes, below))
    yield Measurement(where, "excess_variation", excess_variation(values))
    yield Measurement(where, "holes", found.holes)
    yield Measurement(where, "loss/range", _range(values))


def hessian_of(subject: Subject, network: nn.Module, images: Batches) -> Hessian:
    """The network's Hessian on the batches, with its graph kept where that is small."""
    from ablations.probes.landscape.curvature.hessian import Hessian

    pixels = sum(each.shape[0] * each.shape[2] * each.shape[3] for each, _ in images)
    return Hessian(network, images, keep_graph=pixels <= KEPT_PIXELS, on_pass=subject.on_pass)


def _range(values: Any) -> float:
    """Highest minus lowest finite value; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if finite.size else math.nan
