"""A loss surface for ParaView: a legacy VTK file of plain text, one structured grid.

Li et al. 2018 (arXiv:1712.09913) render their surfaces in ParaView. Format: "VTK File Formats", simple legacy formats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ablations.harness.store.files import atomic_write_text
from ablations.probes.landscape.surface_file import Surface
from reports.charts.surface_view import view_of

VISIBLE, HIDDEN = 0, 2  # of a point in the array vtkGhostType, as vtkDataSetAttributes numbers them


def write_vtk(surface: Surface, metric: str, path: str | Path, logarithmic: bool = False) -> None:
    """Writes a 2-D surface as points (alpha, beta, metric), alpha varying fastest; the same surface, the same bytes.

    Every metric of the surface is a scalar of the points, and `state` is that of `Surface.state`. The file holds no
    NaN: where a value is not finite, the scalar is the highest finite value of its metric (0 if there is none), the
    point lies at that height, and `vtkGhostType` hides it, so that ParaView leaves a hole. logarithmic: the height is
    the decimal logarithm of the metric. Raises ValueError for a surface of other dimensions, without the metric, or
    with a logarithm of 0 or less; OSError if the file cannot be written.
    """
    view = view_of([("of " + metric, surface)], metric, 2)
    if logarithmic and view.low <= 0:
        raise ValueError(f"{metric} is {view.low:g} somewhere; a logarithm needs values above 0")
    hidden = ~np.isfinite(surface.values[metric])
    heights = _filled(surface.values[metric]).T.ravel()
    if logarithmic:
        heights = np.log10(heights)
    beta, alpha = (each.ravel() for each in np.meshgrid(surface.axes[1], surface.axes[0], indexing="ij"))
    size = len(heights)
    text = [
        "# vtk DataFile Version 3.0",
        f"loss surface, height: {'log10 of ' if logarithmic else ''}{metric}".encode("ascii", "replace").decode()[:255],
        "ASCII",
        "DATASET STRUCTURED_GRID",
        f"DIMENSIONS {len(surface.axes[0])} {len(surface.axes[1])} 1",
        f"POINTS {size} double",
        *(f"{x!r} {y!r} {z!r}" for x, y, z in zip(alpha.tolist(), beta.tolist(), heights.tolist(), strict=True)),
        f"POINT_DATA {size}",
    ]
    for name, values in surface.values.items():
        text += _scalars("_".join(name.split()), "double", map(repr, _filled(values).T.ravel().tolist()))
    text += _scalars("state", "unsigned_char", map(str, surface.state.T.ravel().tolist()))
    ghosts = np.where(hidden, HIDDEN, VISIBLE).T.ravel().tolist()
    text += _scalars("vtkGhostType", "unsigned_char", map(str, ghosts))
    atomic_write_text(path, "\n".join(text) + "\n")


def _filled(values: np.ndarray) -> np.ndarray:
    """The values with the highest finite one in place of those that are not finite."""
    finite = np.isfinite(values)
    return np.where(finite, values, values[finite].max() if finite.any() else 0.0)


def _scalars(name: str, kind: str, values: map[str]) -> list[str]:
    return [f"SCALARS {name} {kind} 1", "LOOKUP_TABLE default", *values]
