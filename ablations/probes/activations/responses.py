"""Layer responses: how strongly each layer of more than 1x1 answers.

He et al. 2015, arXiv:1512.03385, section 4.2, figure 7: the standard deviation of each 3x3 layer's output, after batch
norm and before the nonlinearity or the addition.
Differs from the paper: it does not say over which images; here over all that are given, in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor, nn

RESPONSE = "response/std"


@dataclass(frozen=True, kw_only=True)
class Responses(Probe):
    """Standard deviation of each layer's response on test images; limit: how many, None for all."""

    limit: int | None = None
    units = {RESPONSE: ""}
    needs_blocks = False

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """One pass, in which sums are kept."""
        batches = subject.data.evaluation_batches("test", device=subject.device, limit=self.limit)
        found = deviations(subject.network, batches, subject.on_pass)
        for layer, (name, deviation) in enumerate(found.items(), start=1):
            yield Measurement(point("response", layer=layer, name=name), RESPONSE, deviation)

    def evaluations(self, blocks: int, num_test: int) -> float:
        """The sums cost half as much as the pass."""
        return 1.5 * (self.limit or num_test)


def response_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Name of each convolution wider than 1x1 -> the module that gives its response, in the order of construction.

    That is the batch norm right behind the convolution in the same sequence, or the convolution itself.
    """
    from torch import nn

    found: dict[str, nn.Module] = {}
    normalised: dict[nn.Module, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential):
            normalised |= {a: b for a, b in pairwise(module.children()) if isinstance(b, nn.BatchNorm2d)}
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            found[name.removeprefix("blocks.")] = normalised.get(module, module)
    return found


def deviations(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Name of each layer -> standard deviation of its response over all images, channels and pixels of all batches.

    batches: of (images (N, C, H, W), labels). Evaluated in evaluation mode, restored afterwards. Raises ValueError if
    there are no images.
    """
    import torch

    from modules.blocks.network import evaluating

    sums: dict[str, tuple[int, float, float]] = {}

    def add(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        count, total, squares = sums.get(name, (0, 0.0, 0.0))
        values = output.double() if output.device.type != "mps" else output.cpu().double()
        sums[name] = (count + values.numel(), total + values.sum().item(), squares + values.square().sum().item())

    layers = response_layers(network)
    with torch.no_grad(), evaluating(network), ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(add, name)))
        for images, _ in batches:
            network(images)
            on_pass()
    if layers and not sums:
        raise ValueError("no images to respond to")
    found = {}
    for name in layers:
        count, total, squares = sums[name]
        found[name] = max(0.0, squares / count - (total / count) ** 2) ** 0.5
    return found
