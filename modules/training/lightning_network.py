"""What the LightningModules share: a network by name, trained by a recipe."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from modules.blocks.network import Network
from modules.catalogue import build, fitted, recipe_for, resolve
from modules.training.epoch_sums import EpochSums, log_epoch
from modules.training.optimisation import optimiser
from modules.training.recipe import Fields, Recipe, learning_rate, with_overrides


class LightningNetwork(lightning.LightningModule, ABC):
    """A network by name and its recipe; subclasses say what a step does and what is measured.

    network: a name in `modules.ARCHITECTURES`. arguments: those of its builder.
    recipe: a Recipe, or some fields that replace those of the paper's; None is the paper's (`modules.recipe_for`). Its
        optimiser, schedule and loss are used here. How long training lasts and in which precision is the Trainer's,
        the schedule is stretched to it; batches and augmentation are the data module's.
    num_classes, in_channels: None takes those of the data module that a Trainer is given, which then builds the
        network, for images of the data's width.

    All of it is kept as plain values, so that a checkpoint alone restores the network (`load_from_checkpoint`).
    Evaluation and prediction are always fp32: bf16 speeds training, published errors do not depend on it.
    Raises ValueError for an unknown network, argument or field of a recipe, and for sizes that nobody gives.
    """

    network: Network
    sums: EpochSums

    def __init__(
        self,
        network: str,
        arguments: Mapping[str, Any] | None = None,
        recipe: Fields | Recipe | None = None,
        num_classes: int | None = None,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        resolve(network, arguments)
        self.save_hyperparameters(ignore="recipe")
        self.recipe = recipe if isinstance(recipe, Recipe) else with_overrides(recipe_for(network), recipe or {})
        self._design = network, dict(arguments or {})
        self._sizes: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
        if None not in self._sizes.values():
            self._build()

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._recipe = recipe
        # Lists, because a checkpoint is read with weights_only=True and holds plain values.
        self.save_hyperparameters({"recipe": {**asdict(recipe), "milestones": list(recipe.milestones)}})

    @property
    def lr(self) -> float:
        """The recipe's peak rate; what `Tuner.lr_find` sets becomes part of the recipe, and of checkpoints."""
        return self.recipe.learning_rate

    @lr.setter
    def lr(self, rate: float) -> None:
        self.recipe = replace(self.recipe, learning_rate=rate)

    def configure_model(self) -> None:
        """Builds the network if it waited for the sizes of the data; a Trainer calls this before anything else."""
        if "network" in self._modules:
            return
        data = getattr(self.trainer, "datamodule", None)
        for size, given in self._sizes.items():
            self._sizes[size] = getattr(data, size, None) if given is None else given
            if self._sizes[size] is None:
                raise ValueError(
                    f"{size} is unknown: give it to {type(self).__name__}, or the Trainer data that has it"
                )
        if (pixels := getattr(data, "image_size", None)) is not None:
            name, arguments = self._design
            self._design = name, fitted(name, arguments, pixels)
        self._build()

    def _build(self) -> None:
        name, arguments = self._design
        self.hparams.update(arguments=arguments, **self._sizes)
        self.network = build(name, **self._sizes, **arguments).to(memory_format=torch.channels_last)
        self._prepare(self._sizes["num_classes"])

    def __getattr__(self, name: str) -> Any:
        if name == "network" and name not in self._modules:
            raise AttributeError("the network is built when its sizes are known: give num_classes and in_channels")
        return super().__getattr__(name)

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
        self._share_buffers()

    def _share_buffers(self) -> None:
        if self.trainer.world_size > 1:
            # Batch norm statistics differ between processes after a step: all evaluate with rank 0's, which are saved.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def validation_step(self, batch: Any, batch_index: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self._evaluate("val", batch)

    def test_step(self, batch: Any, batch_index: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self._evaluate("test", batch)

    def predict_step(self, batch: Any, batch_index: int) -> Tensor:
        """What the network gives, in fp32, for images (N, C, H, W), or for a batch (images, labels)."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        with torch.autocast(self.device.type, enabled=False):
            return cast(Tensor, self.network.forward(images))

    def on_train_epoch_start(self) -> None:
        self._start("train")

    def on_train_epoch_end(self) -> None:
        log_epoch(self, "train", self._values("train"))

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation("val")

    def on_validation_epoch_end(self) -> None:
        log_epoch(self, "val", self._values("val"))

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def on_test_epoch_end(self) -> None:
        log_epoch(self, "test", self._values("test"))

    def on_predict_epoch_start(self) -> None:
        self._share_buffers()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Cuts gradients as the Trainer says, else as the recipe does."""
        if gradient_clip_val is None:
            gradient_clip_val, gradient_clip_algorithm = self.recipe.gradient_clip, "norm"
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, its rate set at every step of as many as the Trainer is going to make."""
        total_steps, recipe = self.trainer.estimated_stepping_batches, self.recipe
        if total_steps < 0:  # what Lightning says of data without a length
            total_steps = math.inf
        if math.isinf(total_steps):
            rank_zero_warn(
                f"training has no end: the learning rate stays at {recipe.learning_rate:g};"
                f" give the Trainer max_epochs or max_steps for the recipe's schedule ({recipe.schedule})"
            )
        sgd = optimiser(recipe, self.network)
        schedule = LambdaLR(sgd, lambda step: learning_rate(recipe, step, total_steps) / recipe.learning_rate)
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
