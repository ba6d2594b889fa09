"""Table 1 and figure 3 of He et al. 2016 (arXiv:1603.05027) and the sweep of gate biases, from the records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ablations.harness.store.records import Records
from reports.charts.curves import draw_against
from reports.charts.loss_error import draw_loss_and_error, middle
from reports.charts.style import BLUE, FAINT, INK, RED, WIDTH, Drawn, legend, number, save, style
from reports.charts.tables import write_table

ERROR, LOSS = "test/top1_error", "train/loss"
IDENTITY = "identity"
FAILS = 20.0  # % of test error above which the paper writes "fail"


class Row(NamedTuple):
    """A row of the paper's table 1: what stands on the shortcut and on F, and the test error as printed."""

    family: str
    on_shortcut: str
    on_branch: str
    published: str


def _table_1() -> dict[str, Row]:
    rows = {
        IDENTITY: Row("original", "1", "1", "6.61"),
        "plain": Row("constant scaling", "0", "1", "fail"),
        "scaled_shortcut": Row("constant scaling", "0.5", "1", "fail"),
        "scaled_both": Row("constant scaling", "0.5", "0.5", "12.35"),
    }
    for bias in range(0, -8, -1):
        error = {-6: "8.70", -7: "9.81"}.get(bias, "fail")
        rows[f"exclusive_gate_{bias}"] = Row("exclusive gating", f"1 - g, bias {bias}", "g", error)
    for bias, error in ((0, "12.86"), (-6, "6.91")):
        rows[f"shortcut_gate_{bias}"] = Row("shortcut-only gating", f"1 - g, bias {bias}", "1", error)
    rows["convolution"] = Row("1x1 conv shortcut", "1x1 conv", "1", "12.22")
    rows["dropout"] = Row("dropout shortcut", "dropout 0.5", "1", "fail")
    return rows


TABLE_1 = _table_1()


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Every table and figure that the records allow."""
    arms = [arm for arm in TABLE_1 if arm in records.arms]
    if not arms:
        return []
    drawn = [table(records, folder, arms)]
    families = dict.fromkeys(TABLE_1[arm].family for arm in arms if arm != IDENTITY)
    panels = {
        family + (": shortcut / F" if family == "constant scaling" else ""): {IDENTITY: "original"}
        | {arm: short(arm) for arm in arms if TABLE_1[arm].family == family}
        for family in families
    }
    drawn += draw_loss_and_error(
        records, folder, "curves", "Training curves of each form against the original", panels,
        "As figure 3 of the paper, which shows test error.",
    )  # fmt: skip
    drawn += draw_forms(records, folder, arms)
    drawn += draw_sweep(records, folder)
    return drawn


def short(arm: str) -> str:
    """A form within its family: the bias of its gate, its two factors, or what stands on the shortcut."""
    row = TABLE_1[arm]
    if row.family == "constant scaling":
        return f"{row.on_shortcut} / {row.on_branch}"
    return row.on_shortcut.removeprefix("1 - g, ")


def values(records: Records, arm: str, probe: str, metric: str) -> list[float]:
    """One value per run of an arm; NaN for the test error of one that diverged."""
    return records.where(arm=arm, probe=probe, metric=metric).values()


def verdict(errors: Sequence[float]) -> str:
    """Median and range of test errors in %, after "fail" if the median is above the paper's limit.

    A diverged run (NaN) counts as worse than every other, and the text says how many there are.
    """
    if not errors:
        return ""
    finite = [error for error in errors if math.isfinite(error)]
    lost = len(errors) - len(finite)
    failed = median([*finite, *[100.0] * lost]) > FAILS
    words = [middle(finite), f"{lost} diverged" if lost else ""]
    return ("fail: " if failed else "") + ", ".join(word for word in words if word)


def table(records: Records, folder: Path, arms: Sequence[str]) -> Drawn:
    """The paper's table 1 with the errors here, and how well the finished networks fit their training images."""
    depths = records.where(probe="network", metric="depth").values()
    here = f"here, {number(depths[0])} layers" if depths else "here"
    columns = ["shortcut", "on shortcut", "on F", "paper, 110 layers: test error, %", f"{here}: test error, %"]
    columns += [f"{here}: training loss", f"{here}: training error, %"]
    rows = [
        [
            *TABLE_1[arm],
            verdict(values(records, arm, "test", ERROR)),
            middle(values(records, arm, "trained_on", LOSS)),
            middle(values(records, arm, "trained_on", "train/top1_error")),
        ]
        for arm in arms
    ]
    caption = (
        "Table 1 of the paper (CIFAR-10), g = sigmoid(1x1 convolution). Medians over runs, as there, with their range. "
        "Fail: a median test error above 20 %, the paper's rule, unchanged on other data. Training loss and error: of "
        "the finished networks, on training images without augmentation; a run that diverged has none."
    )
    return write_table(folder, "table1", "Forms of the shortcut", caption, columns, rows)


def draw_forms(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """A row for each form, a dot for each seed: test error above, training loss below, both on logarithmic axes."""
    panels = (("test", ERROR, "test error (%)"), ("trained_on", LOSS, "training loss"))
    missing = sum(not math.isfinite(error) for arm in arms for error in values(records, arm, "test", ERROR))
    with style():
        figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(arms)), layout="constrained")
        for ax, (probe, metric, label) in zip(figure.subplots(2, 1), panels, strict=True):
            for place, arm in enumerate(arms):
                found = [value for value in values(records, arm, probe, metric) if math.isfinite(value) and value > 0]
                ax.scatter(found, [place] * len(found), s=14, alpha=0.6, color=BLUE, linewidths=0)
                if found:
                    ax.plot(median(found), place, "|", ms=10, mew=2, color=INK)
                if found and arm == IDENTITY:
                    ax.axvline(median(found), color=FAINT, lw=1, ls=(0, (4, 3)))
            if probe == "test":
                ax.axvline(FAILS, color=RED, lw=1)
            _rows(ax, [name(arm) for arm in arms])
            ax.set_xlabel(label)
        keys = [
            Line2D([], [], color=INK, marker="|", ms=10, mew=2, ls="", label="median"),
            Line2D([], [], color=FAINT, lw=1, ls=(0, (4, 3)), label="original"),
            Line2D([], [], color=BLUE, marker="o", ms=4, ls="", label="one seed"),
            Line2D([], [], color=RED, lw=1, label="fail (above 20 %)"),
        ]
        legend(figure, keys)
        save(figure, folder / "figures" / "forms.png")
    caption = "Test error, and training loss without augmentation and dropout, of the finished networks."
    if missing:
        caption += f" {missing} runs that diverged are left out."
    return [Drawn("figures/forms.png", "Is it the training that fails?", caption)]


def name(arm: str) -> str:
    """A form in a few characters, for the axis of a narrow figure."""
    row = TABLE_1[arm]
    words = {"constant scaling": f"scaled {short(arm)}", "original": "original", "1x1 conv shortcut": "1x1 conv"}
    words |= {"dropout shortcut": "dropout 0.5"}
    return words.get(row.family, f"{row.family.removesuffix(' gating')} gate, {row.on_shortcut.rpartition(' ')[2]}")


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """A logarithmic horizontal axis with plain numbers, and a named row for each place from the top."""
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = ax.get_xlim()
    ax.xaxis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        if high / low < 100
        else NullFormatter()
    )


def draw_sweep(records: Records, folder: Path) -> list[Drawn]:
    """Test error against the bias of the gates at the start, with the original's median for reference."""
    series: dict[str, dict[float, list[float]]] = {}
    for arm, row in TABLE_1.items():
        found = values(records, arm, "test", ERROR)
        if "bias" in row.on_shortcut and found:
            series.setdefault(row.family, {})[float(row.on_shortcut.rpartition(" ")[2])] = found
    original = [error for error in values(records, IDENTITY, "test", ERROR) if math.isfinite(error)]
    references = {"original": median(original)} if original else {}
    return draw_against(
        folder, "gate_bias", "The bias of the gates", "bias of the gate at the start", "test error (%)", series,
        references, "Column by column the gated rows of table 1.",
    )  # fmt: skip
