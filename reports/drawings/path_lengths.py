"""Figure 6 of Veit et al. 2016 (arXiv:1605.06431) in the paper's axes, and the effective lengths as a table."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablations.harness.store.records import Records
from ablations.probes.gradients.path_lengths import COUNT, MASS, NORM, carried, interval, line, shares
from reports.charts.style import BLUE, FAINT, ORANGE, Drawn, legend, panels, save
from reports.charts.tables import write_table

STATES = {"trained": BLUE, "untrained": ORANGE}
PUBLISHED = {"the paper, lengths 5 to 17": (5, 17), "the notes, lengths 9 to 18": (9, 18)}
PUBLISHED_BLOCKS = 54
BARS = "#7FB8D9"

Norms = dict[str, dict[int, list[float]]]
"""State -> seed -> mean norm of the gradient down a path of length 0, 1, ..."""


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Writes the figure and the table of the network that was asked for its paths, if one was.

    Raises OSError if a file cannot be written.
    """
    rows = records.where(probe="path")
    if not rows:
        return []
    seeds = rows.seeds()
    counts = _by_length(records.where(rows.arms[0], seeds[0], "paths", COUNT))
    norms = {
        state: {seed: _by_length(rows.where(None, seed, "path", NORM, state=state)) for seed in found.seeds()}
        for state in STATES
        if (found := rows.where(state=state))
    }
    return [_figure(rows, counts, norms, folder), _table(counts, norms, folder)]


def _by_length(rows: Records) -> list[float]:
    return [value for found in rows.over("length").values() for value in found.values()]


def _figure(rows: Records, counts: list[float], norms: Norms, folder: Path) -> Drawn:
    lengths = range(len(counts))
    keys: list[Patch | Line2D] = [Patch(color=BARS, label="number of paths")]
    figure, (number, norm, product) = panels(3, 1.9, sharex=True)
    number.bar(lengths, [100 * share for share in shares(counts)], color=BARS, width=0.8)
    for state, of_seeds in norms.items():
        thin: dict[str, Any] = {"color": STATES[state], "lw": 0.6, "alpha": 0.6}
        thick: dict[str, Any] = {"color": STATES[state], "lw": 1.8}
        low, middle, high = (
            [_middle(rows.where(metric=f"{NORM}{part}", state=state, length=length)) for length in lengths]
            for part in ("_q10", "", "_q90")
        )
        norm.fill_between(lengths, low, high, color=STATES[state], alpha=0.2, linewidth=0)
        masses = [[100 * share for share in carried(counts, found)] for found in of_seeds.values()]
        for found, mass in zip(of_seeds.values(), masses, strict=True):
            norm.plot(lengths, [value or math.nan for value in found], **thin)
            product.plot(range(len(mass)), mass, **thin)
        norm.plot(lengths, middle, **thick)
        means = [mean(column) for column in zip(*filter(None, masses), strict=True)]
        product.plot(range(len(means)), means, **thick)
        keys.append(Line2D([], [], label=state, **thick))
    if len(counts) - 1 == PUBLISHED_BLOCKS:
        product.axvspan(4.5, 17.5, color=FAINT, alpha=0.2, linewidth=0, zorder=0)
        keys.append(Patch(color=FAINT, alpha=0.3, label="the paper's 5 to 17"))
    norm.set_yscale("log")
    for ax, label in ((number, "% of all paths"), (norm, "gradient norm"), (product, "% of the gradient")):
        ax.set_ylabel(label)
    product.set_xlabel("length of the path: branches on it")
    legend(figure, keys)
    caption = (
        "As figure 6 of the paper: paths by length, norm of the gradient down a single one (thick: mean over paths and "
        "geometric mean over seeds; thin: seeds; band: tenths 1 to 9 of the paths), and the product of both."
    )
    return save(figure, folder, "paths", "Paths and the gradient they carry", caption)


def _middle(rows: Records) -> float:
    """Geometric mean, NaN if nothing is above 0."""
    values = [value for value in rows.values() if value > 0]
    return geometric_mean(values) if values else math.nan


def _table(counts: list[float], norms: Norms, folder: Path) -> Drawn:
    """Effective lengths of every seed, and what the published intervals hold here."""
    cells: list[list[object]] = []
    for state, of_seeds in norms.items():
        for seed, found in of_seeds.items():
            if not (mass := carried(counts, found)):
                continue
            first, last = interval(mass)
            mine = 100 * math.fsum(shares(counts)[first : last + 1])
            held = [100 * math.fsum(mass[a : b + 1]) for a, b in PUBLISHED.values()]
            cells.append([f"{state}, seed {seed}", f"{first} to {last}", mine, *held, *line(found)])
    for name, (first, last) in PUBLISHED.items():
        whole = math.fsum(math.comb(PUBLISHED_BLOCKS, k) for k in range(first, last + 1)) / 2**PUBLISHED_BLOCKS
        cells.append([name, f"{first} to {last}", 100 * whole, None, None, None, None])
    columns = (
        "network", f"lengths with {100 * MASS:g} % of the gradient", "% of all paths", "% of gradient in 5 to 17",
        "% of gradient in 9 to 18", "factor per block", "R^2",
    )  # fmt: skip
    blocks = f"{len(counts) - 1} blocks here, {PUBLISHED_BLOCKS} in the paper."
    caption = f"{blocks} Factor and R^2 are those of the line of claim PL2."
    return write_table(folder, "effective_lengths", "Effective lengths", caption, columns, cells)
