"""What transformers take from the first test image of each class and give, as arrays for pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ablations.harness.declare.probe import Subject
from ablations.probes.transformers.poses import thetas
from datamodules.images import ImageData
from datamodules.made.made_data import MadeData
from modules import Network
from modules.blocks.sampling import sample
from modules.blocks.spatial_transformer import SpatialTransformer

OUTLINE = 8  # points on each side of a window


def made(data: ImageData) -> MadeData:
    """The data; raises TypeError if it was not made on the fly."""
    if not isinstance(data, MadeData):
        raise TypeError(f"{data.name} was not made on the fly, so that nothing is known of what was done to it")
    return data


def first_of_classes(data: ImageData, limit: int = 10) -> Tensor:
    """Rows of the first test image of each of the first classes: int64 (limit,) or fewer."""
    labels = data.test.labels
    return torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()[:limit]])


def shown(images: Tensor) -> Tensor:
    """uint8 (K, H, W, C) to (K, H, W) if grey, else (K, C, H, W)."""
    return images[..., 0] if images.shape[-1] == 1 else images.movedim(-1, 1)


def normalised(subject: Subject, rows: Tensor) -> Tensor:
    """Test images as the network reads them: (K, C, H, W), on the subject's device."""
    mean, std = _normalisation(subject.data)
    pixels = subject.data.test[rows].images.movedim(-1, 1).float() / 255
    return ((pixels - mean) / std).to(subject.device)


@torch.no_grad()
def look(subject: Subject, network: Network, name: str, rows: Tensor) -> dict[str, Tensor]:
    """What a transformer gives for test images: outputs, uint8 (K, [C,] S, S), and outlines (K, P, 2) in pixels."""
    mean, std = _normalisation(subject.data)
    images = normalised(subject, rows)
    transformer = network.get_submodule(name)
    assert isinstance(transformer, SpatialTransformer)
    theta = thetas(network, [(images, images)])[name].to(images.device)
    moved: Any = sample(images, transformer.grid(theta), transformer.sampling).cpu()
    values = ((moved * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return {"outputs": shown(values.movedim(1, -1)), "outlines": transformer.outline(theta, OUTLINE).cpu()}


def _normalisation(data: ImageData) -> tuple[Tensor, Tensor]:
    return torch.tensor(data.mean).view(-1, 1, 1), torch.tensor(data.std).view(-1, 1, 1)
