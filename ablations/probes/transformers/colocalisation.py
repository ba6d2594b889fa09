"""How well windows that were found without a label cover what is there: Jaderberg et al. 2015, 1506.02025, app. A.2."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ablations.probes.transformers.poses import overlap, thetas, windows
from datamodules.images import ImageData
from datamodules.made.made_data import MadeData
from modules import Network
from modules.families.colocalisation import localiser

LEAST_OVERLAP = 0.5  # intersection over union from which on a thing counts as found


def window_overlaps(
    network: Network, data: ImageData, device: str | torch.device = "cpu", on_pass: Callable[[], object] = lambda: None
) -> Tensor:
    """Intersection over union of window and true box, of both images of each test pair: float64 (N, 2).

    In evaluation mode. Raises ValueError for data that does not know where its things are.
    """
    if not isinstance(data, MadeData) or "boxes" not in data.truth["test"]:
        raise ValueError(f"{data.name} does not say where its things are; same_digits does")
    theta = next(iter(thetas(network, data.evaluation_batches("test", device=device), on_pass).values()))
    seen = windows(localiser(network), theta).unflatten(0, (-1, 2))
    return overlap(seen, data.truth["test"]["boxes"].double())
