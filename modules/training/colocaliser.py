"""The LightningModule around networks that find what two images have in common."""

from __future__ import annotations

from torch import Tensor

from modules.families.colocalisation import Triplets, evaluation_triplets, training_triplets
from modules.training.epoch_sums import EpochSums
from modules.training.lightning_network import LightningNetwork


class Colocaliser(LightningNetwork):
    """Metrics per epoch and split.

    loss: mean triplet loss, see `modules.families.colocalisation`. triplet_error: in %, the triplets in which a crop of
    the window's own image is no farther than the other window; no word of whether the windows are where the things are.
    Crops are random in training; in evaluation they are the same for every image, so that a number depends on weights
    and images alone.

    Batches are (images, anything) with pairs of images (N, 2, H, W), normalised; labels are not looked at.
    """

    def _prepare(self, num_classes: int) -> None:
        self.sums = EpochSums(("pairs", "loss", "wrong"))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        found = training_triplets(self.network, batch[0])
        loss = found.loss()
        self._update("train", len(batch[0]), loss.detach(), found)
        return loss

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        found = evaluation_triplets(self.network, batch[0])
        self._update(split, len(batch[0]), found.loss(), found)

    def _update(self, split: str, pairs: int, loss: Tensor, found: Triplets) -> None:
        self.sums.add(split, {"pairs": pairs, "loss": loss * pairs, "wrong": found.wrong() * pairs})

    def _values(self, split: str) -> dict[str, float]:
        sums = self.sums.totals(split)
        return {"loss": sums["loss"] / sums["pairs"], "triplet_error": 100.0 * sums["wrong"] / sums["pairs"]}
