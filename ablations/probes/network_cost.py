"""What a network costs: parameters, and multiply-adds of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point


@dataclass(frozen=True, kw_only=True)
class NetworkCost(Probe):
    """Parameters, and millions of multiply-adds of convolutions and linear layers on one test image."""

    units = {"multiply_adds": "M", "parameters": ""}
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Counts on the meta device, which takes neither memory nor time."""
        from modules.blocks.cost import cost

        data = subject.data
        counted = cost(subject.network, (data.in_channels, data.image_size, data.image_size))
        yield Measurement(point("network"), "multiply_adds", counted.multiply_adds / 1e6)
        yield Measurement(point("network"), "parameters", counted.parameters)
