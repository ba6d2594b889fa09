"""Watches the spatial transformers of a network while it is trained: which share of samples they fail, per epoch.

Columns of metrics.csv, in % of the samples of an epoch times the transformers: `train/transformers_outside` (the whole
window outside the image), `train/transformers_blank` (an output that shows nothing) and `train/transformers_folded` (a
transform that cannot be undone), see `modules.training.transformer_health`; and `train/positions_outside`, in % of the
positions, which rises before the whole window is lost.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from modules.blocks.spatial_transformer import SpatialTransformer
from modules.training.epoch_sums import log_epoch
from modules.training.transformer_health import blank, folded, outside

SHARES = ("transformers_outside", "transformers_blank", "transformers_folded", "positions_outside")


class Seen:
    """What a transformer did when it was first called in a step: (theta, positions, input, output), empty before."""

    def __init__(self, transformer: SpatialTransformer) -> None:
        self.transformer = transformer
        self.found: tuple[Tensor, ...] = ()
        transformer.grid.register_forward_hook(self._moved)
        transformer.register_forward_hook(self._sampled)

    # Kept as they are and counted after the step, so that a compiled network computes what it would unwatched.
    def _moved(self, _: nn.Module, inputs: tuple[Tensor], positions: Tensor) -> None:
        if self.transformer.training and not self.found:
            self.found = (inputs[0].detach(), positions.detach())

    def _sampled(self, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if self.transformer.training and len(self.found) == 2:
            self.found = (*self.found, inputs[0].detach(), output.detach())


@torch.no_grad()
def counts(transformer: SpatialTransformer, theta: Tensor, positions: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """(N, outside, blank, folded, sum over samples of the share of positions outside), (5,), in double precision.

    An output that is blank because its input x is, such as the image of no digit, is no failure.
    """
    is_outside = outside(positions).flatten(1)
    each = torch.stack(
        [
            torch.ones_like(is_outside[:, 0]),
            is_outside.all(dim=1),
            blank(output) & ~blank(x),
            folded(transformer.grid, theta, positions),
            is_outside.double().mean(dim=1),
        ]
    )
    return each.sum(dim=1, dtype=torch.float64)


class TransformerWatch(Callback):
    """Logs SHARES at the end of every epoch; every sample of every process counts once for each transformer.

    Only training is watched, and of each transformer the first call in a step. One that is skipped in a step has
    transformed nothing in it. Nothing random is drawn and no number of the training is changed.
    """

    def __init__(self, network: nn.Module) -> None:
        self.seen = [Seen(module) for module in network.modules() if isinstance(module, SpatialTransformer)]
        self.sums = torch.zeros(1 + len(SHARES), dtype=torch.float64)

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.sums = torch.zeros(1 + len(SHARES), dtype=torch.float64, device=trainer.strategy.root_device)

    def on_train_batch_start(self, *_: Any) -> None:
        for each in self.seen:
            each.found = ()

    def on_train_batch_end(self, *_: Any) -> None:
        for each in self.seen:
            if each.found:
                self.sums += counts(each.transformer, *each.found)
            each.found = ()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        samples, *failed = trainer.strategy.reduce(self.sums, reduce_op="sum").tolist()
        # No sample was transformed where all transformers were skipped, which is no failure.
        shares = {name: 100 * count / max(1, samples) for name, count in zip(SHARES, failed, strict=True)}
        log_epoch(module, "train", shares)


def watches(network: nn.Module) -> list[Callback]:
    """The watch of a network with spatial transformers; none for another one."""
    watch = TransformerWatch(network)
    return [watch] if watch.seen else []
