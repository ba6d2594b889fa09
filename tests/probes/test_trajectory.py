"""The way of training in planes: shares and coordinates of ways that are known."""

import numpy as np
import pytest
import torch

from ablations.probes.landscape.directions import cosine, dot
from ablations.probes.landscape.trajectory import plane_of, principal_plane, share_of_random_walk, step_lengths

NAMES = ("a", "b")


def way(points, noise=0.0):
    """States along two fixed orthogonal directions over tensors (2, 3) and (4,)."""
    draws = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(10, 10, generator=draws))[0]
    rows = torch.tensor(points) @ basis[:2] + noise * torch.randn(len(points), 10, generator=draws) + 7.0
    return [{"a": row[:6].view(2, 3), "b": row[6:], "ignored": torch.ones(1)} for row in rows], basis


POINTS = [[0.0, 0.0], [3.0, 1.0], [5.0, -1.0], [6.0, 0.5], [6.5, 0.0]]


def test_a_way_in_a_plane_lies_in_its_principal_plane():
    states, _ = way(POINTS)
    found = principal_plane(states, NAMES)
    assert found.share == pytest.approx(100.0, abs=1e-3)
    assert set(found.directions[0]) == set(NAMES)
    assert dot(found.directions[0], found.directions[0]) == pytest.approx(1.0, rel=1e-5)
    assert cosine(*found.directions) == pytest.approx(0.0, abs=1e-5)
    seen = np.array(POINTS) - POINTS[-1]
    np.testing.assert_allclose(
        np.linalg.norm(found.coordinates, axis=1), np.linalg.norm(seen, axis=1), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(found.coordinates[-1], 0.0, atol=1e-5)


def test_principal_components_hold_less_of_a_noisy_way():
    states, _ = way(POINTS, noise=1.0)
    assert 50 < principal_plane(states, NAMES).share < 99.5


def test_other_planes_hold_what_they_hold():
    states, basis = way(POINTS)
    inside = [{"a": row[:6].view(2, 3), "b": row[6:]} for row in basis[:2]]
    assert plane_of(states, NAMES, inside).share == pytest.approx(100.0, abs=1e-3)
    outside = [{"a": row[:6].view(2, 3), "b": row[6:]} for row in basis[2:4]]
    assert plane_of(states, NAMES, outside).share == pytest.approx(0.0, abs=1e-3)
    skew = [inside[0], {name: inside[0][name] + inside[1][name] for name in NAMES}]
    assert plane_of(states, NAMES, skew).share == pytest.approx(100.0, abs=1e-3), "directions are made orthogonal"
    partly = plane_of(states, NAMES, [{"a": torch.ones(2, 3)}, {"b": torch.ones(4)}])
    assert partly.directions[0]["b"].abs().max() < 1e-6
    assert 0 <= partly.share <= 100


def test_a_random_walk_looks_low_dimensional():
    """In endlessly many dimensions two components hold (1 + 1/4) * 6 / pi^2 = 76 % of a long walk."""
    assert share_of_random_walk([1.0] * 200, seed=0) == pytest.approx(76.0, abs=2.5)


def test_a_random_walk_takes_steps_as_long_as_the_way():
    states, _ = way(POINTS)
    lengths = step_lengths(states, NAMES)
    np.testing.assert_allclose(lengths, np.linalg.norm(np.diff(POINTS, axis=0), axis=1), rtol=1e-4)
    assert share_of_random_walk([1.0, 1.0, *[1e-6] * 50], seed=0) == pytest.approx(100.0, abs=1e-3), "two steps in all"
    assert share_of_random_walk(7 * lengths, seed=1) == pytest.approx(share_of_random_walk(lengths, seed=1))


def test_two_snapshots_are_no_way():
    states, _ = way(POINTS[:2])
    with pytest.raises(ValueError, match="2 snapshots show no way; give 3 or more"):
        principal_plane(states, NAMES)
