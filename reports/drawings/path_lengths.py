"""Figure 6 of Veit et al. 2016 (arXiv:1605.06431) in the paper's axes, and the effective lengths as a table."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import geometric_mean, mean

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablations.harness.store.records import Records
from ablations.path_lengths import (
    ALL,
    ERROR,
    MASS,
    NORM,
    SHORT,
    counts,
    gradient_shares,
    interval,
    line,
    mean_norms,
    share_of_paths,
    shares,
)
from reports.charts.curves import draw_curves
from reports.charts.paired_seeds import draw_pairs
from reports.charts.style import BLUE, FAINT, ORANGE, Drawn, legend, panels, save, style
from reports.charts.tables import write_table

STATES = {"trained": BLUE, "untrained": ORANGE}
PUBLISHED = {"the paper, lengths 5 to 17": (5, 17), "the notes, lengths 9 to 18": (9, 18)}
PUBLISHED_BLOCKS = 54


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Writes every figure that the records allow to `folder`/figures; raises OSError if a file cannot be written."""
    drawn = []
    # The functions that decide read the arm of all blocks; a network from outside has another name, and is shown too.
    shown = records.where(probe="path").arms
    if shown:
        drawn += _figure6(records, folder)
    if {ALL, SHORT} <= set(records.arms):
        drawn += draw_pairs(records, folder, [ALL, SHORT], ERROR, "test error in %")
        drawn += draw_curves(
            records, folder, "training_loss", "Training loss", {"train/loss": "training loss"}, (ALL, SHORT),
            logarithmic=True,
        )  # fmt: skip
    if shown:
        drawn += _table(records, folder)
    return drawn


def _arm(records: Records) -> Records:
    """The records of the arm that was asked for its paths, under the name that the estimates know."""
    from dataclasses import replace

    (name,) = records.where(probe="path").arms
    return Records(replace(row, arm=ALL) for row in records.where(name))


def _figure6(records: Records, folder: Path) -> list[Drawn]:
    rows = _arm(records)
    seeds = rows.where(probe="path").seeds()
    with style():
        figure, axes = panels(3, 1.9, sharex=True)
        distribution = [100 * share for share in shares(counts(rows, seeds[0]))]
        axes[0].bar(range(len(distribution)), distribution, color="#7FB8D9", width=0.8)
        axes[0].set_ylabel("% of all paths")
        for state, colour in STATES.items():
            found = {seed: mean_norms(rows, seed, state) for seed in seeds}
            found = {seed: norms for seed, norms in found.items() if norms}
            if not found:
                continue
            lengths = range(len(next(iter(found.values()))))
            low, high = (
                [_middle(rows, state, length, f"{NORM}_{name}") for length in lengths] for name in ("q10", "q90")
            )
            axes[1].fill_between(lengths, low, high, color=colour, alpha=0.2, linewidth=0)
            for seed, norms in found.items():
                axes[1].plot(lengths, [norm or math.nan for norm in norms], color=colour, lw=0.6, alpha=0.6)
                mass = gradient_shares(rows, seed, state)
                axes[2].plot(range(len(mass)), [100 * share for share in mass], color=colour, lw=0.6, alpha=0.6)
            axes[1].plot(lengths, [_middle(rows, state, length, NORM) for length in lengths], color=colour, lw=1.8)
            every = [gradient_shares(rows, seed, state) for seed in found]
            axes[2].plot(lengths, [100 * mean(column) for column in zip(*every, strict=True)], color=colour, lw=1.8)
        axes[1].set_yscale("log")
        axes[1].set_ylabel("gradient norm")
        axes[2].set_ylabel("% of the gradient")
        axes[2].set_xlabel("length of the path: branches on it")
        if len(distribution) - 1 == PUBLISHED_BLOCKS:
            axes[2].axvspan(4.5, 17.5, color=FAINT, alpha=0.2, linewidth=0, zorder=0)
        keys: list[Patch | Line2D] = [Patch(color="#7FB8D9", label="number of paths")]
        states = {row.fields["state"] for row in rows.where(probe="path")}
        keys += [
            Line2D([], [], color=colour, lw=1.8, label=state) for state, colour in STATES.items() if state in states
        ]
        if len(distribution) - 1 == PUBLISHED_BLOCKS:
            keys.append(Patch(color=FAINT, alpha=0.3, label="the paper's 5 to 17"))
        legend(figure, keys)
        save(figure, folder / "figures" / "paths.png")
    caption = (
        "As figure 6 of the paper: paths by length, norm of the gradient down a single one (thick: mean over paths and "
        "geometric mean over seeds; thin: seeds; band: tenths 1 to 9 of the paths), and the product of both."
    )
    return [Drawn("figures/paths.png", "Paths and the gradient they carry", caption)]


def _middle(rows: Records, state: str, length: int, metric: str) -> float:
    """Geometric mean over seeds, NaN if nothing is above 0."""
    values = [
        value for value in rows.where(ALL, None, "path", metric, state=state, length=length).values() if value > 0
    ]
    return geometric_mean(values) if values else math.nan


def _table(records: Records, folder: Path) -> list[Drawn]:
    """Effective lengths of every seed, and what the published intervals hold here."""
    rows, cells = _arm(records), []
    blocks = len(counts(rows, rows.seeds()[0])) - 1
    for state in STATES:
        for seed in rows.where(probe="path").seeds():
            mass = gradient_shares(rows, seed, state)
            if not mass:
                continue
            first, last = interval(mass)
            slope, straight = line(mean_norms(rows, seed, state))
            held = [100 * math.fsum(mass[a : b + 1]) for a, b in PUBLISHED.values()]
            mine = f"{first} to {last}", share_of_paths(rows, seed, first, last)
            cells.append([f"{state}, seed {seed}", *mine, *held, 10**slope, straight])
    for name, (first, last) in PUBLISHED.items():
        whole = math.fsum(math.comb(PUBLISHED_BLOCKS, k) for k in range(first, last + 1)) / 2**PUBLISHED_BLOCKS
        cells.append([name, f"{first} to {last}", 100 * whole, None, None, None, None])
    columns = (
        "network", f"lengths with {100 * MASS:g} % of the gradient", "% of all paths", "% of gradient in 5 to 17",
        "% of gradient in 9 to 18", "factor per block", "R^2",
    )  # fmt: skip
    caption = (
        f"{blocks} blocks here, {PUBLISHED_BLOCKS} in the paper. Factor and R^2 are those of the line of claim PL2."
    )
    return [write_table(folder, "effective_lengths", "Effective lengths", caption, columns, cells)]
