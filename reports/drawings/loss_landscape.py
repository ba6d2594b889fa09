"""Figures of `loss_landscape`: surfaces, lines, the way of training, curvature, and sharpness against error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np
from matplotlib.lines import Line2D

from ablations.harness.store.records import Records
from ablations.probes.landscape.convexity import earlier_like, map_points
from ablations.probes.landscape.curvature.spectrum import Density
from ablations.probes.landscape.surface_file import Surface
from reports.charts.curves import looks
from reports.charts.interactive import surface_3d
from reports.charts.style import Drawn, legend, panels, save
from reports.charts.surface_view import Panel, policies, view_of
from reports.charts.surfaces import contours, heat_map, slices, trajectory
from reports.charts.vtk import write_vtk

METRICS = {"train/loss": "training loss", "train/error": "training error, %", "test/error": "test error, %"}
WAYS = {"principal": "two principal components", "random": "two random directions"}


def draw(records: Records, folder: Path, deep: Sequence[str]) -> list[Drawn]:
    """Every figure that the records and the files beside them allow.

    deep: the arm with shortcuts and the one without, which have pictures of their own.
    """
    return [
        *_planes(records, folder, deep),
        *_lines(records, folder),
        *_sharpness_and_error(records, folder),
        *_ways(records, folder),
        *_maps(records, folder),
        *_spectra(records, folder),
        *_joined(records, folder),
    ]


def _first(records: Records) -> int:
    """The seed whose surfaces are shown."""
    return min(records.seeds())


def _surfaces(records: Records, folder: Path, arms: Sequence[str], name: str) -> list[tuple[str, Surface]]:
    """Arm -> its surface of that name, of those that kept one with a loss to show."""
    seed = _first(records)
    paths = {arm: folder / "files" / f"{arm}-s{seed}" / f"{name}.npz" for arm in arms}
    found = [(arm, Surface.load(path)) for arm, path in paths.items() if path.exists()]
    return [(arm, each) for arm, each in found if np.isfinite(each.values["train/loss"]).any()]


def _policies(records: Records, folder: Path, arms: Sequence[str], name: str) -> str:
    """How those surfaces were computed, except for what differs from one to the next."""
    shown = _surfaces(records, folder, arms, name)[:1]
    return policies(shown).partition("; seeds of directions")[0].capitalize() if shown else ""


def _planes(records: Records, folder: Path, deep: Sequence[str]) -> list[Drawn]:
    """The first seed's planes: in three dimensions, as contours of three metrics, and for ParaView."""
    shown, seed = _surfaces(records, folder, records.arms, "plane"), _first(records)
    if not shown:
        return []
    is_logarithmic = view_of(shown, "train/loss", 2).logarithmic
    for arm, found in shown:
        write_vtk(found, "train/loss", folder / "files" / f"{arm}-s{seed}" / "plane.vtk", is_logarithmic)
    deepest, earlier = [panel for panel in shown if panel[0] in deep] or shown, _as_well_fitted(records, folder, deep)
    shares = {row.arm: row.value for row in records.where(None, seed, "plane", "share_nonconvex", pair=0)}
    shares |= {name: share for name, _, share in earlier}
    both = [*deepest, *((name, found) for name, found, _ in earlier)]
    caption = f"Around the networks of seed {seed}, along the same two random directions for all. "
    if earlier:
        caption += f"At that epoch {deep[0]} fitted about as well as {deep[1]} does at its end. "
    if told := ", ".join(f"{name} {shares[name]:.3g} %" for name, _ in both if name in shares):
        caption += f"Where they are better than guessing, so much of this plane is not convex: {told}. "
    highest = _highest(shown)
    cut = f"Above {highest:.3g} nats it is cut. "
    drawn = [
        surface_3d(
            _cut(both, highest), "train/loss", folder, "plane_3d", "The loss surface, with and without shortcuts",
            f"{caption}{cut}Turn it, zoom, and point at it for values.", METRICS["train/loss"],
        )
    ]  # fmt: skip
    for metric, words in METRICS.items():
        some, told = [panel for panel in deepest if metric in panel[1].values], caption
        if metric == "train/loss":
            some, told = _cut([*both, *(each for each in shown if each not in deepest)], highest), caption + cut
        if some:
            name = f"plane_{metric.replace('/', '_')}"
            drawn.append(contours(some, metric, folder, name, f"The surface of the {words}", told.strip(), words))
    return drawn


def _highest(shown: Sequence[Panel]) -> float:
    """The loss from which pictures are cut: 10 nats as the authors' contours, or ten times what a network ends at."""
    centres = [float(found.values["train/loss"][found.centre]) for _, found in shown if found.centre is not None]
    return 10 * max([1.0, *filter(math.isfinite, centres)])


def _cut(shown: Sequence[Panel], highest: float) -> list[Panel]:
    """The surfaces with no training loss above one; far away it grows a millionfold, beside which no valley is seen."""
    return [
        (name, replace(found, values={**found.values, "train/loss": np.minimum(found.values["train/loss"], highest)}))
        for name, found in shown
    ]


def _as_well_fitted(records: Records, folder: Path, deep: Sequence[str]) -> list[tuple[str, Surface, float]]:
    """Name, surface and share of the network with shortcuts when it fitted as the one without does at its end."""
    seed = _first(records)
    if len(deep) != 2 or not (state := earlier_like(records, *deep).get(seed)):
        return []
    epoch, share = state
    return [
        (f"{arm}, epoch {epoch}", found, share)
        for arm, found in _surfaces(records, folder, deep[:1], f"earlier_{epoch}")
    ]


def _lines(records: Records, folder: Path) -> list[Drawn]:
    """The first seed's random lines: of every network the mean over the lines and their extremes."""
    found: dict[str, dict[str, list[Surface]]] = {}
    for kind in sorted({row.fields["normalise"] for row in records.where(probe="line")}):
        for number in records.where(None, _first(records), "line", normalise=kind).over("draw"):
            for arm, line in _surfaces(records, folder, records.arms, f"line_{kind}_{number}"):
                found.setdefault(kind, {}).setdefault(arm, []).append(line)
    if not found:
        return []
    arms = list(dict.fromkeys(arm for by_arm in found.values() for arm in by_arm))
    look = looks(arms)
    figure, axes = panels(len(found), 2.5, "training loss")
    for ax, (kind, by_arm) in zip(axes, found.items(), strict=True):
        for arm, lines in by_arm.items():
            heights = np.array([line.values["train/loss"] for line in lines])
            heights[~np.isfinite(heights)] = np.nan
            along = lines[0].axes[0]
            ax.plot(along, heights.mean(axis=0), lw=1.5, **look[arm])
            ax.fill_between(along, heights.min(axis=0), heights.max(axis=0), alpha=0.15, lw=0, fc=look[arm]["color"])
        ax.set_yscale("log")
        ax.set_title("without normalisation" if kind == "none" else f"{kind} normalised")
    axes[-1].set_xlabel("distance along the line")
    legend(figure, [Line2D([], [], label=arm, lw=1.5, **look[arm]) for arm in arms])
    caption = (
        f"Seed {_first(records)}: lines are means over the random directions, bands reach from the lowest to the "
        f"highest. All networks of a seed get the same draws. {_policies(records, folder, arms, f'line_{kind}_0')}."
    )
    return [save(figure, folder, "lines", "The loss along random lines", caption)]


def _sharpness_and_error(records: Records, folder: Path) -> list[Drawn]:
    """Rise of the loss along random lines against test error, with and without normalisation; a dot is a network."""
    errors = records.where(probe="test", metric="test/top1_error")
    kinds = [kind for kind in ("filter", "none") if records.where(probe="line", normalise=kind)]
    if not kinds or not errors:
        return []
    look = looks(errors.arms)
    figure, axes = panels(len(kinds), 2.5, "test error, %", sharey=True)
    for ax, kind in zip(axes, kinds, strict=True):
        for arm in errors.arms:
            rises, error = records.by_seed(arm, "line", "rise", normalise=kind), errors.by_seed(arm)
            known = [seed for seed in rises if seed in error]
            places = [mean(rises[seed]) for seed in known], [error[seed][0] for seed in known]
            ax.plot(*places, "o", ms=4.5, color=look[arm]["color"])
        ax.set_xscale("symlog", linthresh=0.01)
        ax.set_yscale("symlog", linthresh=1.0)
        ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        ax.set_title("without normalisation" if kind == "none" else f"{kind} normalised")
    axes[-1].set_xlabel("mean rise of the training loss along random lines, nats")
    legend(figure, [Line2D([], [], ls="", marker="o", label=arm, color=look[arm]["color"]) for arm in look])
    caption = "A dot is a trained network, its rise the mean over the lines. Sharper is further right."
    return [save(figure, folder, "sharpness", "Sharpness against test error", caption)]


def _ways(records: Records, folder: Path) -> list[Drawn]:
    """The first seed's training seen in two planes."""
    drawn = []
    for arm in records.arms:
        for kind, words in WAYS.items():
            rows = records.where(arm, _first(records), "way", plane=kind)
            found = _surfaces(records, folder, [arm], f"way_{kind}")
            if not rows or not found:
                continue
            (share,) = records.where(arm, _first(records), "way", f"share/{kind}").values()
            walk = ""
            if kind == "principal":
                (expected,) = records.where(arm, _first(records), "way", "share/random_walk").values()
                walk = f" (of a random walk of as many steps: {expected:.3g} %)"
            epochs = list(rows.where(metric="x").over("epoch"))
            points = np.array([rows.where(metric=axis).values() for axis in "xy"]).T
            caption = f"{arm}, seed {_first(records)}: this plane holds {share:.3g} % of the way{walk}."
            title = f"The way of training in {words}: {arm}"
            drawn.append(
                trajectory(found[0][1], "train/loss", points, epochs, folder, f"way_{arm}_{kind}", title, caption,
                           METRICS["train/loss"], ("first", "second"))
            )  # fmt: skip
    return drawn


def _maps(records: Records, folder: Path) -> list[Drawn]:
    """Median over seeds of |lambda_min / lambda_max| at the points of the plane."""
    ratios: dict[str, dict[tuple[float, float], list[float]]] = {}
    for arm in records.arms:
        for each in map_points(records, arm):
            finite = [each.ratio] if math.isfinite(each.ratio) else []
            ratios.setdefault(arm, {}).setdefault((each.alpha, each.beta), []).extend(finite)
    places = {place for found in ratios.values() for place in found}
    axes = [np.array(sorted({place[axis] for place in places})) for axis in (0, 1)]
    if min(map(len, axes)) < 2:
        return []
    maps = {
        arm: np.array([[median(found.get((a, b)) or [math.nan]) for b in axes[1]] for a in axes[0]])
        for arm, found in ratios.items()
    }
    caption = (
        "Median over seeds of |lambda_min / lambda_max| of the whole Hessian, what Lanczos left unsettled added to "
        f"lambda_min; nothing where a network guesses or worse. {_policies(records, folder, list(maps), 'plane')}; "
        "the Hessian is of fewer images, see the settings."
    )
    return [heat_map(maps, (axes[0], axes[1]), folder, "hessian_map", "Where the Hessian is convex", caption)]


def _spectra(records: Records, folder: Path) -> list[Drawn]:
    """The first seed's spectra at the trained weights."""
    paths = {arm: folder / "files" / f"{arm}-s{_first(records)}" / "spectrum.npz" for arm in records.arms}
    paths = {arm: path for arm, path in paths.items() if path.exists()}
    if not paths:
        return []
    look = looks(list(paths))
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
    caption = f"Seed {_first(records)}, stochastic Lanczos quadrature: how many eigenvalues lie where; logarithmic."
    return [save(figure, folder, "spectrum", "The spectrum of the Hessian at the trained weights", caption)]


def _joined(records: Records, folder: Path) -> list[Drawn]:
    """The line to another network, and surfaces along the user's own directions, if there are any."""
    named = {
        "towards": ("On the line to the other network", "0 is the one network, 1 the other."),
        "along": ("Along the directions given", "As they were given, not normalised."),
    }
    drawn = []
    for name, words in named.items():
        if shown := _surfaces(records, folder, records.arms, name):
            how = contours if len(shown[0][1].axes) == 2 else slices
            drawn.append(how(shown, "train/loss", folder, name, *words, METRICS["train/loss"]))
    return drawn
