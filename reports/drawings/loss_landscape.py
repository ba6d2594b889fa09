"""Figures of the loss-landscape study: surfaces, lines, the way of training, curvature, and sharpness against error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from ablations.harness.store.records import Records
from ablations.probes.landscape.spectrum import Density
from ablations.probes.landscape.surface_file import Surface
from reports.charts.curves import looks
from reports.charts.interactive import surface_3d
from reports.charts.style import Drawn, legend, panels, save, style
from reports.charts.surface_view import policies, view_of
from reports.charts.surfaces import contours, heat_map, slices, trajectory
from reports.charts.tables import write_table
from reports.charts.vtk import write_vtk

if TYPE_CHECKING:
    from ablations.loss_landscape import MapPoint

SEED = 0  # the seed whose surfaces are shown
METRICS = {"train/loss": "training loss", "train/error": "training error, %", "test/error": "test error, %"}
WAYS = {"principal": "two principal components", "random": "two random directions"}

PointsOf = Callable[[Records, str], Sequence["MapPoint"]]
"""The points of an arm's maps, as the verdict takes them."""


def draw(records: Records, folder: Path, points_of: PointsOf) -> list[Drawn]:
    """Every figure that the records and the files beside them allow, to `folder`/figures."""
    drawn = _planes(folder, records.arms)
    drawn += _nonconvex(records, folder)
    drawn += _lines(records, folder)
    drawn += _sharpness_and_error(records, folder)
    drawn += _ways(records, folder)
    drawn += _maps(records, folder, points_of)
    drawn += _spectra(records, folder)
    drawn += _joined(records, folder)
    return drawn + _table(records, folder, points_of)


def _surfaces(folder: Path, arms: Sequence[str], name: str) -> list[tuple[str, Surface]]:
    """Arm -> its surface of that name, of those that kept one with a loss to show."""
    paths = {arm: folder / "files" / f"{arm}-s{SEED}" / f"{name}.npz" for arm in arms}
    found = [(arm, Surface.load(path)) for arm, path in paths.items() if path.exists()]
    return [(arm, each) for arm, each in found if np.isfinite(each.values["train/loss"]).any()]


def _policies(folder: Path, arms: Sequence[str], name: str) -> str:
    """How those surfaces were computed, except for what differs from one to the next."""
    shown = _surfaces(folder, arms, name)[:1]
    return policies(shown).partition("; seeds of directions")[0].capitalize() if shown else ""


def _planes(folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """The first seed's planes: in three dimensions, as contours of three metrics, and for ParaView."""
    shown = _surfaces(folder, arms, "plane")
    if not shown:
        return []
    is_logarithmic = view_of(shown, "train/loss", 2).logarithmic
    for arm, found in shown:
        write_vtk(found, "train/loss", folder / "files" / f"{arm}-s{SEED}" / "plane.vtk", is_logarithmic)
    caption = f"Around the trained networks of seed {SEED}, along the same two random directions for all."
    deepest = [panel for panel in shown if panel[0].endswith(("_56", "_110"))] or shown
    drawn = [
        surface_3d(
            deepest, "train/loss", folder, "plane_3d", "The loss surface",
            f"{caption} Turn it, zoom, and point at it for values.", METRICS["train/loss"],
        )
    ]  # fmt: skip
    for metric, words in METRICS.items():
        name = f"plane_{metric.replace('/', '_')}"
        some = shown if metric == "train/loss" else deepest
        drawn.append(contours(some, metric, folder, name, f"The surface of the {words}", caption, words))
    return drawn


def _by_arm(records: Records, probe: str, metric: str, **fields: object) -> dict[str, dict[int, list[float]]]:
    """Arm -> seed -> the values of a metric; arms without any are left out."""
    found = {arm: records.by_seed(arm=arm, probe=probe, metric=metric, **fields) for arm in records.arms}
    return {arm: by_seed for arm, by_seed in found.items() if by_seed}


def _nonconvex(records: Records, folder: Path) -> list[Drawn]:
    """Every seed's share of the plane that is not convex."""
    shares = _by_arm(records, "plane", "share_nonconvex")
    if not shares:
        return []
    with style():
        figure, (ax,) = panels(1, 0.9 + 0.3 * len(shares))
        for row, by_seed in enumerate(shares.values()):
            values = [value for found in by_seed.values() for value in found]
            ax.plot(values, [row] * len(values), "o", ms=4.5, alpha=0.6)
            ax.plot([mean(values)], [row], "|", ms=16, mew=2, color="black")
        ax.set_yticks(range(len(shares)), list(shares))
        ax.invert_yaxis()
        ax.set_xlim(left=0)
        ax.set_xlabel("share of the plane that is not convex, %")
        save(figure, folder / "figures" / "nonconvex.png")
    caption = (
        "Points where the loss curves downwards in some direction of the plane; a dot is a seed, a bar the mean. The "
        "table below says at which loss each network ended: one that fits badly is seen from another height."
    )
    caption += f" {_policies(folder, list(shares), 'plane')}."
    return [Drawn("figures/nonconvex.png", "How much of the surface is not convex", caption)]


def _lines(records: Records, folder: Path) -> list[Drawn]:
    """The first seed's random lines: of every network the mean over the lines and their extremes."""
    kinds = {row.fields["normalise"] for row in records.where(probe="line")}
    found: dict[str, dict[str, list[Surface]]] = {}
    for kind in sorted(kinds):
        for arm in records.arms:
            numbers = sorted({int(row.fields["draw"]) for row in records.where(arm, SEED, "line", normalise=kind)})
            lines = [s for n in numbers for _, s in _surfaces(folder, [arm], f"line_{kind}_{n}")]
            if lines:
                found.setdefault(kind, {})[arm] = lines
    if not found:
        return []
    arms = list(dict.fromkeys(arm for by_arm in found.values() for arm in by_arm))
    look = looks(arms)
    with style():
        figure, axes = panels(len(found), 2.5, "training loss")
        for ax, (kind, by_arm) in zip(axes, found.items(), strict=True):
            for arm, lines in by_arm.items():
                heights = np.array([line.values["train/loss"] for line in lines])
                heights[~np.isfinite(heights)] = np.nan
                along = lines[0].axes[0]
                ax.plot(along, heights.mean(axis=0), lw=1.5, **look[arm])
                ax.fill_between(
                    along, heights.min(axis=0), heights.max(axis=0), alpha=0.15, lw=0, fc=look[arm]["color"]
                )
            ax.set_yscale("log")
            ax.set_title("without normalisation" if kind == "none" else f"{kind} normalised")
        axes[-1].set_xlabel("distance along the line")
        legend(figure, [Line2D([], [], label=arm, lw=1.5, **look[arm]) for arm in arms])
        save(figure, folder / "figures" / "lines.png")
    caption = (
        f"Seed {SEED}: lines are means over the random directions, bands reach from the lowest to the highest. All "
        f"networks of a seed get the same draws. {_policies(folder, arms, f'line_{kind}_0')}."
    )
    return [Drawn("figures/lines.png", "The loss along random lines", caption)]


def _sharpness_and_error(records: Records, folder: Path) -> list[Drawn]:
    """Rise of the loss along random lines against test error, with and without normalisation; a dot is a network."""
    errors = _by_arm(records, "test", "test/top1_error")
    kinds = [kind for kind in ("filter", "none") if records.where(probe="line", normalise=kind)]
    if not kinds or not errors:
        return []
    look = looks(list(errors))
    with style():
        figure, axes = panels(len(kinds), 2.5, "test error, %", sharey=True)
        for ax, kind in zip(axes, kinds, strict=True):
            for arm, by_seed in _by_arm(records, "line", "rise", normalise=kind).items():
                known = [seed for seed in by_seed if seed in errors.get(arm, {})]
                rises = [mean(by_seed[seed]) for seed in known]
                ax.plot(rises, [errors[arm][seed][0] for seed in known], "o", ms=4.5, color=look[arm]["color"])
            ax.set_xscale("symlog", linthresh=0.01)
            ax.set_yscale("symlog", linthresh=1.0)
            ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
            ax.set_title("without normalisation" if kind == "none" else f"{kind} normalised")
        axes[-1].set_xlabel("mean rise of the training loss along random lines, nats")
        legend(figure, [Line2D([], [], ls="", marker="o", label=arm, color=look[arm]["color"]) for arm in errors])
        save(figure, folder / "figures" / "sharpness.png")
    caption = "A dot is a trained network, its rise the mean over the lines. Sharper is further right."
    return [Drawn("figures/sharpness.png", "Sharpness against test error", caption)]


def _ways(records: Records, folder: Path) -> list[Drawn]:
    """The first seed's training seen in two planes."""
    drawn = []
    for arm in records.arms:
        for kind, words in WAYS.items():
            rows = records.where(arm, SEED, "way", plane=kind)
            found = _surfaces(folder, [arm], f"way_{kind}")
            if not rows or not found:
                continue
            shares = records.where(arm, SEED, "way", f"share/{kind}").values()
            walk = ""
            if kind == "principal":
                expected = mean(records.where(arm, SEED, "way", "share/random_walk").values())
                walk = f" (of a random walk of as many steps: {expected:.3g} %)"
            epochs = [int(row.fields["epoch"]) for row in rows.where(metric="x")]
            points = np.array([rows.where(metric=axis).values() for axis in "xy"]).T
            caption = f"{arm}, seed {SEED}: this plane holds {shares[0]:.3g} % of the way{walk}."
            title = f"The way of training in {words}: {arm}"
            name = f"way_{arm}_{kind}"
            labels = ("first", "second")
            drawn.append(
                trajectory(found[0][1], "train/loss", points, epochs, folder, name, title, caption,
                           METRICS["train/loss"], labels)
            )  # fmt: skip
    return drawn


def _maps(records: Records, folder: Path, points_of: PointsOf) -> list[Drawn]:
    """Median over seeds of |lambda_min / lambda_max| at the points of the plane."""
    maps: dict[str, Any] = {}
    axes: list[Any] = []
    for arm in records.arms:
        found: dict[tuple[float, float], list[float]] = {}
        for each in points_of(records, arm):
            finite = [each.ratio] if math.isfinite(each.ratio) else []
            found[each.alpha, each.beta] = found.get((each.alpha, each.beta), []) + finite
        if found:
            axes = [np.array(sorted({place[axis] for place in found})) for axis in (0, 1)]
            maps[arm] = np.array([[median(found[a, b] or [math.nan]) for b in axes[1]] for a in axes[0]])
    if not maps or len(axes[0]) < 2:
        return []
    caption = (
        "Median over seeds of |lambda_min / lambda_max| of the whole Hessian, what Lanczos left unsettled added to "
        f"lambda_min. {_policies(folder, list(maps), 'plane')}; the Hessian is of fewer images, see the settings."
    )
    return [heat_map(maps, (axes[0], axes[1]), folder, "hessian_map", "Where the Hessian is convex", caption)]


def _spectra(records: Records, folder: Path) -> list[Drawn]:
    """The first seed's spectra at the trained weights."""
    paths = {arm: folder / "files" / f"{arm}-s{SEED}" / "spectrum.npz" for arm in records.arms}
    paths = {arm: path for arm, path in paths.items() if path.exists()}
    if not paths:
        return []
    look = looks(list(paths))
    with style():
        figure, axes = panels(len(paths), 1.25, "density", sharex=False)
        for ax, (arm, path) in zip(axes, paths.items(), strict=True):
            with np.load(path, allow_pickle=False) as stored:
                centres, width = stored["centres"], float(stored["width"])
                spectrum = Density(centres, stored["weights"], width)
            margin = 0.05 * float(np.ptp(centres)) + 3 * width
            along = np.linspace(centres.min() - margin, centres.max() + margin, 800)
            density = spectrum.at(along)
            ax.fill_between(along, density, 1e-6, lw=0, alpha=0.8, fc=look[arm]["color"])
            ax.set_yscale("log")
            ax.set_ylim(1e-6, 10 * float(density.max()))
            ax.set_title(arm)
        axes[-1].set_xlabel("eigenvalue of the Hessian, nats")
        save(figure, folder / "figures" / "spectrum.png")
    caption = f"Seed {SEED}, stochastic Lanczos quadrature: how many eigenvalues lie where, on a logarithmic scale."
    return [Drawn("figures/spectrum.png", "The spectrum of the Hessian at the trained weights", caption)]


def _joined(records: Records, folder: Path) -> list[Drawn]:
    """The line to another network, and surfaces along the user's own directions, if there are any."""
    drawn = []
    to_other = _surfaces(folder, records.arms, "towards")
    if to_other:
        title, caption = "On the line to the other network", "0 is the one network, 1 the other."
        drawn.append(slices(to_other, "train/loss", folder, "towards", title, caption, METRICS["train/loss"]))
    along = _surfaces(folder, records.arms, "along")
    if along:
        how = contours if len(along[0][1].axes) == 2 else slices
        title, caption = "Along the directions given", "As they were given, not normalised."
        drawn.append(how(along, "train/loss", folder, "along", title, caption, METRICS["train/loss"]))
    return drawn


COLUMNS = {  # of the table: what the probe recorded, and whether the values of one seed are draws
    "training loss": ("centre", "train/loss"),
    "its standard error": ("centre", "train/loss_standard_error"),
    "not convex, %": ("plane", "share_nonconvex"),
    "excess variation": ("plane", "excess_variation"),
    "holes": ("plane", "holes"),
    "curvature along": ("curvature", "curvature/along"),
    "largest eigenvalue": ("centre", "hessian/largest"),
    "its error over starts": ("centre", "hessian/largest_standard_error"),
    "trace": ("centre", "hessian/trace"),
    "trace, error over draws": ("centre", "hessian/trace_standard_error"),
    "epsilon-sharpness, %": ("centre", "epsilon_sharpness"),
    "sharpness, error over draws": ("centre", "epsilon_sharpness_standard_error"),
    "deviation from fp32, % of range": ("plane", "deviation/from_fp32"),
}


def _table(records: Records, folder: Path, points_of: PointsOf) -> list[Drawn]:
    """Numbers of the trained networks: mean over seeds, with the standard deviation where there are several."""
    columns: dict[str, dict[str, dict[int, list[float]]]] = {}
    for name, (probe, metric) in COLUMNS.items():
        columns[name] = _by_arm(records, probe, metric)
        if name == "curvature along":
            draws = {
                arm: {seed: [each for each in found if math.isfinite(each)] for seed, found in by_seed.items()}
                for arm, by_seed in columns[name].items()
            }
            columns["curvature, error over draws"] = {
                arm: {seed: [stdev(each) / len(each) ** 0.5] for seed, each in by_seed.items() if len(each) > 1}
                for arm, by_seed in draws.items()
            }
    columns["ratio where it looks convex"] = {
        arm: {0: [median(convex)]}
        for arm in records.arms
        if (convex := [p.ratio for p in points_of(records, arm) if p.in_plane > 0 and math.isfinite(p.ratio)])
    }
    columns = {name: by_arm for name, by_arm in columns.items() if any(by_arm.values())}
    rows = []
    for arm in records.arms:
        cells: list[object] = [arm, *(_mean_and_spread(by_arm.get(arm, {})) for by_arm in columns.values())]
        if any(cell is not None for cell in cells[1:]):
            rows.append(cells)
    if not rows:
        return []
    caption = (
        "Mean over seeds +- standard deviation. Curvature, eigenvalues, trace and losses in nats. The last column is "
        "the median |lambda_min / lambda_max| of that network over all seeds and points where its plane looks convex."
    )
    names = ["network", *columns]
    return [write_table(folder, "sharpness", "Sharpness of the trained networks", caption, names, rows)]


def _mean_and_spread(by_seed: Mapping[int, Sequence[float]]) -> str | None:
    values = [value for value in (mean(found) for found in by_seed.values()) if math.isfinite(value)]
    spread = f" +- {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{mean(values):.3g}{spread}" if values else None
