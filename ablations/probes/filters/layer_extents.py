"""How large a part of the image the layers of a network answer to, before and after training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point
from ablations.probes.filters.first_kernels import STANDING, UNTRAINED


@dataclass(frozen=True, kw_only=True)
class LayerExtents(Probe):
    """Of every layer with maps the radius of what its central unit answers to, see `receptive_field.extent`.

    images: of the test, whose gradients are summed.
    """

    units = {"extent": "pixels"}
    images: int = 64
    snapshots: int = 2

    def __post_init__(self) -> None:
        refuse_below(self, images=1, snapshots=2)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """A layer whose unit answers to nothing is left out."""
        from ablations.probes.filters.maps import map_layers
        from ablations.probes.filters.receptive_field import extent

        networks = {STANDING: subject.network}
        if subject.snapshots:
            networks[UNTRAINED] = subject.at(min(subject.snapshots))
        batches = subject.data.evaluation_batches("test", device=subject.device, limit=self.images)
        images = [x for x, _ in batches]
        for when, network in networks.items():
            layers = map_layers(network, images[0][:1])
            for depth, (name, radius) in enumerate(extent(network, layers, images).items(), start=1):
                if math.isfinite(radius):
                    yield Measurement(point("layer", when=when, layer=name, depth=depth), "extent", radius)
            subject.on_pass()

    def evaluations(self, blocks: int, num_test: int) -> float:
        """A gradient for each layer and network."""
        return 2 * 3 * blocks * min(self.images, num_test)
