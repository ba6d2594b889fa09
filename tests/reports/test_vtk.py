"""The file for ParaView, read back line by line."""

import numpy as np
import pytest
from invented_surfaces import LOSS, bowl, holed, line

from reports.charts.vtk import write_vtk


def read(path):
    """The header, the points (N, 3) and name -> values of a legacy VTK file."""
    head, body = path.read_text(encoding="ascii").split("POINTS ", 1)
    points, data = body.split("POINT_DATA ", 1)
    (size, kind), *rows = (row.split() for row in points.splitlines())
    assert kind == "double"
    number, *arrays = data.split("SCALARS ")
    assert number.strip() == size
    scalars = {}
    for array in arrays:
        title, table, *values = array.splitlines()
        assert table == "LOOKUP_TABLE default"
        scalars[title.split()[0]] = np.array(values, float)
    found = np.array(rows, float)
    assert found.shape == (int(size), 3)
    return head.splitlines(), found, scalars


def test_the_grid_is_the_surface(tmp_path):
    surface = bowl()
    write_vtk(surface, LOSS, tmp_path / "s.vtk")
    header, points, scalars = read(tmp_path / "s.vtk")
    assert header == [
        "# vtk DataFile Version 3.0", "loss surface, height: train/loss", "ASCII", "DATASET STRUCTURED_GRID",
        "DIMENSIONS 9 7 1",
    ]  # fmt: skip
    assert list(points[:9, 0]) == list(surface.axes[0]), "alpha varies fastest"
    assert list(points[::9, 1]) == list(surface.axes[1])
    assert np.array_equal(points[:, 2].reshape(7, 9).T, surface.values[LOSS])
    assert np.array_equal(scalars[LOSS], points[:, 2])
    assert set(scalars["state"]) == {1}
    assert set(scalars["vtkGhostType"]) == {0}


def test_holes_are_hidden_points_without_nan(tmp_path):
    surface = holed()
    write_vtk(surface, LOSS, tmp_path / "s.vtk")
    _, points, scalars = read(tmp_path / "s.vtk")
    broken = ~np.isfinite(surface.values[LOSS]).T.ravel()
    assert broken.sum() == 2
    assert np.isfinite(points).all()
    assert list(scalars["vtkGhostType"]) == list(2 * broken)
    assert set(points[broken, 2]) == {surface.values[LOSS][np.isfinite(surface.values[LOSS])].max()}
    assert np.array_equal(scalars["state"].reshape(7, 9).T, surface.state)


def test_logarithmic_heights_and_every_metric(tmp_path):
    surface = bowl()
    surface.values["test error %"] = np.full((9, 7), np.nan)
    write_vtk(surface, LOSS, tmp_path / "s.vtk", logarithmic=True)
    header, points, scalars = read(tmp_path / "s.vtk")
    assert "log10 of train/loss" in header[1]
    assert points[:, 2] == pytest.approx(np.log10(scalars[LOSS]))
    assert set(scalars["test_error_%"]) == {0}, "nothing finite"


def test_same_surface_same_bytes_and_bad_input_is_refused(tmp_path):
    write_vtk(bowl(), LOSS, tmp_path / "s.vtk")
    before = (tmp_path / "s.vtk").read_bytes()
    write_vtk(bowl(), LOSS, tmp_path / "s.vtk")
    assert (tmp_path / "s.vtk").read_bytes() == before
    for surface, metric, logarithmic, message in (
        (line(), LOSS, False, "1 axes"),
        (bowl(), "x", False, "no metric 'x'"),
        (bowl(depth=-1.0), LOSS, True, "train/loss is -1 somewhere; a logarithm needs values above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            write_vtk(surface, metric, tmp_path / "bad.vtk", logarithmic)
    assert [path.name for path in tmp_path.iterdir()] == ["s.vtk"]
