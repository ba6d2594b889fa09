"""What the LightningModules share: exact sums per epoch, the optimiser of a recipe, buffers for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from modules.recipe import Recipe, learning_rate, optimiser

SPLITS = ("train", "val", "test")


class EpochSums(nn.ModuleDict):
    """Sums of named quantities per split, over all processes, in which every sample counts once."""

    def __init__(self, quantities: tuple[str, ...]) -> None:
        # Double precision: single loses count beyond 2^24, which pixels reach.
        sums = {f"{split}_{name}": SumMetric().set_dtype(torch.float64) for split in SPLITS for name in quantities}
        super().__init__(sums)
        self.quantities = quantities

    def add(self, split: str, values: Mapping[str, Tensor | int]) -> None:
        """Adds one batch's values."""
        for name, value in values.items():
            cast(SumMetric, self[f"{split}_{name}"]).update(value)

    def start(self, split: str) -> None:
        """Begins at zero; at the start of an epoch, as sums left by one in inference mode cannot be added to."""
        for name in self.quantities:
            cast(SumMetric, self[f"{split}_{name}"]).reset()

    def totals(self, split: str) -> dict[str, float]:
        """The sums of a split since it started."""
        return {name: cast(SumMetric, self[f"{split}_{name}"]).compute().item() for name in self.quantities}


def log_epoch(module: lightning.LightningModule, split: str, values: Mapping[str, float]) -> None:
    """Logs values as `split/name`, in double precision, so that errors are exact counts."""
    module.log_dict({f"{split}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in values.items()})


def optimiser_and_schedule(module: lightning.LightningModule, network: nn.Module, recipe: Recipe) -> Any:
    """What `configure_optimizers` returns: the recipe's optimiser, its rate set at every step."""
    total_steps = int(module.trainer.estimated_stepping_batches)
    sgd = optimiser(recipe, network)
    peak = recipe.learning_rate
    schedule = LambdaLR(sgd, lambda step: learning_rate(recipe, step, total_steps) / peak)
    return {"optimizer": sgd, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def share_buffers(module: lightning.LightningModule, network: nn.Module) -> None:
    """Batch norm statistics differ between processes after a step: evaluates with rank 0's, which are saved."""
    if module.trainer.world_size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)
