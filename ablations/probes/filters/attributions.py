"""Which pixels a decision rests on, by five methods, through Captum.

Gradient (Simonyan et al. 2013, arXiv:1312.6034), integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365),
guided backpropagation (Springenberg et al. 2014, arXiv:1412.6806), Grad-CAM (Selvaraju et al. 2016, arXiv:1610.02391),
occlusion (Zeiler & Fergus 2013, arXiv:1311.2901). The baseline of integrated gradients and the colour of the occluding
patch are 0, the mean colour of the training images.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ablations.probes.filters.maps import layer
from modules.blocks.network import Network

STEPS, MOST_STEPS, ENOUGH = 32, 1024, 0.01  # of integrated gradients: first and last number, and the gap to stop at


class Integrated(NamedTuple):
    """Integrated gradients (N, C, H, W) with their check.

    sums: of each image's attributions. differences: of its logit from that of the baseline, which the sums should
    equal. steps: of the path.
    """

    maps: Tensor
    sums: list[float]
    differences: list[float]
    steps: int

    @property
    def gaps(self) -> list[float]:
        """|sum - difference| as a fraction of the difference, for each image."""
        pairs = zip(self.sums, self.differences, strict=True)
        return [abs(found - wanted) / max(abs(wanted), 1e-12) for found, wanted in pairs]


def explainable(network: Network) -> Network:
    """A copy in evaluation mode in which nothing works in place and no weight asks for a gradient."""
    found = copy.deepcopy(network).eval().requires_grad_(False)
    for module in found.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010
    return found


def calls(network: nn.Module, example: Tensor) -> Counter[nn.Module]:
    """How often one forward pass of an image calls each module that has no children."""
    found: Counter[nn.Module] = Counter()
    with torch.no_grad(), ExitStack() as hooks:
        for leaf in (module for module in network.modules() if not list(module.children())):
            hooks.enter_context(leaf.register_forward_hook(lambda module, *_: found.update([module])))
        network(example)
    return found


class _Rectifications(TorchDispatchMode):
    """Counts how often a ReLU is computed, by whatever name it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
        return func(*args, **(kwargs or {}))


def why_not_guided(network: nn.Module, example: Tensor) -> str:
    """Why guided backpropagation would go wrong without a word, "" where it is sound.

    It acts on ReLU modules: a ReLU that is computed by a function keeps its plain gradient, and one module used for two
    activations mixes them up.
    """
    called = calls(network, example)
    rectifiers = {name: called[module] for name, module in network.named_modules() if isinstance(module, nn.ReLU)}
    again = [name for name, times in rectifiers.items() if times > 1]
    if again:
        return f"the module {again[0]} is used for more than one activation"
    with torch.no_grad(), _Rectifications() as seen:
        network(example)
    if not seen.count:
        return "the network has no ReLU, and other activations keep their plain gradient"
    if seen.count != sum(rectifiers.values()):
        return f"{seen.count} ReLUs are computed, {sum(rectifiers.values())} of them by modules"
    return ""


def gradient(network: Network, images: Tensor, targets: Tensor) -> Tensor:
    """The gradient of each image's target logit, with its sign: (N, C, H, W)."""
    from captum.attr import Saliency

    found: Tensor = Saliency(network).attribute(images.clone().requires_grad_(), target=targets, abs=False)
    return found.detach()


def guided_backpropagation(network: Network, images: Tensor, targets: Tensor) -> Tensor:
    """As `gradient`, with only what is positive let back through a ReLU; raises ValueError where that is unsound."""
    from captum.attr import GuidedBackprop

    if reason := why_not_guided(network, images[:1]):
        raise ValueError(f"guided backpropagation: {reason}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        found: Tensor = GuidedBackprop(network).attribute(images.clone().requires_grad_(), target=targets)
    return found.detach()


def integrated_gradients(network: Network, images: Tensor, targets: Tensor) -> Integrated:
    """Doubles the steps until every sum is within 1 % of its difference, or there are 1024; see `Integrated.gaps`."""
    from captum.attr import IntegratedGradients

    method, baseline = IntegratedGradients(network), torch.zeros_like(images)
    with torch.no_grad():
        chosen = targets[:, None]
        differences = (network(images).gather(1, chosen) - network(baseline).gather(1, chosen))[:, 0].tolist()
    steps = STEPS
    while True:
        maps = method.attribute(
            images.clone(), baseline, target=targets, n_steps=steps, method="riemann_middle",
            internal_batch_size=max(128, len(images)),
        ).detach()  # fmt: skip
        found = Integrated(maps, maps.double().sum(dim=(1, 2, 3)).tolist(), differences, steps)
        if max(found.gaps) <= ENOUGH or steps >= MOST_STEPS:
            return found
        steps *= 2


def grad_cam(network: Network, name: str, images: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM at a layer that gives maps, at least 0, at the images' size: (N, 1, H, W)."""
    from captum.attr import LayerAttribution, LayerGradCam

    method = LayerGradCam(network, layer(network, name))
    found = method.attribute(images.clone(), target=targets, relu_attributions=True)
    enlarged: Tensor = LayerAttribution.interpolate(found, images.shape[2:], interpolate_mode="bilinear")
    return enlarged.detach()


def occlusion(network: Network, images: Tensor, targets: Tensor, window: int) -> Tensor:
    """By how much the logit falls when a square of `window` pixels is covered, averaged over squares: (N, C, H, W)."""
    from captum.attr import Occlusion

    channels, step = images.shape[1], max(1, window // 2)
    with torch.no_grad():
        found: Tensor = Occlusion(network).attribute(
            images, sliding_window_shapes=(channels, window, window), strides=(channels, step, step), target=targets,
            perturbations_per_eval=4,
        )  # fmt: skip
    return found.detach()
