"""Layer responses: how strongly each layer of more than 1x1 answers.

He et al. 2015, arXiv:1512.03385, section 4.2, figure 7: the standard deviation of each 3x3 layer's output, after batch
norm and before the nonlinearity or the addition.
Differs from the paper: it does not say over which images; here over all that are given, in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from modules import Network
from modules.blocks.network import evaluating


def response_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Name of each convolution wider than 1x1 -> the module that gives its response, in the order of construction.

    That is the batch norm right behind the convolution in the same sequence, or the convolution itself.
    """
    found: dict[str, nn.Module] = {}
    normalised: dict[nn.Module, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential):
            normalised |= {a: b for a, b in pairwise(module.children()) if isinstance(b, nn.BatchNorm2d)}
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            found[name.removeprefix("blocks.")] = normalised.get(module, module)
    return found


@torch.no_grad()
def deviations(
    network: Network, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Name of each layer -> standard deviation of its response over all images, channels and pixels of all batches.

    batches: of (images (N, C, H, W), labels). Evaluated in evaluation mode, restored afterwards. Raises ValueError if
    there are no images.
    """
    sums: dict[str, tuple[int, float, float]] = {}

    def add(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        count, total, squares = sums.get(name, (0, 0.0, 0.0))
        values = output.double() if output.device.type != "mps" else output.cpu().double()
        sums[name] = (count + values.numel(), total + values.sum().item(), squares + values.square().sum().item())

    layers = response_layers(network)
    handles = [layer.register_forward_hook(partial(add, name)) for name, layer in layers.items()]
    try:
        with evaluating(network):
            for images, _ in batches:
                network(images)
                on_pass()
    finally:
        for handle in handles:
            handle.remove()
    if layers and not sums:
        raise ValueError("no images to respond to")
    found = {}
    for name in layers:
        count, total, squares = sums[name]
        found[name] = max(0.0, squares / count - (total / count) ** 2) ** 0.5
    return found
