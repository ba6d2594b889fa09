"""Gates of highway layers (Srivastava et al. 2015, arXiv:1507.06228, section 4): what they start from and how they act.

Any block whose branch has `gate`, a layer with a bias, and `gate_activation`, which gives T itself; convolutional gates
are averaged over their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules import Block, Network
from modules.blocks.network import evaluating


class Gates(NamedTuple):
    """Of one block, a value per unit, each of shape (C,).

    bias: of the gate; mean: gate T in 0..1, averaged over the samples; first: T for the first sample; output: of the
    block, for the first sample.
    """

    bias: Tensor
    mean: Tensor
    first: Tensor
    output: Tensor


def gated_blocks(network: Network) -> dict[str, Block]:
    """The blocks of the chain that have a transform gate, by name."""
    return {name: block for name, block in network.named_blocks() if hasattr(block.branch, "gate_activation")}


@torch.no_grad()
def gates(
    network: Network, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, Gates]:
    """Block name -> its gates over all batches of (images (N, C, H, W), labels (N,)), in evaluation mode.

    Nothing is left on the network. on_pass: called after each batch. Raises ValueError if there are no samples.
    """
    blocks = gated_blocks(network)
    sums: dict[str, Tensor] = {}
    firsts: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    handles = []
    total = 0
    try:
        for name, block in blocks.items():
            activation = block.branch.gate_activation
            assert isinstance(activation, nn.Module)
            handles.append(activation.register_forward_hook(partial(_add, sums, firsts, name)))
            handles.append(block.register_forward_hook(partial(_keep_first, outputs, name)))
        with evaluating(network):
            for images, labels in batches:
                network.forward(images)
                total += len(labels)
                on_pass()
    finally:
        for handle in handles:
            handle.remove()
    if not total:
        raise ValueError("no samples to measure gates on")
    biases = {name: block.get_parameter("branch.gate.bias").detach().cpu() for name, block in blocks.items()}
    return {name: Gates(biases[name], sums[name] / total, firsts[name], outputs[name]) for name in blocks}


def _per_unit(x: Tensor) -> Tensor:
    """(N, C, ...) to (N, C): the mean over positions, exact enough to add over a data set."""
    return x.double().flatten(2).mean(2) if x.dim() > 2 else x.double()


def _add(
    sums: dict[str, Tensor], firsts: dict[str, Tensor], name: str, module: nn.Module, inputs: object, gate: Tensor
) -> None:
    found = _per_unit(gate)
    if name not in sums:
        sums[name], firsts[name] = torch.zeros_like(found[0]).cpu(), found[0].cpu()
    sums[name] += found.sum(0).cpu()


def _keep_first(outputs: dict[str, Tensor], name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
    if name not in outputs:
        outputs[name] = _per_unit(output)[0].cpu()
