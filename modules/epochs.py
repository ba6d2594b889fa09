"""What the LightningModules share: a network by name, trained by a recipe, and exact sums per epoch and split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import SumMetric

from modules import build
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


class Wrapped(lightning.LightningModule, ABC):
    """A network by name and its recipe; subclasses say what a step does and what is measured.

    The network is built inside from plain values, so that a checkpoint alone restores it. Evaluation is always fp32:
    bf16 speeds training, published errors do not depend on it.
    """

    sums: EpochSums

    def __init__(
        self,
        network: str,
        arguments: Mapping[str, object],
        recipe: Mapping[str, Any],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.recipe = Recipe(**{**recipe, "milestones": tuple(recipe["milestones"])})
        self.network = build(network, num_classes, in_channels, **arguments).to(memory_format=torch.channels_last)
        self._prepare(num_classes)

    @abstractmethod
    def _prepare(self, num_classes: int) -> None:
        """Makes `sums`, and what else an epoch is measured with."""

    @abstractmethod
    def _evaluate(self, split: str, batch: Any) -> None:
        """Measures a batch of the split, in fp32."""

    @abstractmethod
    def _values(self, split: str) -> dict[str, float]:
        """What was measured on the split since it started."""

    def _start(self, split: str) -> None:
        self.sums.start(split)

    def _start_evaluation(self, split: str) -> None:
        self._start(split)
        if self.trainer.world_size > 1:
            # Batch norm statistics differ between processes after a step: all evaluate with rank 0's, which are saved.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _log_epoch(self, split: str) -> None:
        log_epoch(self, split, self._values(split))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def validation_step(self, batch: Any, batch_index: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self._evaluate("val", batch)

    def test_step(self, batch: Any, batch_index: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self._evaluate("test", batch)

    def on_train_epoch_start(self) -> None:
        self._start("train")

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation("val")

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, its rate set at every step."""
        total_steps = int(self.trainer.estimated_stepping_batches)
        sgd = optimiser(self.recipe, self.network)
        peak = self.recipe.learning_rate
        schedule = LambdaLR(sgd, lambda step: learning_rate(self.recipe, step, total_steps) / peak)
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
