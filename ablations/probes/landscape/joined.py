"""What lies between a network and another one, and along directions of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ablations.harness.declare.probe import Measurement, Subject
from ablations.harness.store.records import point
from ablations.probes.landscape.convexity import excess_variation
from ablations.probes.landscape.surface_file import axis
from ablations.probes.landscape.surface_probe import SurfaceProbe

if TYPE_CHECKING:
    from modules import Network


@dataclass(frozen=True, kw_only=True)
class Joined(SurfaceProbe):
    """The line to another network, and the surface along one or two directions; only a foreign network is asked.

    towards: file of the other network's weights, "" for none. along: files of directions, with a comma between.
    steps, span: of the surface, those of the line reach from -0.5 to 1.5. contents: digests of these files, so that
    another one in the same place is asked anew.
    """

    units = {"excess_variation": ""}
    steps: int = 51
    span: float = 1.0
    towards: str = ""
    along: str = ""
    contents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        axis((-self.span, self.span), self.steps)
        if len(self._along) > 2:
            raise ValueError(f"--probe.along names {len(self._along)} files; a surface has one or two directions")

    @property
    def _along(self) -> list[str]:
        return [path for path in self.along.split(",") if path]

    def asks(self, arm: str) -> bool:
        """No arm that is trained here."""
        return False

    def prepared(self, network: Network | None) -> Self:
        """Reads all files; raises ValueError for one that does not fit the network."""
        from ablations.probes.landscape.directions import between, refuse_misfits
        from modules.weights import digest, read_weights

        files = [path for path in (self.towards, *self._along) if path]
        if not files:
            return self
        if network is None:
            raise ValueError("--probe.towards and --probe.along go with --network and --weights, which they start from")
        if self.towards:
            between(network, read_weights(self.towards, network))
        for path in self._along:
            refuse_misfits(network, read_weights(path))
        return replace(self, contents=tuple(digest(sorted(read_weights(path).items())) for path in files))

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """How far the loss goes up and down on the way; nothing without a file."""
        from ablations.probes.landscape.directions import between
        from modules.weights import read_weights

        asked = {}
        if self.towards:
            direction = between(subject.network, read_weights(self.towards, subject.network))
            asked["towards"] = ([direction], (-0.5, 1.5), "between")
        if self._along:
            own = [{name: part.to(subject.device) for name, part in read_weights(path).items()} for path in self._along]
            asked["along"] = (own, (-self.span, self.span), "as given")
        for name, (directions, span, normalise) in asked.items():
            batches = self.batches(subject, "train", "test")
            found = self.drawn(subject, name, batches, directions, self.steps, span, normalise=normalise)
            yield Measurement(point(name), "excess_variation", excess_variation(found.values["train/loss"]))
