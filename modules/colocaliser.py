"""The LightningModule around networks that find what two images have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor

from modules import build
from modules.colocalisation import Triplets, evaluation_triplets, training_triplets
from modules.epochs import EpochSums, log_epoch, optimiser_and_schedule, share_buffers
from modules.recipe import Recipe


class Colocaliser(lightning.LightningModule):
    """A network by name, its recipe, and its metrics per epoch and split.

    loss: mean triplet loss, see `modules.colocalisation`. triplet_error: in %, the triplets in which a crop of the
    window's own image is no farther than the other window; no word of whether the windows are where the things are.
    Crops are random in training; in evaluation they are the same for every image, so that a number depends on weights
    and images alone.

    The network is built inside from plain values, so that a checkpoint alone restores it. Batches are (images,
    anything) with pairs of images (N, 2, H, W), normalised; labels are not looked at. Evaluation is always fp32.
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
        self.sums = EpochSums(("pairs", "loss", "wrong"))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        found = training_triplets(self.network, batch[0])
        loss = found.loss()
        self._update("train", len(batch[0]), loss.detach(), found)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("val", batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("test", batch[0])

    def _evaluate(self, split: str, images: Tensor) -> None:
        with torch.autocast(images.device.type, enabled=False):
            found = evaluation_triplets(self.network, images)
        self._update(split, len(images), found.loss(), found)

    def _update(self, split: str, pairs: int, loss: Tensor, found: Triplets) -> None:
        self.sums.add(split, {"pairs": pairs, "loss": loss * pairs, "wrong": found.wrong() * pairs})

    def _log_epoch(self, split: str) -> None:
        sums = self.sums.totals(split)
        values = {"loss": sums["loss"] / sums["pairs"], "triplet_error": 100.0 * sums["wrong"] / sums["pairs"]}
        log_epoch(self, split, values)

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
