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

from ablations.probes.poses import Pose, local_affine, poses

LEAST_VARIATION = 1e-6  # of what is the same for all images there is no correlation


class Undoing(NamedTuple):
    """Of N images: the pose that was given to the digit, the one that was found, and the angle that is left, degrees.

    left: of the digit as the transformer gives it, against its own upright image, in (-180, 180].
    """

    true: Pose
    found: Pose
    left: Tensor


def undoing(found: Tensor, truth: Mapping[str, Tensor]) -> Undoing:
    """Compares transforms (N, 3, 3), see `poses.matrices`, with the truth of N distorted digits.

    Of projections their action in the middle is compared; the bends of a spline are left out.
    """
    matrix = truth["matrix"].double()
    left = local_affine(torch.linalg.inv(matrix) @ found)
    return Undoing(poses(local_affine(matrix)), poses(local_affine(found)), poses(left).angle)


def correlations(undone: Undoing) -> Iterator[tuple[str, float]]:
    """(angle, scale or shift; Pearson's correlation of true and found), for what varies among the images.

    Angles are those of digits turned by less than half a circle. A shift is that along x and y, of which the mean is
    given. What is found the same for all images has a correlation of 0.
    """
    true, found = undone.true, undone.found
    pairs = {
        "angle": [(true.angle, found.angle)],
        "scale": [(true.scale, found.scale)],
        "shift": [(true.shift[:, axis], found.shift[:, axis]) for axis in range(2)],
    }
    for name, columns in pairs.items():
        if all(float(one.std()) > LEAST_VARIATION for one, _ in columns):
            yield name, math.fsum(_correlation(one, other) for one, other in columns) / len(columns)


def removed(undone: Undoing, labels: Tensor) -> float | None:
    """How much of the angles' variation within a class the transformer takes away, in %; None if there is none.

    Variation is the circular variance, the mean over classes. 100: all digits of a class leave at one angle, which need
    not be upright. Negative: they leave more turned than they came.
    """
    classes = [labels == label for label in labels.unique()]
    before = math.fsum(_circular_variance(undone.true.angle[rows]) for rows in classes)
    after = math.fsum(_circular_variance(undone.left[rows]) for rows in classes)
    return None if before < LEAST_VARIATION * len(classes) else 100.0 * (1 - after / before)


def kept_upside_down(undone: Undoing, labels: Tensor, label: int) -> float:
    """Share in % of a class's digits that are further from upright than from upside down when they leave."""
    return 100.0 * float((undone.left[labels == label].abs() > 90).double().mean())


def _correlation(one: Tensor, other: Tensor) -> float:
    if not float(other.std()) > LEAST_VARIATION:
        return 0.0
    return float(torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1])


def _circular_variance(degrees: Tensor) -> float:
    radians = degrees.double().deg2rad()
    return 1 - float(torch.hypot(radians.cos().mean(), radians.sin().mean()))
