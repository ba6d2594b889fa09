"""The way that training takes through the space of weights, and the planes that it can be seen in.

Li et al. 2018, arXiv:1712.09913, section 7: the weights after each epoch, seen from the last, in the plane of their two
principal components; two random directions hold almost nothing of the way. Differs: the share of a random walk whose
steps are as long stands beside, because walks in many dimensions look low-dimensional too (Antognini & Sohl-Dickstein
2018, arXiv:1806.08805), the more so where late steps are short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablations.probes.landscape.directions import Direction

Weights = Mapping[str, Tensor]


class Plane(NamedTuple):
    """Two directions of length 1, the way's coordinates (T, 2) on them, seen from its end, and the share they hold.

    share: of the sum of squared distances, in %; from the mean for principal components, from the end for others.
    """

    directions: tuple[dict[str, Tensor], dict[str, Tensor]]
    coordinates: NDArray[np.float64]
    share: float


def matrix(states: Sequence[Weights], names: Sequence[str]) -> NDArray[np.float32]:
    """The weights after each snapshot minus the last ones, one row each (T, n).

    Raises ValueError for fewer than three snapshots, which span no plane.
    """
    if len(states) < 3:
        raise ValueError(f"{len(states)} snapshots show no way; give 3 or more")
    rows = [torch.cat([state[name].detach().float().cpu().flatten() for name in names]) for state in states]
    return torch.stack([row - rows[-1] for row in rows]).numpy()


def principal_plane(states: Sequence[Weights], names: Sequence[str]) -> Plane:
    """The plane of the two principal components of the way; names: the tensors that count, such as the parameters."""
    from sklearn.decomposition import PCA

    rows = matrix(states, names)
    found = PCA(2, svd_solver="full").fit(rows)
    directions = tuple(_as_direction(axis, states[-1], names) for axis in found.components_)
    return Plane(
        (directions[0], directions[1]), rows @ found.components_.T.astype(np.float64),
        100.0 * float(found.explained_variance_ratio_.sum()),
    )  # fmt: skip


def plane_of(states: Sequence[Weights], names: Sequence[str], directions: Sequence[Direction]) -> Plane:
    """The way in the plane of two given directions, made orthogonal and of length 1; what they do not move is 0."""
    rows = matrix(states, names)
    shapes = states[-1]
    columns = [
        torch.cat([each.get(name, torch.zeros_like(shapes[name])).cpu().float().flatten() for name in names])
        for each in directions
    ]
    basis, _ = np.linalg.qr(torch.stack(columns, 1).double().numpy())
    coordinates = rows.astype(np.float64) @ basis
    share = 100.0 * float((coordinates**2).sum() / (rows.astype(np.float64) ** 2).sum())
    found = tuple(_as_direction(axis, shapes, names) for axis in basis.T)
    return Plane((found[0], found[1]), coordinates, share)


def _as_direction(values: NDArray[np.float64], shapes: Weights, names: Sequence[str]) -> dict[str, Tensor]:
    parts = torch.from_numpy(np.asarray(values, np.float32)).split([shapes[name].numel() for name in names])
    return {
        name: part.view(shapes[name].shape).to(shapes[name].device) for name, part in zip(names, parts, strict=True)
    }


def step_lengths(states: Sequence[Weights], names: Sequence[str]) -> NDArray[np.float64]:
    """How far each snapshot lies from the one before it (T - 1,)."""
    found: NDArray[np.float64] = np.linalg.norm(np.diff(matrix(states, names).astype(np.float64), axis=0), axis=1)
    return found


def share_of_random_walk(lengths: Sequence[float] | NDArray[np.float64], seed: int, dimensions: int = 10_000) -> float:
    """The share in % that two principal components hold of a Gaussian random walk with steps of these lengths."""
    from sklearn.decomposition import PCA

    steps = np.random.default_rng(seed).standard_normal((len(lengths), dimensions))
    steps *= np.reshape(lengths, (-1, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
    walk = np.vstack([np.zeros(dimensions), steps]).cumsum(axis=0)
    return 100.0 * float(PCA(2, svd_solver="full").fit(walk).explained_variance_ratio_.sum())
