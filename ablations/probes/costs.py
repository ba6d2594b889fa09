"""What networks cost: the one that is asked, and those of He et al. 2015, arXiv:1512.03385, with blocks of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point

MULTIPLY_ADDS, PARAMETERS = "multiply_adds", "parameters"
# As published: shortcut A up to 34 layers, B above, and the stride on the first convolution of a bottleneck.
NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "plain18": ("plain18", {}),
    "plain34": ("plain34", {}),
    "resnet18": ("resnet18", {"shortcut": "A"}),
    "resnet34": ("resnet34", {"shortcut": "A"}),
    "resnet34_B": ("resnet34", {"shortcut": "B"}),
    "resnet34_C": ("resnet34", {"shortcut": "C"}),
    **{f"resnet{depth}": (f"resnet{depth}", {"stride_on": "first"}) for depth in (50, 101, 152)},
    "vgg16": ("vgg16", {}),
    "vgg19": ("vgg19", {}),
}
# One block between 56 x 56 maps (figure 5): kind, width, channels that come in and go out.
BLOCKS = {
    "basic_block_64": ("basic", 64, 64),
    "bottleneck_256": ("bottleneck", 64, 256),
    "basic_block_256": ("basic", 256, 256),
}


@dataclass(frozen=True, kw_only=True)
class NetworkCost(Probe):
    """Parameters, and millions of multiply-adds of convolutions and linear layers on one test image."""

    units = {MULTIPLY_ADDS: "M", PARAMETERS: ""}
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Counts on the meta device, which takes neither memory nor time."""
        from modules.blocks.cost import cost

        data = subject.data
        counted = cost(subject.network, (data.in_channels, data.image_size, data.image_size))
        yield Measurement(point("network"), MULTIPLY_ADDS, counted.multiply_adds / 1e6)
        yield Measurement(point("network"), PARAMETERS, counted.parameters)


@dataclass(frozen=True, kw_only=True)
class Depth(Probe):
    """How many convolutions and linear layers a network has, projections in shortcuts among them."""

    units = {"layers": ""}
    needs_blocks = False
    asks_foreign = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        from torch import nn

        layers = sum(isinstance(each, nn.Conv2d | nn.Linear) for each in subject.network.modules())
        yield Measurement(point("network"), "layers", layers)


@dataclass(frozen=True, kw_only=True)
class ImagenetCosts(Probe):
    """Multiply-adds and parameters of these networks and blocks, counted without memory or time; nobody trains them."""

    units = {MULTIPLY_ADDS: "", PARAMETERS: ""}
    needs_blocks = False
    asks_foreign = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """The same answers, whichever network is asked."""
        import torch

        from modules import build
        from modules.blocks.cost import cost
        from modules.blocks.residual_block import BlockDesign, residual_block

        counted = {}
        with torch.device("meta"):
            for name, (network, arguments) in NETWORKS.items():
                counted[name] = cost(build(network, 1000, 3, **arguments), (3, 224, 224))
            for name, (kind, width, channels) in BLOCKS.items():
                design = BlockDesign(kind)  # type: ignore[arg-type]
                counted[name] = cost(residual_block(design, channels, width, 1, is_first=False), (channels, 56, 56))
        for name, found in counted.items():
            yield Measurement(point("cost", network=name), MULTIPLY_ADDS, found.multiply_adds)
            yield Measurement(point("cost", network=name), PARAMETERS, found.parameters)
