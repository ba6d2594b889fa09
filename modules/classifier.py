"""The LightningModule around every classification network."""

from __future__ import annotations

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


class Classifier(lightning.LightningModule):
    """A network by name, its recipe, and its metrics: loss, top-1 and top-5 error in percent per epoch and split.

    The network is built inside from plain values, so that a checkpoint alone restores it. Batches are (images, labels)
    with images (N, C, H, W), already augmented and normalised, and labels (N,). Evaluation is always fp32: bf16 speeds
    training, published errors do not depend on it. Top-5 exists where there are more than five classes.
    """

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
        self.top = (1, 5) if num_classes > 5 else (1,)
        quantities = ("images", "loss", *(f"top{k}_error" for k in self.top))
        self.sums = nn.ModuleDict({f"{split}_{name}": SumMetric() for split in SPLITS for name in quantities})

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        self._update("train", loss.detach(), logits.detach(), labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        with torch.autocast(images.device.type, enabled=False):
            # .forward, not a call: the compiled training graph is left alone, evaluation would compile a second one.
            logits = self.network.forward(images)
        self._update(split, nn.functional.cross_entropy(logits, labels), logits, labels)

    def _update(self, split: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._sum(split, "images").update(len(labels))
        self._sum(split, "loss").update(loss * len(labels))
        ranked = logits.topk(self.top[-1], dim=1).indices
        for k in self.top:
            hit = (ranked[:, :k] == labels[:, None]).any(dim=1)
            self._sum(split, f"top{k}_error").update(len(labels) - hit.sum())

    def _sum(self, split: str, quantity: str) -> SumMetric:
        return cast(SumMetric, self.sums[f"{split}_{quantity}"])

    def _log_epoch(self, split: str) -> None:
        """Logs from sums over all processes, in which every sample counts once; errors are exact counts."""
        images = self._sum(split, "images").compute().item()
        values = {f"{split}/loss": self._sum(split, "loss").compute().item() / images}
        for k in self.top:
            values[f"{split}/top{k}_error"] = 100.0 * self._sum(split, f"top{k}_error").compute().item() / images
        for name, total in self.sums.items():
            if name.startswith(split):
                cast(SumMetric, total).reset()
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def on_validation_epoch_start(self) -> None:
        self._share_buffers()

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_start(self) -> None:
        self._share_buffers()

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def _share_buffers(self) -> None:
        """Batch norm statistics differ between processes after a step: evaluates with rank 0's, which are saved."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def configure_optimizers(self) -> Any:
        total_steps = int(self.trainer.estimated_stepping_batches)
        sgd = optimiser(self.recipe, self.network.parameters())
        peak = self.recipe.learning_rate
        schedule = LambdaLR(sgd, lambda step: learning_rate(self.recipe, step, total_steps) / peak)
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
