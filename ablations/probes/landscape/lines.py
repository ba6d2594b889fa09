"""How much the loss rises along random lines, with the chosen normalisation and without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Subject, refuse_below
from ablations.harness.store.records import point
from ablations.probes.landscape.convexity import mean_rise
from ablations.probes.landscape.surface_file import axis
from ablations.probes.landscape.surface_probe import SurfaceProbe, direction_seed


@dataclass(frozen=True, kw_only=True)
class Lines(SurfaceProbe):
    """Of each random line the mean rise of the training loss, see `convexity.mean_rise`.

    draws: lines of either kind. line_span: how far one reaches to either side. raw_span: without normalisation, where
    entries of a direction have a standard deviation of 1.
    """

    units = {"rise": "nats"}
    draws: int = 10
    line_steps: int = 21
    line_span: float = 0.5
    raw_span: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for span in (self.line_span, self.raw_span):
            axis((-span, span), self.line_steps)
        if self.line_steps % 2 == 0:
            raise ValueError(f"--probe.line_steps {self.line_steps}: give an odd number, so that one is the centre")
        refuse_below(self, draws=1)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """A line of each kind for each draw."""
        batches = self.batches(subject, "train")
        reaches = {self.normalise: self.line_span, "none": self.raw_span}
        for normalise, reach in reaches.items():
            for number in range(self.draws):
                found = self.drawn(
                    subject, f"line_{normalise}_{number}", batches, [self.direction(subject, number, normalise)],
                    self.line_steps, (-reach, reach),
                    normalise=normalise, direction_seeds=[direction_seed(subject, number)],
                )  # fmt: skip
                rise = mean_rise(found.values["train/loss"], self.line_steps // 2)
                yield Measurement(point("line", normalise=normalise, draw=number), "rise", rise)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Every point of every line is a pass over the images."""
        return 2.0 * self.draws * self.line_steps * self.limit
