"""The LightningModule around every classification network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn

from modules import build
from modules.epochs import EpochSums, log_epoch, optimiser_and_schedule, share_buffers
from modules.network import TrainingOutputs
from modules.recipe import Recipe, training_loss


class Classifier(lightning.LightningModule):
    """A network by name, its recipe, and its metrics: loss, top-1 and top-5 error in percent per epoch and split.

    The network is built inside from plain values, so that a checkpoint alone restores it. Batches are (images, labels)
    with images (N, C, H, W), already augmented and normalised, and labels (N,), or (N, D) for a network that reads
    sequences and gives logits (N, K, D). Evaluation is always fp32: bf16 speeds training, published errors do not
    depend on it. Top-5 exists where there are more than five classes.
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
        self.sums = EpochSums(("images", "loss", *(f"top{k}_error" for k in self.top)))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        outputs = self.network(images)
        loss = training_loss(outputs, labels, self.recipe)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
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
            logits = cast(Tensor, self.network.forward(images))
        self._update(split, nn.functional.cross_entropy(logits, labels), logits, labels)

    def _update(self, split: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        sums: dict[str, Tensor | int] = {"images": len(labels), "loss": loss * len(labels)}
        ranked = logits.topk(self.top[-1], dim=1).indices
        for k in self.top:
            hit = (ranked[:, :k] == labels[:, None]).any(dim=1)
            if labels.dim() > 1:  # a sequence is wrong if any of its places is
                hit = hit.all(dim=1)
            sums[f"top{k}_error"] = len(labels) - hit.sum()
        self.sums.add(split, sums)

    def _log_epoch(self, split: str) -> None:
        sums = self.sums.totals(split)
        errors = {f"top{k}_error": 100.0 * sums[f"top{k}_error"] / sums["images"] for k in self.top}
        log_epoch(self, split, {"loss": sums["loss"] / sums["images"], **errors})

    def on_train_epoch_start(self) -> None:
        self.sums.start("train")

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def on_validation_epoch_start(self) -> None:
        self.sums.start("val")
        share_buffers(self, self.network)

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_start(self) -> None:
        self.sums.start("test")
        share_buffers(self, self.network)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def configure_optimizers(self) -> Any:
        return optimiser_and_schedule(self, self.network, self.recipe)
