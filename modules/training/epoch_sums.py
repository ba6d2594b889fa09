"""Exact sums per epoch and split, over all processes, and how they are logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

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
