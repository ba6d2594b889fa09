"""Arms side by side, one line per seed: the picture of a paired comparison."""

from __future__ import annotations

import math
from pathlib import Path

from ablations.harness.declare.chart import Pairs
from ablations.harness.store.records import Records
from reports.charts.style import BLUE, FAINT, INK, Drawn, panels, save


def draw_pairs(chart: Pairs, records: Records, folder: Path) -> list[Drawn]:
    """One metric of the trained networks per arm, in their order, every seed a dot, its arms joined by a line.

    Seeds without a finite value in every arm are left out and counted in the caption. Draws nothing without a seed.
    """
    arms = [arm for arm in chart.arms if arm in records.arms]
    values = {arm: records.by_seed(arm, "test", chart.quantity.metric) for arm in arms}
    seeds = sorted({seed for found in values.values() for seed in found})
    whole = [s for s in seeds if all(s in values[arm] and math.isfinite(values[arm][s][0]) for arm in arms)]
    if not whole:
        return []
    figure, (ax,) = panels(1, 2.6)
    for seed in whole:
        ax.plot(range(len(arms)), [values[arm][seed][0] for arm in arms], color=FAINT, lw=0.8, zorder=1)
    for place, arm in enumerate(arms):
        found = [values[arm][seed][0] for seed in whole]
        ax.scatter([place] * len(found), found, s=22, color=BLUE, zorder=2)
        mean = sum(found) / len(found)
        ax.plot([place - 0.18, place + 0.18], [mean, mean], color=INK, lw=2, zorder=3)
    ax.set_xticks(range(len(arms)), [chart.names.get(arm, arm) for arm in arms])
    ax.set_xlim(-0.5, len(arms) - 0.5)
    ax.set_ylabel(chart.label)
    left_out = f" {len(seeds) - len(whole)} seeds without a value in every arm are left out." if whole != seeds else ""
    caption = f"{len(whole)} seeds; a line joins the arms of one seed, a bar is the mean.{left_out} {chart.caption}"
    title = chart.title or f"{chart.label[:1].upper()}{chart.label[1:]}, seed by seed"
    return [save(figure, folder, "pairs", title, caption.strip())]
