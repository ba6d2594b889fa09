"""A network of one layer that writes down which images its process sees, under a Trainer built without a thought.

As a program, in two processes at once: `python recorder.py FOLDER`. The test split then has an odd number of images,
and ranks have different numbers of evaluation batches.
"""

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

import datamodules
from datamodules import ImageData
from datamodules import images as image_data


class Recorder(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 10)
        self.seen: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
        self.epochs: list[int] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        self.seen["train"].append(images.clone())
        self.epochs.append(self.current_epoch)
        return torch.nn.functional.cross_entropy(self.layer(images.mean((1, 2, 3))[:, None]), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.seen["val"].append(batch[0].clone())

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.seen["test"].append(batch[0].clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip


def fit(data: ImageData, epochs: int, folder: Path, checkpoint: Path | None = None, **options: Any) -> Recorder:
    """Trains, from a checkpoint if there is one, and leaves one in the folder."""
    module, trainer = Recorder(), plain(max_epochs=epochs, **options)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def loaded(kind: str) -> ImageData:
    data = datamodules.load("digits", cache=False, batch_size=200)
    data.test = data.test[torch.arange(449)]
    return data if kind == "digits" else datamodules.make(data, "distorted_digits", kind="RTS")


def record(kind: str, file: Path, **options: Any) -> None:
    image_data.EVALUATION_BATCH_SIZE = 32
    module, trainer, data = Recorder(), plain(max_epochs=2, check_val_every_n_epoch=2, **options), loaded(kind)
    trainer.fit(module, data)
    module.seen["fit val"], module.seen["val"] = module.seen["val"], []
    trainer.validate(module, data, verbose=False)
    trainer.test(module, data, verbose=False)
    torch.save({**module.seen, "weight": module.layer.weight.detach()}, f"{file}-{trainer.global_rank}.pt")


def classify(file: Path, **options: Any) -> None:
    from modules.training.classifier import Classifier

    module, trainer, data = Classifier("resnet20", {"width": 2}), plain(max_epochs=2, **options), loaded("digits")
    trainer.fit(module, data)
    tested = trainer.test(module, data, verbose=False)[0]
    images = {split: module.sums.totals(split)["images"] for split in ("train", "val", "test")}
    if trainer.is_global_zero:
        weights = module.network.state_dict()
        torch.save({"steps": trainer.global_step, "images": images, "weights": weights, **tested}, file)


if __name__ == "__main__":
    folder, two = Path(sys.argv[1]), {"devices": 2, "strategy": "ddp"}
    for kind in ("digits", "made"):
        record(kind, folder / f"two-{kind}", **two)
    classify(folder / "classifier.pt", **two)
