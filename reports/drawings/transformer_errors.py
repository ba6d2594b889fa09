"""Test errors of the networks on distorted digits beside those of Jaderberg et al. 2015 (1506.02025).

R, RTS, P and E are in the paper's table 1; TC is not, its numbers are of appendix A.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ablations.harness.store.records import Records
from ablations.harness.verdict import t_interval
from reports.charts.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, Drawn, legend, panels, save, style
from reports.charts.tables import write_table

KINDS = {
    "r": "rotated",
    "rts": "turned, scaled and moved",
    "p": "in projection",
    "e": "bent",
    "tc": "moved, among clutter",
}
TRANSFORMS = {"affine": "affine", "projective": "projective", "tps": "spline"}
COLOURS_OF = {"fcn": ORANGE, "cnn": PURPLE, "st_fcn": GREEN, "st_cnn": BLUE}
MARKS = {"affine": "o", "projective": "s", "tps": "^"}
SHORT = {"affine": "Aff", "projective": "Proj", "tps": "TPS"}
NETWORKS = (
    "fcn", "cnn", *(f"{family}_{transform}" for family in ("st_fcn", "st_cnn") for transform in TRANSFORMS),
)  # fmt: skip
# Network -> errors in %: on R, RTS, P and E of table 1, then, where published, on TC of appendix A.4.
PUBLISHED = {
    "fcn": (2.1, 5.2, 3.1, 3.2, 13.2),
    "cnn": (1.2, 0.8, 1.5, 1.4, 3.5),
    "st_fcn_affine": (1.2, 0.8, 1.5, 2.7, 2.0),
    "st_fcn_projective": (1.3, 0.9, 1.4, 2.6),
    "st_fcn_tps": (1.1, 0.8, 1.4, 2.4),
    "st_cnn_affine": (0.7, 0.5, 0.8, 1.2, 1.7),
    "st_cnn_projective": (0.8, 0.6, 0.8, 1.3),
    "st_cnn_tps": (0.7, 0.5, 0.8, 1.1),
}
PAPER = {
    f"{kind}_{network}": error
    for network, errors in PUBLISHED.items()
    for kind, error in zip(KINDS, errors, strict=False)
}  # fmt: skip
SOURCES = "of its table 1 (means of three seeds), for TC of its appendix A.4"
TEST_ERROR = "test/top1_error"


def _gap(first: dict[int, float], second: dict[int, float]) -> dict[int, float]:
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def values(
    records: Records, arm: str, probe: str = "test", metric: str = TEST_ERROR, **fields: object
) -> dict[int, float]:
    """Seed -> the finite value of a measurement, test error in % if none is named; of several the mean."""
    found = records.by_seed(arm, probe, metric, **fields)
    return {seed: fmean(good) for seed, all_ in found.items() if (good := [v for v in all_ if math.isfinite(v)])}


def left_out(records: Records, arms: Iterable[str], probe: str = "test", metric: str = TEST_ERROR) -> str:
    """A sentence for a caption, after a space: arms without a value, and seeds that others have; "" if none."""
    arms = list(arms)
    seeds = {seed for arm in arms for seed in records.seeds(arm)}
    found = []
    for arm in arms:
        missing = sorted(seeds - set(values(records, arm, probe, metric)))
        if missing:
            whole = len(missing) == len(seeds)
            found.append(arm if whole else f"{arm} seed {', '.join(map(str, missing))}")
    return f" Left out, without a value: {'; '.join(found)}." if found else ""


def name_of(network: str) -> str:
    """A network's name as the paper prints it, of a key of PUBLISHED or of an arm: ST-CNN Aff."""
    words = network.split("_")
    words = words[1:] if words[0] in KINDS else words
    family = "-".join(word.upper() for word in words if word not in TRANSFORMS)
    return " ".join([family, *(SHORT[word] for word in words if word in TRANSFORMS)])


def draw_table(records: Records, folder: Path) -> list[Drawn]:
    """Table 1, and TC beside it: mean and half-width of the 95 % interval in each cell, the paper's number in grey."""
    arms = [arm for arm in PAPER if values(records, arm)]
    networks = [network for network in NETWORKS if any(arm.partition("_")[2] == network for arm in arms)]
    kinds = [kind for kind in KINDS if any(arm.partition("_")[0] == kind for arm in arms)]
    if not arms:
        return []
    with style():
        figure, (ax,) = panels(1, 0.42 * len(networks) - 0.4)
        ax.axis("off")
        ax.set(xlim=(0, 1.45 + len(kinds)), ylim=(len(networks) - 0.5, -0.95))
        for column, kind in enumerate(kinds):
            ax.text(1.78 + column, -0.65, kind.upper(), weight="bold", ha="center", va="center")
        for row, network in enumerate(networks):
            family = network.rpartition("_")[0] if "st_" in network else network
            ax.plot([0.0, 0.0], [row - 0.4, row + 0.4], color=COLOURS_OF[family], lw=4, solid_capstyle="butt")
            ax.text(0.08, row, name_of(network), va="center", size=9)
            ax.axhline(row - 0.5, color="#E4E4E4", lw=0.8)
            for column, kind in enumerate(kinds):
                _cell(ax, 1.78 + column, row, values(records, f"{kind}_{network}"), PAPER.get(f"{kind}_{network}"))
        save(figure, folder / "figures" / "table1.png")
    caption = (
        "Test error in %: the mean over seeds, below it the half-width of its 95 % interval; in grey the paper's, "
        f"{SOURCES}. {', '.join(f'{kind.upper()}: {KINDS[kind]}' for kind in kinds)}."
    )
    return [Drawn("figures/table1.png", "Distorted digits", caption + left_out(records, PAPER))]


def _cell(ax: Axes, x: float, row: int, found: Mapping[int, float], paper: float | None) -> None:
    if found:
        mean, low, _ = t_interval(list(found.values()))
        ax.text(x + 0.06, row - 0.17, f"{mean:.1f}", ha="right", va="center", size=10)
        if math.isfinite(low):
            ax.text(x + 0.06, row + 0.24, f"\N{PLUS-MINUS SIGN}{mean - low:.1f}", ha="right", va="center", size=8)
    elif paper is not None:
        ax.text(x + 0.06, row - 0.14, "-", ha="right", va="center", color=FAINT)
    if paper is not None:
        ax.text(x + 0.14, row - 0.16, f"{paper:.1f}", ha="left", va="center", size=8, color="#6B6B6B")


def draw_gaps(
    records: Records, folder: Path, name: str, title: str, comparisons: Mapping[str, tuple[str, str]], caption: str
) -> list[Drawn]:
    """Differences of test errors, paired by seed, to `folder`/figures/`name`.png, a panel for each comparison.

    comparisons: title -> the families of the first network and of the one subtracted. Draws nothing without a pair.
    """
    pairs = {
        panel: {
            (kind, transform): (_arm(kind, first, transform), _arm(kind, second, transform))
            for kind in KINDS
            for transform in TRANSFORMS
            if _arm(kind, first, transform) in PAPER and _arm(kind, second, transform) in PAPER
        }
        for panel, (first, second) in comparisons.items()
    }  # fmt: skip
    gaps = {
        panel: {key: gap for key, pair in found.items() if (gap := _gap(*(values(records, arm) for arm in pair)))}
        for panel, found in pairs.items()
    }
    shown = [panel for panel in pairs if gaps[panel]]
    if not shown:
        return []
    kinds = [kind for kind in KINDS if any(kind == key[0] for panel in shown for key in gaps[panel])]
    with style():
        figure, axes = panels(len(shown), 2.3, "% points", sharex=True)
        for ax, panel in zip(axes, shown, strict=True):
            family = next(family for family in comparisons[panel] if family.startswith("st_"))
            for (kind, transform), gap in gaps[panel].items():
                x = kinds.index(kind) + 0.26 * (list(TRANSFORMS).index(transform) - 1)
                mark, found = MARKS[transform], list(gap.values())
                ax.scatter(
                    [x] * len(found), found, s=20, marker=mark, color=COLOURS_OF[family], alpha=0.6, linewidths=0
                )
                ax.plot([x - 0.09, x + 0.09], [fmean(found)] * 2, color=INK, lw=2, zorder=3)
                one, other = (PAPER[arm] for arm in pairs[panel][kind, transform])
                ax.plot(x, one - other, "x", color=FAINT, ms=6, mew=1.4, zorder=4)
            ax.axhline(0, color=INK, lw=0.8)
            ax.set_title(panel)
        axes[-1].set_xticks(range(len(kinds)), [kind.upper() for kind in kinds])
        axes[-1].set_xlim(-0.5, len(kinds) - 0.5)
        used = [t for t in TRANSFORMS if any(t == key[1] for panel in shown for key in gaps[panel])]
        keys = [Line2D([], [], ls="", marker=MARKS[t], color=INK, label=TRANSFORMS[t]) for t in used]
        legend(figure, [*keys, Line2D([], [], ls="", marker="x", color=FAINT, label="the paper")])
        save(figure, folder / "figures" / f"{name}.png")
    named = dict.fromkeys(arm for found in pairs.values() for pair in found.values() for arm in pair)
    said = f"Differences of test errors. {caption} Marks are seeds, bars their means." + left_out(records, named)
    return [Drawn(f"figures/{name}.png", title, said)]


def _arm(kind: str, family: str, transform: str) -> str:
    return f"{kind}_{family}_{transform}" if family.startswith("st_") else f"{kind}_{family}"


def write_errors(records: Records, folder: Path) -> list[Drawn]:
    """The same as a table: one line for each network and kind of distortion that has a value."""
    rows: list[list[object]] = []
    for arm, paper in PAPER.items():
        found = list(values(records, arm).values())
        if found:
            mean, low, _ = t_interval(found)
            costs = [values(records, arm, "network", metric) for metric in ("parameters", "multiply_adds")]
            size, cost = (next(iter(each.values()), None) for each in costs)
            kind = arm.partition("_")[0].upper()
            half = mean - low if math.isfinite(low) else None
            rows.append([name_of(arm), kind, mean, half, len(found), paper, size, cost])
    if not rows:
        return []
    columns = [
        "network",
        "digits",
        "test error, %",
        "half-width",
        "seeds",
        "paper, %",
        "parameters",
        "multiply-adds, M",
    ]
    caption = f"Test error: mean over seeds and half-width of its 95 % interval, beside the paper's, {SOURCES}."
    return [write_table(folder, "errors", "Distorted digits in numbers", caption, columns, rows)]
