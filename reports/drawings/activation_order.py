"""Tables 2 and 3 and figure 6 of He et al. 2016 (arXiv:1603.05027), redrawn from the records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ablations.harness.store.records import Records
from reports.charts.curves import draw_against
from reports.charts.loss_error import draw_loss_and_error, middle
from reports.charts.style import Drawn, number
from reports.charts.tables import write_table

METRIC = "test/top1_error"
ORIGINAL, FULL = "original", "full_preactivation"
SUFFIXES = ("", "_deeper", "_deepest")  # of the arms at the three depths
SMALL_BATCH = "_deepest_batch64"
TABLE_2 = {  # CIFAR-10 test error in %, 110 and 164 layers
    ORIGINAL: (6.61, 5.93),
    "bn_after_addition": (8.17, 6.50),
    "relu_before_addition": (7.84, 6.14),
    "relu_only_preactivation": (6.71, 5.91),
    FULL: (6.37, 5.46),
}
TABLE_3 = ((110, 6.61, 6.37), (164, 5.93, 5.46), (1001, 7.61, 4.92))  # layers, original, full pre-activation


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Every table and figure that the records allow."""
    if not any(order in records.arms for order in TABLE_2):
        return []
    depths = {suffix: depth(records, suffix) for suffix in SUFFIXES}
    drawn = [orders_table(records, folder, depths), depths_table(records, folder, depths)]
    comparisons = {
        f"{order}, {depths['']} layers": {ORIGINAL: ORIGINAL, order: order} for order in TABLE_2 if order != ORIGINAL
    }
    deepest = {ORIGINAL + SUFFIXES[-1]: ORIGINAL, FULL + SUFFIXES[-1]: FULL}
    comparisons[f"{FULL}, {depths[SUFFIXES[-1]]} layers"] = deepest
    drawn += draw_loss_and_error(
        records, folder, "curves", "Training curves of each order against the original", comparisons,
        "As figure 6 of the paper, which shows test error.",
    )  # fmt: skip
    over_depth = {
        order: {float(depths[s]): errors(records, order + s) for s in SUFFIXES if depths[s] != "?"}
        for order in (ORIGINAL, FULL)
    }
    drawn += draw_against(
        folder, "depth", "Test error over depth", "layers", "test error (%)", over_depth,
        caption="The rows of the paper's table 3 as a figure.",
    )  # fmt: skip
    return drawn


def depth(records: Records, suffix: str) -> str:
    """Layers of the networks with this suffix, "?" if no run of theirs ended well."""
    names = [order + suffix for order in TABLE_2]
    found = {row.value for row in records.where(probe="network", metric="depth") if row.arm in names}
    return number(found.pop()) if found else "?"


def errors(records: Records, arm: str) -> list[float]:
    """Test errors of an arm's runs in %, NaN for one that diverged."""
    return records.where(arm=arm, probe="test", metric=METRIC).values()


def in_words(values: Sequence[float]) -> str:
    """Median and range of the runs that ended well, and how many did not."""
    finite = [value for value in values if math.isfinite(value)]
    lost = len(values) - len(finite)
    return ", ".join([text for text in (middle(finite), f"{lost} diverged" if lost else "") if text])


def orders_table(records: Records, folder: Path, depths: dict[str, str]) -> Drawn:
    """The paper's table 2 with the errors here, and the training loss of the finished networks."""
    # Two depths only where all orders were trained at both.
    shown = [s for s in SUFFIXES[:2] if s == "" or f"relu_only_preactivation{s}" in records.arms]
    columns, rows = ["order"], [[order] for order in TABLE_2]
    for suffix, layers, place in zip(shown, (110, 164), range(2), strict=False):
        columns += [f"paper, {layers} layers: test error, %", f"here, {depths[suffix]} layers: test error, %"]
        columns += [f"here, {depths[suffix]} layers: training loss"]
        for row, (order, published) in zip(rows, TABLE_2.items(), strict=True):
            losses = records.where(arm=order + suffix, probe="trained_on", metric="train/loss").values()
            row += [number(published[place]), in_words(errors(records, order + suffix)), in_words(losses)]
    caption = "Table 2 of the paper (CIFAR-10). Medians over runs, as there, with their range. Training loss: of the "
    caption += "finished networks, on training images without augmentation."
    return write_table(folder, "table2", "Five orders of batch norm and ReLU", caption, columns, rows)


def depths_table(records: Records, folder: Path, depths: dict[str, str]) -> Drawn:
    """The paper's table 3 (CIFAR-10, original and full pre-activation) with the errors here, in the order of depth."""
    rows: list[list[object]] = []
    for suffix, (layers, original, full) in zip(SUFFIXES, TABLE_3, strict=True):
        found = [errors(records, order + suffix) for order in (ORIGINAL, FULL)]
        pairs = [records.by_seed(arm=order + suffix, probe="test", metric=METRIC) for order in (ORIGINAL, FULL)]
        gain = [pairs[0][seed][0] - pairs[1][seed][0] for seed in pairs[0] if seed in pairs[1]]
        gain = [value for value in gain if math.isfinite(value)]
        here = [depths[suffix], *map(in_words, found), number(median(gain)) if gain else None]
        rows.append([layers, original, full, round(original - full, 2), *here])
    caption = (
        "Table 3 of the paper (CIFAR-10, medians of 5 runs, batch size 128), with medians over seeds here; our gain "
    )
    caption += "is the median of the differences within a seed."
    small_batch = errors(records, FULL + SMALL_BATCH)
    if small_batch:
        here = [f"{depths['_deepest']}, batch 64", None, in_words(small_batch), None]
        rows.append(["1001, batch 64", None, 4.62, None, *here])
        caption += " The row of batch 64 is from table 4."
    sides = [f"{where}: {what}" for where in ("paper", "here") for what in ("layers", ORIGINAL, FULL, "gain")]
    return write_table(folder, "table3", "Test error in % over depth", caption, sides, rows)
