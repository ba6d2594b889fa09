"""The LightningModule that belongs to a network's task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import ARCHITECTURES
from modules.classifier import Classifier
from modules.colocaliser import Colocaliser
from modules.epochs import Wrapped
from modules.segmenter import Segmenter

TASKS: dict[str, type[Wrapped]] = {"classify": Classifier, "segment": Segmenter, "localise": Colocaliser}


def wrapped(
    network: str, arguments: Mapping[str, object], recipe: Mapping[str, Any], num_classes: int, in_channels: int
) -> Wrapped:
    """A network by name in the LightningModule of its task, ready for a Trainer; arguments as `Wrapped`."""
    return TASKS[ARCHITECTURES[network].task](network, arguments, recipe, num_classes, in_channels)
