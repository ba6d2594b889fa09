"""How well predicted masks follow the true outlines: Csurka, Larlus & Perronnin 2013, "What is a good evaluation
measure for semantic segmentation?", BMVC, section 3; for one object the F of Perazzi et al. 2016 (DAVIS), CVPR.

A boundary pixel of a class belongs to it and has one of another class above, below, left or right of it; the edge of
the image is no boundary. Precision is the share of predicted boundary pixels that have a true one of the same class
within `tolerance` pixels (Euclidean), recall the share of true ones that have a predicted one; F1 is their harmonic
mean. An image's score is the mean of F1 over the classes with a boundary in it, the epoch's the mean over images.

Decided here: a class whose boundary only the prediction or only the truth has scores 0; one that neither has is left
out; an image in which no class has any is right, 1 (as in the code of Perazzi et al.). The tolerance is in pixels, not
a share of the image's diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import Metric


class BoundaryF1(Metric):
    """Mean F1 of boundaries in [0, 1] over images, exact over processes.

    tolerance: in pixels, 0 or more. Raises ValueError for a negative one or fewer than two classes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    score: Tensor
    images: Tensor

    def __init__(self, num_classes: int, tolerance: int = 2) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"boundaries lie between two classes or more, got {num_classes}")
        if tolerance < 0:
            raise ValueError(f"tolerance must be 0 pixels or more, got {tolerance}")
        self.num_classes, self.tolerance = num_classes, tolerance
        offsets = torch.arange(-tolerance, tolerance + 1)
        disk = offsets[:, None] ** 2 + offsets**2 <= tolerance**2
        self.register_buffer("disk", disk[None, None].float(), persistent=False)
        self.add_state("score", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Adds masks (N, H, W) of classes 0..num_classes - 1."""
        found = boundaries(predicted, self.num_classes)
        sought = boundaries(true, self.num_classes)
        num_found, num_sought = found.sum((2, 3)), sought.sum((2, 3))
        hit = (found & self._near(sought)).sum((2, 3))
        met = (sought & self._near(found)).sum((2, 3))
        # A precision or recall of nothing is 0 here, which its F1 is too.
        precision, recall = hit / num_found.clamp(min=1), met / num_sought.clamp(min=1)
        total = precision + recall
        f1 = torch.where(total > 0, 2 * precision * recall / total, 0.0)
        counted = (num_found + num_sought > 0).sum(1)
        self.score += torch.where(counted > 0, f1.sum(1) / counted.clamp(min=1), 1.0).sum()
        self.images += len(true)

    def compute(self) -> Tensor:
        return self.score / self.images.clamp(min=1)

    def _near(self, marked: Tensor) -> Tensor:
        """Pixels of (N, K, H, W) within the tolerance of a marked one."""
        disk: Tensor = self.disk  # type: ignore[assignment]
        alone = marked.flatten(0, 1)[:, None].float()
        with torch.autocast(alone.device.type, enabled=False):
            counts = nn.functional.conv2d(alone, disk, padding=self.tolerance)
        return (counts > 0.5).view(marked.shape)


def boundaries(masks: Tensor, num_classes: int) -> Tensor:
    """Masks (N, H, W) of classes to the boundary pixels of every class, bool (N, num_classes, H, W)."""
    edge = torch.zeros_like(masks, dtype=torch.bool)
    across, down = masks[:, :, 1:] != masks[:, :, :-1], masks[:, 1:] != masks[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    classes = torch.arange(num_classes, device=masks.device)
    return (masks[:, None] == classes[:, None, None]) & edge[:, None]
