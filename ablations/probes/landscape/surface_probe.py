"""What probes of loss surfaces share: how a surface is computed, on which images, and along which random directions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from ablations.harness.declare.probe import Probe, Subject, refuse_below, refuse_unknown
from ablations.probes.landscape.surface_file import BatchNormPolicy, Normalise, Precision, Surface, Vectors

if TYPE_CHECKING:
    from ablations.probes.landscape.directions import Direction
    from ablations.probes.landscape.point_losses import Batches
    from datamodules.images import Split


@dataclass(frozen=True, kw_only=True)
class SurfaceProbe(Probe):
    """A probe that draws surfaces and keeps them as .npz files in its folder, where a stopped one is gone on with.

    limit: images of either split, without augmentation. batch_size: of evaluation. normalise, vectors: see
    `random_direction`. batch_norm, precision, fold, compile, tolerance: see `surface`; a surface along a direction that
    moves batch norm is never folded.
    """

    needs_blocks = False
    limit: int = 1000
    batch_size: int = 125
    normalise: Normalise = "filter"
    vectors: Vectors = "fixed"
    batch_norm: BatchNormPolicy = "keep"
    precision: Precision = "fp32"
    fold: bool = True
    compile: bool = False
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        words = {"normalise": Normalise, "vectors": Vectors, "batch_norm": BatchNormPolicy, "precision": Precision}
        refuse_unknown(self, **{name: get_args(allowed) for name, allowed in words.items()})
        if self.fold and (self.batch_norm != "keep" or self.vectors != "fixed"):
            raise ValueError(
                "--probe.fold yes goes with --probe.batch_norm keep and --probe.vectors fixed; give fold no"
            )
        refuse_below(self, limit=1, batch_size=1, tolerance=0)

    def batches(self, subject: Subject, *splits: Split, limit: int = 0, size: int = 0) -> dict[str, Batches]:
        """Images of splits, always the same, in the memory format that convolves fastest; 0: the settings' number."""
        import torch

        found: dict[str, Batches] = {}
        for split in splits:
            batches = subject.data.evaluation_batches(
                split, size or self.batch_size, subject.device, limit or self.limit
            )
            found[split] = [(x.contiguous(memory_format=torch.channels_last), labels) for x, labels in batches]
        return found

    def direction(self, subject: Subject, number: int, normalise: Normalise | None = None) -> Direction:
        """Random direction `number` of this run's seed, which arms of one seed share."""
        from ablations.probes.landscape.directions import random_direction

        seed = direction_seed(subject, number)
        return random_direction(subject.network, seed, normalise or self.normalise, self.vectors)

    def random_plane(
        self, subject: Subject, name: str, batches: Mapping[str, Batches], steps: int, span: float, pair: int = 0
    ) -> tuple[Surface, list[Direction]]:
        """The surface along random directions 2 pair and 2 pair + 1 of this run's seed, and these."""
        numbers = (2 * pair, 2 * pair + 1)
        directions = [self.direction(subject, number) for number in numbers]
        found = self.drawn(
            subject, name, batches, directions, steps, (-span, span),
            normalise=self.normalise, direction_seeds=[direction_seed(subject, number) for number in numbers],
        )  # fmt: skip
        return found, directions

    def drawn(
        self, subject: Subject, name: str, batches: Mapping[str, Batches], directions: Sequence[Direction], steps: int,
        span: tuple[float, float] | Sequence[tuple[float, float]], **facts: object,
    ) -> Surface:  # fmt: skip
        """The surface along the directions as the settings want it computed, kept as `name`.npz."""
        import torch

        from ablations.probes.landscape.point_losses import moves_norms
        from ablations.probes.landscape.surface import surface

        cuda = subject.device.type == "cuda"
        file = subject.folder / f"{name}.npz"
        points = steps ** len(directions)
        with told(subject, name, points, Surface.load(file).open if file.exists() else points) as advance:

            def on_point() -> None:
                advance()
                subject.on_pass()

            return surface(
                subject.network, batches, directions, steps, span,
                batch_norm=self.batch_norm, precision=self.precision,
                fold=self.fold and not moves_norms(subject.network, directions), compiled=self.compile,
                tolerance=self.tolerance, file=file,
                facts={"data_name": subject.data.name, "vectors": self.vectors, **facts},
                processes=subject.processes,
                devices=[f"cuda:{index}" for index in range(torch.cuda.device_count())] if cuda else [],
                on_point=on_point,
            )  # fmt: skip


def direction_seed(subject: Subject, number: int) -> int:
    """Seeds of directions do not meet those of other runs."""
    return 100_000 * (subject.seed + 1) + number


@contextmanager
def told(subject: Subject, name: str, points: int, left: int) -> Iterator[Callable[[], Any]]:
    """A bar of progress on a terminal; gives what is to be called after each point. left: points not yet computed."""
    from tqdm import tqdm

    title = f"{subject.arm} seed {subject.seed}: {name}"
    hidden = not sys.stderr.isatty()
    with tqdm(total=points, initial=points - left, desc=title, unit="point", disable=hidden, leave=False) as bar:
        yield bar.update
