"""The LightningModule around every segmentation network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from modules import build
from modules.epochs import SPLITS, EpochSums, log_epoch, optimiser_and_schedule, share_buffers
from modules.network import TrainingOutputs
from modules.recipe import Recipe, training_loss
from modules.segmentation_metrics import BoundaryF1

METRICS = ("dice", "iou", "boundary_f1")


class Segmenter(lightning.LightningModule):
    """A network by name, its recipe, and its metrics per epoch and split.

    loss: mean cross-entropy of a pixel. dice, iou: of the epoch's pixels, in [0, 1], mean over classes; a class that is
    neither predicted nor true in the epoch is left out. pixel_error: wrong pixels in percent. boundary_f1: in [0, 1],
    see `segmentation_metrics`.

    The network is built inside from plain values, so that a checkpoint alone restores it. Batches are (images, masks)
    with images (N, C, H, W), already augmented and normalised, and masks (N, H, W) of classes 0..num_classes - 1, cut
    to their centre where the network gives a smaller map. Evaluation is always fp32, as in `Classifier`.
    Raises ValueError for fewer than two classes: background is one.
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
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, background is one; got {num_classes}")
        self.save_hyperparameters()
        self.recipe = Recipe(**{**recipe, "milestones": tuple(recipe["milestones"])})
        self.network = build(network, num_classes, in_channels, **arguments).to(memory_format=torch.channels_last)
        self.sums = EpochSums(("pixels", "loss", "wrong"))
        self.metrics = nn.ModuleDict(
            {f"{split}_{name}": metric for split in SPLITS for name, metric in _metrics(num_classes).items()}
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, masks = batch
        outputs = self.network(images)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
        masks = centre_crop(masks, logits)
        loss = training_loss(outputs, masks, self.recipe)
        self._update("train", loss.detach(), logits.detach(), masks)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, masks = batch
        with torch.autocast(images.device.type, enabled=False):
            # .forward, not a call: the compiled training graph is left alone, evaluation would compile a second one.
            logits = cast(Tensor, self.network.forward(images))
        masks = centre_crop(masks, logits)
        self._update(split, nn.functional.cross_entropy(logits, masks), logits, masks)

    def _update(self, split: str, loss: Tensor, logits: Tensor, masks: Tensor) -> None:
        predicted = logits.argmax(1)
        count = masks.numel()
        self.sums.add(split, {"pixels": count, "loss": loss * count, "wrong": (predicted != masks).sum()})
        for metric in self._of_split(split).values():
            metric.update(predicted, masks)

    def _of_split(self, split: str) -> dict[str, Metric]:
        return {name: cast(Metric, self.metrics[f"{split}_{name}"]) for name in METRICS}

    def _start(self, split: str) -> None:
        self.sums.start(split)
        for metric in self._of_split(split).values():
            metric.reset()

    def _log_epoch(self, split: str) -> None:
        sums = self.sums.totals(split)
        values = {"loss": sums["loss"] / sums["pixels"], "pixel_error": 100.0 * sums["wrong"] / sums["pixels"]}
        for name, metric in self._of_split(split).items():
            values[name] = metric.compute().item()
        log_epoch(self, split, values)

    def on_train_epoch_start(self) -> None:
        self._start("train")

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def on_validation_epoch_start(self) -> None:
        self._start("val")
        share_buffers(self, self.network)

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_start(self) -> None:
        self._start("test")
        share_buffers(self, self.network)

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def configure_optimizers(self) -> Any:
        return optimiser_and_schedule(self, self.network, self.recipe)


def _metrics(num_classes: int) -> dict[str, Metric]:
    # validate_args reads every pixel of every batch for labels out of range, which cross-entropy refuses anyway.
    overlaps = {
        "dice": MulticlassF1Score(num_classes, average="macro", validate_args=False),
        "iou": MulticlassJaccardIndex(num_classes, average="macro", validate_args=False),
    }
    return {**overlaps, "boundary_f1": BoundaryF1(num_classes)}


def centre_crop(masks: Tensor, logits: Tensor) -> Tensor:
    """Masks (N, H, W) cut to the centre that logits (N, K, H', W') speak of.

    Raises ValueError if logits are larger than masks, or smaller by an odd number of pixels.
    """
    rows, columns = ((m - k) for m, k in zip(masks.shape[1:], logits.shape[2:], strict=True))
    if min(rows, columns) < 0 or rows % 2 or columns % 2:
        raise ValueError(f"masks of {tuple(masks.shape[1:])} pixels have no centre of {tuple(logits.shape[2:])}")
    return masks[:, rows // 2 : masks.shape[1] - rows // 2, columns // 2 : masks.shape[2] - columns // 2]
