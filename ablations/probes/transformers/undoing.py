"""Whether a transformer undoes what was done to digits: Jaderberg et al. 2015, arXiv:1506.02025, section 4.1, figure 5.

The paper shows pictures. Here the transform that is found is compared with the one that was made, of which
`datamodules.made` keeps the truth: a digit whose own image is mapped onto the distorted one by matrix A is undone where
the transformer samples at A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ablations.probes.transformers.poses import Pose, local_affine, poses

LARGEST_ANGLE = 135.0  # degrees up to which angles have an order
LEAST_VARIATION = 1e-6  # of what is the same for all images there is no correlation


class Undoing(NamedTuple):
    """Of N images: the pose that was given to the digit, the one that was found, and the angle that is left, degrees.

    left: of the digit as the transformer gives it, against its own upright image, from -180 to 180.
    """

    true: Pose
    found: Pose
    left: Tensor


def undoing(found: Tensor, truth: Mapping[str, Tensor]) -> Undoing:
    """Compares transforms (N, 3, 3), see `poses.matrices`, with the truth of N distorted digits.

    Of projections their action in the middle is compared; the bends of a spline are left out.
    """
    matrix = truth["matrix"].double()
    # The window as seen from the digit; the digit as seen from the window is turned the other way.
    window = local_affine(torch.linalg.inv(matrix) @ found)
    return Undoing(poses(local_affine(matrix)), poses(local_affine(found)), -poses(window).angle)


def correlations(undone: Undoing) -> Iterator[tuple[str, float]]:
    """(angle, scale or shift; Pearson's correlation of true and found), for what varies among the images.

    Angles only where all are below 135 degrees: beyond, they come round. A shift is that along x and y, of which the
    mean is given. What is found the same for all images has a correlation of 0.
    """
    true, found = undone.true, undone.found
    pairs = {
        "angle": [(true.angle, found.angle)] if float(true.angle.abs().max()) < LARGEST_ANGLE else [],
        "scale": [(true.scale, found.scale)],
        "shift": [(true.shift[:, axis], found.shift[:, axis]) for axis in range(2)],
    }
    for name, columns in pairs.items():
        if columns and all(float(one.std()) > LEAST_VARIATION for one, _ in columns):
            yield name, math.fsum(_correlation(one, other) for one, other in columns) / len(columns)


def removed(undone: Undoing, labels: Tensor) -> Iterator[tuple[str, float]]:
    """(angle, scale or shift; how much of its variation within a class the transformer takes away, %), where there is.

    Variation is the circular variance of angles, the variance of the logarithm of scales and of the place along x and
    y, each the mean over classes. 100: all digits of a class leave in one pose, which need not be the upright one.
    Negative: they leave more different than they came.
    """
    true, found = undone.true, undone.found
    log_scale = true.scale.log(), true.scale.log() - found.scale.clamp(min=LEAST_VARIATION).log()
    parts = {
        "angle": (_circular_variance, true.angle, undone.left),
        "scale": (_variance, *log_scale),
        "shift": (_variance, true.shift, true.shift - found.shift),
    }
    classes = [labels == label for label in labels.unique()]
    for name, (variation, came, leaves) in parts.items():
        before = math.fsum(variation(came[rows]) for rows in classes)
        if before > LEAST_VARIATION * len(classes):
            yield name, 100.0 * (1 - math.fsum(variation(leaves[rows]) for rows in classes) / before)


def kept_upside_down(undone: Undoing, labels: Tensor, label: int) -> float:
    """Share in % of a class's digits that are further from upright than from upside down when they leave."""
    return 100.0 * float((undone.left[labels == label].abs() > 90).double().mean())


def _correlation(one: Tensor, other: Tensor) -> float:
    if not float(other.std()) > LEAST_VARIATION:
        return 0.0
    return float(torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1])


def _variance(values: Tensor) -> float:
    """Of (N,), or the sum over columns of (N, 2)."""
    return float(values.double().var(dim=0, correction=0).sum())


def _circular_variance(degrees: Tensor) -> float:
    radians = degrees.double().deg2rad()
    return 1 - float(torch.hypot(radians.cos().mean(), radians.sin().mean()))
