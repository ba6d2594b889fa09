"""The LightningModule around every segmentation network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from modules.blocks.network import TrainingOutputs
from modules.training.epoch_sums import SPLITS, EpochSums
from modules.training.lightning_network import LightningNetwork
from modules.training.optimisation import training_loss
from modules.training.segmentation_metrics import BoundaryF1

# validate_args reads every pixel of every batch for labels out of range, which cross-entropy refuses anyway.
METRICS: dict[str, Callable[[int], Metric]] = {
    "dice": partial(MulticlassF1Score, average="macro", validate_args=False),
    "iou": partial(MulticlassJaccardIndex, average="macro", validate_args=False),
    "boundary_f1": BoundaryF1,
}


class Segmenter(LightningNetwork):
    """Metrics per epoch and split.

    loss: mean cross-entropy of a pixel. dice, iou: of the epoch's pixels, in [0, 1], mean over classes; a class that is
    neither predicted nor true in the epoch is left out. pixel_error: wrong pixels in percent. boundary_f1: in [0, 1],
    see `segmentation_metrics`.

    Batches are (images, masks) with images (N, C, H, W), already augmented and normalised, and masks (N, H, W) of
    classes 0..num_classes - 1, cut to their centre where the network gives a smaller map.
    Raises ValueError for fewer than two classes: background is one.
    """

    def _prepare(self, num_classes: int) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, background is one; got {num_classes}")
        self.sums = EpochSums(("pixels", "loss", "wrong"))
        self.metrics = nn.ModuleDict(
            {f"{split}_{name}": make(num_classes) for split in SPLITS for name, make in METRICS.items()}
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, masks = batch
        outputs = self.network(images)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
        masks = centre_crop(masks, logits)
        loss = training_loss(outputs, masks, self.recipe)
        self._update("train", loss.detach(), logits.detach(), masks)
        return loss

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, masks = batch
        logits = cast(Tensor, self.network.forward(images))  # .forward as in `Classifier`
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
        super()._start(split)
        for metric in self._of_split(split).values():
            metric.reset()

    def _values(self, split: str) -> dict[str, float]:
        sums = self.sums.totals(split)
        values = {"loss": sums["loss"] / sums["pixels"], "pixel_error": 100.0 * sums["wrong"] / sums["pixels"]}
        return {**values, **{name: metric.compute().item() for name, metric in self._of_split(split).items()}}


def centre_crop(masks: Tensor, logits: Tensor) -> Tensor:
    """Masks (N, H, W) cut to the centre that logits (N, K, H', W') speak of.

    Raises ValueError if logits are larger than masks, or smaller by an odd number of pixels.
    """
    rows, columns = ((m - k) for m, k in zip(masks.shape[1:], logits.shape[2:], strict=True))
    if min(rows, columns) < 0 or rows % 2 or columns % 2:
        raise ValueError(f"masks of {tuple(masks.shape[1:])} pixels have no centre of {tuple(logits.shape[2:])}")
    return masks[:, rows // 2 : masks.shape[1] - rows // 2, columns // 2 : masks.shape[2] - columns // 2]
