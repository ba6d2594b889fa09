"""What networks are trained for, and the LightningModule of each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.catalogue import ARCHITECTURES, resolve
from modules.training.classifier import Classifier
from modules.training.colocaliser import Colocaliser
from modules.training.lightning_network import LightningNetwork
from modules.training.recipe import Fields, Recipe
from modules.training.segmenter import Segmenter

TASKS: dict[str, type[LightningNetwork]] = {"classify": Classifier, "segment": Segmenter, "localise": Colocaliser}


def lightning_network(
    network: str,
    arguments: Mapping[str, Any] | None = None,
    recipe: Fields | Recipe | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
) -> LightningNetwork:
    """A network by name in the LightningModule of its task, ready for a Trainer; arguments as `LightningNetwork`."""
    resolve(network, arguments)
    return TASKS[ARCHITECTURES[network].task](network, arguments, recipe, num_classes, in_channels)
