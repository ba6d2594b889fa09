"""Figures of `house_numbers`: errors beside the paper's, by length and place, windows, and what a step costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median

from matplotlib.lines import Line2D

from ablations.harness.declare.measure import top1_error
from ablations.harness.store.records import Records
from ablations.house_numbers import CNN, MULTI, PUBLISHED, SINGLE, SLOWER, dearer
from reports.charts.curves import draw_curves, looks
from reports.charts.paired_seeds import draw_pairs
from reports.charts.style import BLUE, FAINT, INK, ORANGE, Drawn, legend, panels, save, style, whole_ticks
from reports.charts.tables import write_table
from reports.drawings.transformer_pictures import Kept, draw_looks

ARMS = {CNN: "no transformer", SINGLE: "one in front", MULTI: "four inside"}
AXES = {"length": "digits in the number", "place": "place in the number"}


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Writes every figure that the records allow; raises OSError if a file cannot be written."""
    arms = [arm for arm in ARMS if len(records.where(arm, probe="test"))]
    pairs = draw_pairs(records, folder, arms, "test/top1_error", "numbers read wrong, in %", ARMS) if arms else []
    printed = "; ".join(f"{ARMS[arm]} {small} and {large} %" for arm, (small, large) in PUBLISHED.items())
    says = f" The paper, SVHN at 64 and at 128 pixels: {printed}."
    return [
        *(figure._replace(caption=figure.caption + says) for figure in pairs),
        *_where(records, folder),
        *_pictures(records, folder),
        *_windows(records, folder),
        *_costs(records, folder),
        *draw_curves(
            records, folder, "training_loss", "Training loss", {"train/loss": "loss of a place"}, arms, names=ARMS
        ),
        *_table(records, folder, arms),
    ]


def _where(records: Records, folder: Path) -> list[Drawn]:
    """Errors against the length of the number, and against the place in it: dots for seeds, lines through means."""
    arms = [arm for arm in ARMS if len(records.where(arm, metric="error"))]
    if not arms:
        return []
    look = looks(arms)
    with style():
        figure, axes = panels(len(AXES), 2.2, "wrong, in %")
        for ax, (what, label) in zip(axes, AXES.items(), strict=True):
            for arm in arms:
                found: dict[int, list[float]] = {}
                for row in records.where(arm, probe=what, metric="error"):
                    found.setdefault(int(row.fields[what]), []).append(row.value)
                for x, values in found.items():
                    ax.scatter([x] * len(values), values, s=10, alpha=0.6, color=look[arm]["color"], linewidths=0)
                ax.plot(list(found), [mean(values) for values in found.values()], lw=1.6, **look[arm])
                whole_ticks(ax, list(found))
            ax.set_ylim(bottom=0)
            ax.set_xlabel(label)
        legend(figure, [Line2D([], [], label=ARMS[arm], lw=1.6, **look[arm]) for arm in arms])
        save(figure, folder / "figures" / "where.png")
    caption = (
        "Above, numbers of which any place is wrong; below, single places, where behind the last digit the null class "
        "is right. Dots are seeds, lines join their means."
    )
    return [Drawn("figures/where.png", "Which numbers, and which digits in them, are read wrong", caption)]


def _pictures(records: Records, folder: Path) -> list[Drawn]:
    """Test numbers with the window of the transformers, and what is seen through it."""
    labels = {SINGLE: "one in\nfront", MULTI: "four\ninside"}
    shown = [Kept(folder, arm, records.seeds(arm), label) for arm, label in labels.items() if records.seeds(arm)]
    said = (
        " One number of each length, from one digit on, in grey. Of four transformers, each of which reads what the "
        "one before it gave, the window is that of all together; the layers between them are left out of the picture."
    )
    return draw_looks(folder, "looks", "What the network gets to see", shown, said)


def _windows(records: Records, folder: Path) -> list[Drawn]:
    """A row for each transformer: the size of its window, and how it lies to the number."""
    rows: list[list[object]] = []
    for arm, name in ARMS.items():
        found = records.where(arm, probe="window")
        for number in sorted({int(row.fields["transformer"]) for row in found}):
            if number == 0 and rows:
                continue  # the image itself is the same for all arms
            own = found.where(transformer=number)
            means = [_mean(own.where(metric=f"window/{what}").values()) for what in ("area", "overlap", "covers")]
            rows.append(["the whole image", None, *means] if number == 0 else [name, number, *means])
    if not rows:
        return []
    columns = ["arm", "transformer", "window's area, median, % of the image", "overlap with the number, %",
               "part of the number inside, %"]  # fmt: skip
    caption = (
        "Means over seeds, numbers of one digit and more. A window is the upright box around what the transformers up "
        "to this one sample together; overlap is intersection over union with the box around all digits, known where "
        "numbers are made."
    )
    return [write_table(folder, "windows", "Where the transformers look", caption, columns, rows)]


def _costs(records: Records, folder: Path) -> list[Drawn]:
    """What transformers add to the time of a step, every seed, beside what they add to its multiply-adds."""
    found = {
        name: tuple(dearer(metric, name).by_seed(records) for metric in ("seconds", "multiply_adds"))
        for name in (SINGLE, MULTI)
    }
    if not all(times and costs for times, costs in found.values()):
        return []
    with style():
        figure, (ax,) = panels(1, 2.6)
        for place, (times, costs) in enumerate(found.values()):
            ax.scatter([place] * len(times), list(times.values()), s=22, color=BLUE, zorder=2)
            for value, colour in ((mean(times.values()), INK), (mean(costs.values()), ORANGE)):
                ax.plot([place - 0.18, place + 0.18], [value, value], color=colour, lw=2, zorder=3)
        limit = mean(found[MULTI][1].values()) + SLOWER
        ax.plot([0.6, 1.4], [limit, limit], color=FAINT, lw=1.2, ls=(0, (4, 3)))
        ax.axhline(0, color=FAINT, lw=0.8)
        ax.set_xticks([0, 1], [ARMS[name] for name in found])
        ax.set_xlim(-0.5, 1.5)
        ax.set_ylabel("added to the plain network's, in %")
        marks = [
            Line2D([], [], marker="o", ls="", ms=4, color=BLUE, label="time, one seed"),
            Line2D([], [], lw=2, color=INK, label="time, mean"),
            Line2D([], [], lw=2, color=ORANGE, label="multiply-adds"),
            Line2D([], [], lw=1.2, ls=(0, (4, 3)), color=FAINT, label=f"these and the paper's {SLOWER:g} %"),
        ]
        legend(figure, marks)
        save(figure, folder / "figures" / "costs.png")
    caption = (
        "A training step of networks that took turns in one process, at the width and size that the probe's settings "
        "name, whatever the arms were; sampling has no multiply-adds in this count. Where runs go side by side, which "
        "is the default on a CPU, a step has one thread, and other networks may train on the other cores meanwhile."
    )
    return [Drawn("figures/costs.png", "What a step costs", caption)]


def _table(records: Records, folder: Path, arms: list[str]) -> list[Drawn]:
    """One row for each arm: errors, the paper's, and what a step of the timed network costs."""
    if not arms:
        return []
    rows = []
    for arm in arms:
        timed = records.where(MULTI, probe="timed", network=arm)
        counted = timed.where(metric="multiply_adds").values()
        rounds = records.by_seed(MULTI, "timed", "seconds", network=arm)
        seconds = [median(values) for values in rounds.values()]  # the first rounds are slow
        rows.append([ARMS[arm], _mean(top1_error(arm).by_seed(records).values()), *PUBLISHED[arm],
                     counted[0] if counted else None, _mean(seconds)])  # fmt: skip
    columns = ["arm", "numbers wrong, %", "paper at 64 pixels", "paper at 128 pixels", "multiply-adds, M",
               "s per step"]  # fmt: skip
    caption = (
        "Means over seeds whose value is finite. Multiply-adds of an image and seconds, the median of a seed's rounds, "
        "are of the timed networks."
    )
    return [write_table(folder, "arms", "All arms", caption, columns, rows)]


def _mean(values: Iterable[float]) -> float | None:
    found = [value for value in values if math.isfinite(value)]
    return mean(found) if found else None
