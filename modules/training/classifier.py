"""The LightningModule around every classification network."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from modules.blocks.network import TrainingOutputs
from modules.training.epoch_sums import EpochSums
from modules.training.lightning_network import LightningNetwork
from modules.training.optimisation import training_loss


class Classifier(LightningNetwork):
    """Metrics: loss, top-1 and top-5 error in percent per epoch and split.

    Batches are (images, labels) with images (N, C, H, W), already augmented and normalised, and labels (N,), or (N, D)
    for a network that reads sequences and gives logits (N, K, D). Top-5 exists where there are more than five classes.
    """

    def _prepare(self, num_classes: int) -> None:
        self.top = (1, 5) if num_classes > 5 else (1,)
        self.sums = EpochSums(("images", "loss", *(f"top{k}_error" for k in self.top)))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        outputs = self.network(images)
        loss = training_loss(outputs, labels, self.recipe)
        logits = outputs.logits if isinstance(outputs, TrainingOutputs) else outputs
        self._update("train", loss.detach(), logits.detach(), labels)
        return loss

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
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

    def _values(self, split: str) -> dict[str, float]:
        sums = self.sums.totals(split)
        errors = {f"top{k}_error": 100.0 * sums[f"top{k}_error"] / sums["images"] for k in self.top}
        return {"loss": sums["loss"] / sums["images"], **errors}
