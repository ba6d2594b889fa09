"""Numbers of a surface's shape, on surfaces whose shape is known."""

import numpy as np
import pytest

from ablations.harness.store.records import Record, Records, point
from ablations.probes.landscape.convexity import (
    excess_variation,
    least_curvature,
    map_points,
    mean_rise,
    median_ratio,
    share_negative,
)

AXES = (np.linspace(-1, 1, 21), np.linspace(-2, 2, 41))
X, Y = np.meshgrid(*AXES, indexing="ij")


def test_curvature_of_a_quadratic_is_its_smaller_eigenvalue():
    values = 1.5 * X**2 + 0.5 * X * Y - 1.0 * Y**2 + 3 * X
    expected = np.linalg.eigvalsh([[3.0, 0.5], [0.5, -2.0]])[0]
    np.testing.assert_allclose(least_curvature(values, AXES), expected, rtol=1e-9)
    assert share_negative(values, AXES) == 100.0
    assert share_negative(X**2 + Y**2 + X * Y, AXES) == 0.0


def test_the_share_counts_points():
    values = X**3 + Y**2  # curves downwards where x < 0: 9 of 19 inner columns, and 0 at x = 0
    assert share_negative(values, AXES) == pytest.approx(100 * 9 / 19, abs=0.1)


def test_points_as_high_as_a_bound_are_left_out():
    values = np.minimum(X**2 + Y**2, 2.0)  # a bowl with a rim that curves downwards, and a plateau that does not
    assert share_negative(values, AXES) > 10.0
    assert share_negative(values, AXES, below=1.5) == 0.0
    assert np.isnan(share_negative(values, AXES, below=-1.0))


def test_holes_are_left_out():
    values = X**2 + Y**2
    values[10, 20] = np.nan
    values[0, 0] = np.inf
    assert share_negative(values, AXES) == 0.0
    assert np.isnan(least_curvature(values, AXES)).sum() >= 9
    assert np.isnan(share_negative(np.full((5, 5), np.nan), (AXES[0][:5], AXES[1][:5])))
    assert excess_variation(values) == pytest.approx(0.0, abs=1e-12)


def test_variation_counts_bumps_and_not_steepness():
    valley = np.abs(np.linspace(-3, 2, 50)) ** 3
    assert excess_variation(valley) == pytest.approx(0.0, abs=1e-12)
    assert excess_variation(1000 * valley) == pytest.approx(0.0, abs=1e-12)
    assert excess_variation(np.array([2.0, 0.0, 1.0, 0.0, 2.0])) == pytest.approx(0.5)
    assert excess_variation(np.ones(5)) == 0.0, "a flat line has no bumps"


def test_the_rise_leaves_out_the_centre():
    assert mean_rise(np.array([3.0, 1.0, 5.0]), 1) == 3.0


def test_the_hessian_over_a_plane_is_read_from_its_records():
    def on_map(alpha, least, largest, in_plane, residual=0.0):
        named = {"hessian/least": least, "hessian/least_residual": residual, "hessian/largest": largest}
        named["curvature/least_in_plane"] = in_plane
        where = point("map", alpha=alpha, beta=0.0)
        return [Record("any", "a", 0, where, metric, float(value), "nats", "a-0") for metric, value in named.items()]

    records = Records([*on_map(0.0, -1, 10, 2.0), *on_map(0.5, -7, 10, -1.0, 1.0), *on_map(1.0, np.nan, np.nan, 1.0)])
    smooth, rough, broken = map_points(records, "a")
    assert smooth == (0, 0.0, 0.0, 2.0, 0.1)
    assert rough == (0, 0.5, 0.0, -1.0, 0.8), "what is not settled is added to the least eigenvalue"
    assert np.isnan(broken.ratio)
    assert map_points(records, "b") == []
    assert median_ratio(records, ["a", "b"], convex=True) == {0: 0.1}
    assert median_ratio(records, ["a", "b"], convex=False) == {0: 0.8}
    assert median_ratio(records, ["b"], convex=True) == {}
