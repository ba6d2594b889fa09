"""Gates of highway layers (Srivastava et al. 2015, arXiv:1507.06228, section 4): what they start from and how they act.

Any block whose branch has `gate`, a layer with a bias, and `gate_activation`, which gives T itself; convolutional gates
are averaged over their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

    from modules import Block, Network


@dataclass(frozen=True, kw_only=True)
class Gates(Probe):
    """Bias and mean of the transform gates of each layer, before and after training, on training images.

    limit: so many of them, None for all. A network that was not trained here has no before. Layers count from the stem,
    which is layer 1. gate/moved: median over its units of how far a bias went. Of the first seed there is every unit
    too, with its gate and output for the first image.
    """

    version = 2
    limit: int | None = None
    snapshots: int = 2
    units = {"gate/bias": "", "gate/mean": "", "gate/moved": "", "gate/fell": "%", "gate/first": "", "output": ""}
    shows_first = True

    def __post_init__(self) -> None:
        refuse_below(self, limit=1, snapshots=2)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        batches = list(subject.data.evaluation_batches("train", device=subject.device, limit=self.limit))
        found = {"after": gates(subject.network, batches, subject.on_pass)}
        if subject.snapshots:
            found["before"] = gates(subject.at(min(subject.snapshots)), batches, subject.on_pass)
        places = {name: {"block": name, "layer": at} for at, name in enumerate(subject.network.blocks, start=2)}
        for when, by_block in found.items():
            for name, gate in by_block.items():
                where = point("layer", **places[name], when=when)
                yield Measurement(where, "gate/bias", float(gate.bias.double().mean()))
                yield Measurement(where, "gate/mean", float(gate.mean.mean()))
        for name, gate in found["after"].items():
            if "before" in found:
                rose = (gate.bias - found["before"][name].bias).double()
                where = point("layer", **places[name], when="after")
                yield Measurement(where, "gate/fell", 100.0 * float((rose < 0).double().mean()))
                yield Measurement(where, "gate/moved", float(rose.abs().quantile(0.5)))
            for unit in range(len(gate.bias)) if subject.is_first else ():
                where = point("unit", **places[name], unit=unit)
                yield Measurement(where, "gate/bias", float(gate.bias[unit]))
                yield Measurement(where, "gate/mean", float(gate.mean[unit]))
                yield Measurement(where, "gate/first", float(gate.first[unit]))
                yield Measurement(where, "output", float(gate.output[unit]))

    def evaluations(self, blocks: int, num_test: int) -> float:
        """Before and after; a training set is larger than that of the test."""
        return 2.0 * (self.limit or 5 * num_test)


class Units(NamedTuple):
    """Of the gates of one block, a value per unit, each of shape (C,).

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


def gates(
    network: Network, batches: Iterable[tuple[Tensor, Tensor]], on_pass: Callable[[], object] = lambda: None
) -> dict[str, Units]:
    """Block name -> its gates over all batches of (images (N, C, H, W), labels (N,)), in evaluation mode.

    Nothing is left on the network. on_pass: called after each batch. Raises ValueError if there are no samples.
    """
    import torch

    from modules.blocks.features import captured
    from modules.blocks.network import evaluating

    blocks = gated_blocks(network)
    watched = {name: block.get_submodule("branch.gate_activation") for name, block in blocks.items()}
    watched |= {f"{name} output": block for name, block in blocks.items()}
    sums: dict[str, Tensor] = {}
    firsts: dict[str, Tensor] = {}
    total = 0
    with torch.no_grad(), evaluating(network):
        for images, labels in batches:
            found = {key: _per_unit(y) for key, y in captured(network, watched, images).items()}
            firsts = firsts or {key: y[0].cpu() for key, y in found.items()}
            sums = {key: sums.get(key, 0.0) + y.sum(0).cpu() for key, y in found.items()}
            total += len(labels)
            on_pass()
    if not total:
        raise ValueError("no samples to measure gates on")
    biases = {name: block.get_parameter("branch.gate.bias").detach().cpu() for name, block in blocks.items()}
    return {name: Units(biases[name], sums[name] / total, firsts[name], firsts[f"{name} output"]) for name in blocks}


def _per_unit(x: Tensor) -> Tensor:
    """(N, C, ...) to (N, C): the mean over positions, exact enough to add over a data set."""
    return x.double().flatten(2).mean(2) if x.dim() > 2 else x.double()
