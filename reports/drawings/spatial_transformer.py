"""Pictures of `spatial_transformer` that no chart declares: table 1, gaps in it, poses, and digits found in pairs.

After Jaderberg et al. 2015, arXiv:1506.02025: R, RTS, P and E are in its table 1; TC is of its appendix A.4. What an
arm that did not run would show is left out, and the caption names the arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ablations.harness.declare.measure import Quantity, top1_error
from ablations.harness.judging.statistics import t_interval
from ablations.harness.store.records import Records
from reports.charts.pictures import Kept, Line, Row, corners, sheet
from reports.charts.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, RED, Drawn, legend, panels, save
from reports.charts.values import by_seed, finite, left_out

Words = Mapping[str, str]
COLOURS_OF = {"fcn": ORANGE, "cnn": PURPLE, "st_fcn": GREEN, "st_cnn": BLUE}
MARKS = ("o", "s", "^")  # of the transforms, in their order
UNITS = {"angle": "angle (degrees)", "scale": "scale", "shift": "shift (half image widths)"}
REMOVED = {"angle": (BLUE, "angle"), "scale": (ORANGE, "scale"), "shift": (GREEN, "place")}
LOWEST = -100.0  # % of variation removed, below which the axis ends
ROOM = 60  # points in a scatter above which they become fainter


def draw(
    records: Records, folder: Path, paper: Mapping[str, float], names: Words, kinds: Words, transforms: Words,
    posed: Mapping[str, Sequence[str]], placed: Words, remaining: Words, pairs: Words
) -> list[Drawn]:  # fmt: skip
    """Every picture that the records and the files below `folder`/files allow.

    paper: arm of the table, "<kind>_<network>", -> published error in %. names: network -> as the paper prints it.
    kinds, transforms: in words. posed: figure of poses -> its arm and the arm's label. placed, remaining, pairs: arm ->
    its label. Arms of a transform that no arm of the table has were not planned, and are not missed.
    """
    ran = {arm.rpartition("_")[2] for arm in records.arms if arm in paper}
    absent = {arm for arm in paper if "_st_" in arm and arm.rpartition("_")[2] not in ran}
    paper = {arm: error for arm, error in paper.items() if arm not in absent}
    placed = {arm: label for arm, label in placed.items() if arm not in absent}
    return [
        *draw_table(records, folder, paper, names, kinds),
        *draw_gaps(
            records, folder, paper, kinds, transforms, "gaps", "What a spatial transformer gains",
            {"FCN minus ST-FCN": ("fcn", "st_fcn"), "CNN minus ST-CNN": ("cnn", "st_cnn")},
            "Above 0 the network with a transformer errs less.",
        ),
        *draw_gaps(
            records, folder, paper, kinds, transforms, "shares", "What share of the errors it takes away",
            {"of the FCN's errors": ("fcn", "st_fcn"), "of the CNN's errors": ("cnn", "st_cnn")},
            "In % of the errors of the network without a transformer.", shares=True,
        ),
        *draw_gaps(
            records, folder, paper, kinds, transforms, "against_cnn", "A transformer in place of convolutions",
            {"ST-FCN minus CNN": ("st_fcn", "cnn")}, "At or below 0 the fully connected network is as good as the CNN.",
        ),
        *(drawn for name, (arm, label) in posed.items() for drawn in draw_poses(records, folder, arm, name, label)),
        *draw_removed(records, folder, placed),
        *draw_remaining(records, folder, remaining),
        *draw_pairs_found(records, folder, pairs),
    ]  # fmt: skip


def draw_table(records: Records, folder: Path, paper: Mapping[str, float], names: Words, kinds: Words) -> list[Drawn]:
    """Table 1, and TC beside it: mean and half-width of the 95 % interval in each cell, the paper's number in grey."""
    found = {arm: values for arm in paper if (values := by_seed(top1_error, records, arm))}
    if not found:
        return []
    networks = [network for network in names if any(arm.partition("_")[2] == network for arm in found)]
    kinds = {kind: words for kind, words in kinds.items() if any(arm.partition("_")[0] == kind for arm in found)}
    figure, (ax,) = panels(1, 0.42 * len(networks) - 0.4)
    ax.axis("off")
    ax.set(xlim=(0, 1.45 + len(kinds)), ylim=(len(networks) - 0.5, -0.95))
    for column, kind in enumerate(kinds):
        ax.text(1.78 + column, -0.65, kind.upper(), weight="bold", ha="center", va="center")
    for row, network in enumerate(networks):
        family = network.rpartition("_")[0] if "st_" in network else network
        ax.plot([0.0, 0.0], [row - 0.4, row + 0.4], color=COLOURS_OF[family], lw=4, solid_capstyle="butt")
        ax.text(0.08, row, names[network], va="center", size=9)
        ax.axhline(row - 0.5, color="#E4E4E4", lw=0.8)
        for column, kind in enumerate(kinds):
            _cell(ax, 1.78 + column, row, found.get(f"{kind}_{network}", {}), paper.get(f"{kind}_{network}"))
    caption = (
        "Test error in %: the mean over seeds, below it the half-width of its 95 % interval; in grey the paper's, of "
        "its table 1 (means of three seeds), for TC of its appendix A.4. "
        f"{', '.join(f'{kind.upper()}: {words}' for kind, words in kinds.items())}."
    )
    return [save(figure, folder, "table1", "Distorted digits", caption + left_out(top1_error, records, list(paper)))]


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
    records: Records, folder: Path, paper: Mapping[str, float], kinds: Words, transforms: Words, name: str, title: str,
    comparisons: Mapping[str, tuple[str, str]], caption: str, shares: bool = False
) -> list[Drawn]:  # fmt: skip
    """Differences of test errors, paired by seed, to `folder`/figures/`name`.png, a panel for each comparison.

    comparisons: title -> the families of the first network and of the one subtracted. shares: in % of the first one's
    error. Draws nothing without a pair.
    """

    def arm(kind: str, family: str, transform: str) -> str:
        return f"{kind}_{family}_{transform}" if family.startswith("st_") else f"{kind}_{family}"

    gaps: dict[str, dict[tuple[str, str], tuple[list[float], float]]] = {}  # of the seeds, and the paper's
    asked: dict[str, None] = {}
    for (panel, (first, second)), kind, transform in product(comparisons.items(), kinds, transforms):
        one, other = arm(kind, first, transform), arm(kind, second, transform)
        if {one, other} <= paper.keys():
            asked |= dict.fromkeys((one, other))
            gap, published = top1_error(one) - top1_error(other), paper[one] - paper[other]
            if shares:
                gap, published = 100 * (gap / top1_error(one)), 100 * published / paper[one]
            if found := finite(gap.by_seed(records).values()):
                gaps.setdefault(panel, {})[kind, transform] = found, published
    if not gaps:
        return []
    keys = {key for each in gaps.values() for key in each}
    used = [kind for kind in kinds if any(kind == key[0] for key in keys)]
    marks = dict(zip(transforms, MARKS, strict=True))
    figure, axes = panels(len(gaps), 2.3, "%" if shares else "% points", sharex=True)
    for ax, panel in zip(axes, gaps, strict=True):
        colour = COLOURS_OF[next(family for family in comparisons[panel] if family.startswith("st_"))]
        for (kind, transform), (found, published) in gaps[panel].items():
            x = used.index(kind) + 0.26 * (list(transforms).index(transform) - 1)
            ax.scatter([x] * len(found), found, s=20, marker=marks[transform], color=colour, alpha=0.6, linewidths=0)
            ax.plot([x - 0.09, x + 0.09], [fmean(found)] * 2, color=INK, lw=2, zorder=3)
            ax.plot(x, published, "x", color=FAINT, ms=6, mew=1.4, zorder=4)
        ax.axhline(0, color=INK, lw=0.8)
        ax.set_title(panel)
    axes[-1].set_xticks(range(len(used)), [kind.upper() for kind in used])
    axes[-1].set_xlim(-0.5, len(used) - 0.5)
    drawn = [each for each in transforms if any(each == key[1] for key in keys)]
    shown = [Line2D([], [], ls="", marker=marks[each], color=INK, label=transforms[each]) for each in drawn]
    legend(figure, [*shown, Line2D([], [], ls="", marker="x", color=FAINT, label="the paper")])
    said = f"Differences of test errors. {caption} Marks are seeds, bars their means."
    return [save(figure, folder, name, title, said + left_out(top1_error, records, list(asked)))]


def draw_poses(records: Records, folder: Path, arm: str, name: str, network: str) -> list[Drawn]:
    """Found against true angle, scale and shift of the test images of one arm's first seed, a panel each."""
    file = _poses(records, folder, arm, *(f"{which}_{what}" for which in ("true", "found") for what in UNITS))
    if file is None:
        return []
    poses = {what: (file[f"true_{what}"], file[f"found_{what}"]) for what in UNITS}
    shown = [what for what, (true, _) in poses.items() if np.ptp(true) > 0]
    if not shown:
        return []
    figure, axes = panels(len(shown), 2.4)
    for ax, what in zip(axes, shown, strict=True):
        true, found = poses[what]
        faint = 0.35 if len(true) > ROOM else 0.8
        for column, colour in enumerate((BLUE, ORANGE)[: true[0].size]):
            x, y = (each.reshape(len(true), -1)[:, column] for each in (true, found))
            label = ("along x", "along y")[column] if what == "shift" else None
            ax.scatter(x, y, s=9, color=colour, alpha=faint, linewidths=0, label=label)
        # A window of twice the size shows the digit half as large, which a network may well prefer.
        slope = float((true * found).sum() / (true * true).sum()) if what == "scale" else 1.0
        ends = np.array([true.min(), true.max()])
        ax.plot(ends, slope * ends, color=INK, lw=1, ls=(0, (4, 3)))
        ax.set(xlabel=f"true {UNITS[what]}", ylabel=f"found {what}")
        correlation = by_seed(Quantity(f"{what}/correlation", probe="pose"), records, arm)
        if correlation:
            seeds = "one seed" if len(correlation) == 1 else f"{len(correlation)} seeds"
            ax.set_title(f"correlation {fmean(correlation.values()):.2f}, mean of {seeds}")
        if what == "shift":
            ax.legend(loc="upper left", markerscale=2)
    scaled = " Of the scale only the proportion counts, because the size of what leaves is free."
    caption = (
        f"{network} on test digits; a dot is an image, of one seed. The dashed line would undo the distortion."
        f"{scaled if 'scale' in shown else ''}"
    )
    return [save(figure, folder, name, "True and found poses", caption)]


def draw_remaining(records: Records, folder: Path, arms: Words) -> list[Drawn]:
    """Histograms of the angle that a test digit has left when it leaves the transformer (arm -> its panel's title).

    Digits that came more than a right angle from upright have a colour of their own.
    """
    files = {arm: _poses(records, folder, arm, "true_angle", "left") for arm in arms}
    found = {arm: file for arm, file in files.items() if file is not None and np.ptp(file["true_angle"]) > 0}
    if not found:
        return []
    bins = list(range(-180, 181, 15))
    figure, axes = panels(len(found), 1.8, "test images (%)", sharex=True)
    for ax, (arm, file) in zip(axes, found.items(), strict=True):
        left, turned = file["left"], np.abs(file["true_angle"]) > 90
        weights = np.full(len(left), 100 / len(left))
        ax.hist([left[~turned], left[turned]], bins, weights=[weights[~turned], weights[turned]], stacked=True,
                color=[BLUE, RED], label=["came upright, within 90 degrees", "came upside down"])  # fmt: skip
        ax.axvline(0, color=FAINT, lw=1, ls=(0, (4, 3)))
        ax.set_title(f"{arms[arm]}{_numbers(records, arm)}")
    axes[-1].set(xlabel="angle of the digit as it leaves (degrees)", xticks=range(-180, 181, 90), xlim=(-180, 180))
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper left", ncols=1)
    caption = (
        "The angle at which test digits leave the transformer, the true one minus the one found, of one seed; numbers "
        "are means over seeds. Where angles are undone all digits of a class leave at one "
        "angle, whichever it is; 0 is how they stand in the data set."
    )
    said = left_out(top1_error, records, list(arms))
    return [save(figure, folder, "remaining", "The pose in which digits leave the transformer", caption + said)]


def _poses(records: Records, folder: Path, arm: str, *needed: str) -> Mapping[str, Any] | None:
    return Kept(folder, arm, records.seeds(arm)).file("poses.npz", *needed)


def _numbers(records: Records, arm: str) -> str:
    """What the records tell beside a histogram, on lines of their own."""
    lines = ""
    removed = by_seed(Quantity("angle/removed", "%", probe="pose"), records, arm)
    if removed:
        lines += f"\n{round(fmean(removed.values()))} % of the variation removed within a class"
    upside_down = Quantity("kept_upside_down", "%", probe="class")
    for label in sorted({row.fields["label"] for row in records.where(arm, probe="class", metric=upside_down.metric)}):
        kept = list(upside_down(arm, label=label).by_seed(records).values())
        lines += f"\n{round(fmean(kept))} % of class {label} leave upside down"
    return lines


def draw_removed(records: Records, folder: Path, arms: Words) -> list[Drawn]:
    """How much of the variation of angle, scale and place each arm takes away, every seed (arm -> its row's name)."""
    quantities = {what: Quantity(f"{what}/removed", "%", probe="pose") for what in REMOVED}
    found = {
        arm: each
        for arm in arms
        if any((each := {what: by_seed(quantity, records, arm) for what, quantity in quantities.items()}).values())
    }
    if not found:
        return []
    low = min(value for parts in found.values() for each in parts.values() for value in each.values())
    figure, (ax,) = panels(1, 0.6 * len(found))
    for row, parts in enumerate(found.values()):
        for place, (what, (colour, _)) in enumerate(REMOVED.items()):
            if parts[what]:
                _dots(ax, row + 0.27 * (place - 1), list(parts[what].values()), colour)
    ax.axvline(0, color=INK, lw=0.8)
    ax.set_yticks(range(len(found)), [arms[arm] for arm in found])
    ax.set_ylim(len(found) - 0.45, -0.55)
    ax.set_xlim(max(LOWEST, min(0.0, low)) - 3, 103)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x")
    ax.set_xlabel("variation within a class removed (%)")
    legend(figure, [Line2D([], [], ls="", marker="o", ms=5, color=c, label=name) for c, name in REMOVED.values()])
    beyond = f" An arrow stands for seeds below {LOWEST:.0f} %; a mean below it has no bar." if low < LOWEST else ""
    caption = (
        "How much of what was done to test digits, turned, scaled and moved (R: turned), is gone behind it: 100 where "
        "all digits of a class leave alike, 0 where they leave as they came, less where they leave more different. "
        f"Dots are seeds, bars their means.{beyond}"
    )
    said = left_out(quantities["angle"], records, list(arms))
    return [save(figure, folder, "removed", "What the transformer takes away", caption + said)]


def _dots(ax: Axes, y: float, found: Sequence[float], colour: str) -> None:
    """Seeds and their mean; an arrow at the axis' end for what lies below it."""
    inside, mean = [value for value in found if value >= LOWEST], fmean(found)
    ax.scatter(inside, [y] * len(inside), s=18, color=colour, alpha=0.7, linewidths=0, zorder=3)
    if len(inside) < len(found):
        ax.plot(LOWEST, y, "<", color=colour, ms=5, zorder=3)
    if mean >= LOWEST:
        ax.plot([mean, mean], [y - 0.12, y + 0.12], color=INK, lw=2, zorder=4)


def draw_pairs_found(records: Records, folder: Path, arms: Words) -> list[Drawn]:
    """Pairs of images, two rows for each arm, with the true and the found box of every image."""
    rows = []
    for arm, label in arms.items():
        file = Kept(folder, arm, records.seeds(arm)).file("pairs.npz", "images", "true_boxes", "found_boxes")
        if file is None:
            continue
        for member, said in enumerate((label.replace(" ", "\n"), "their\npartners")):
            lines = [
                [Line(corners(true[member]), GREEN, "--"), Line(corners(found[member]), ORANGE)]
                for true, found in zip(file["true_boxes"], file["found_boxes"], strict=True)
            ]
            rows.append(Row(said, file["images"][:, member], lines))
    if not rows:
        return []
    caption = (
        "Each image and below it its partner, which shows the same digit, or any where the name says so. Dashed green: "
        "the box of the digit; orange: the box around the window of the trained transformer, whose size was given and "
        "whose place was found; where no orange is seen, the window lies outside the image. Test images of one seed."
    )
    return [save(sheet(rows), folder, "pairs_found", "Where the digits are found", caption)]
