"""Figures of `bird_parts`: errors beside the paper's, windows on test images, and the parts that they look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ablations.bird_parts import BODY, CNN, COUNTS, FOUR, HEAD, PUBLISHED, SHARP, TRAINED, TWO, UNTRAINED, shares
from ablations.harness.declare.measure import top1_error
from ablations.harness.store.records import Records
from reports.charts.curves import draw_curves, looks
from reports.charts.named_strips import draw_strips
from reports.charts.style import FAINT, GREEN, INK, ORANGE, PURPLE, SKY, STYLE, WIDTH, Drawn, legend, save, style
from reports.charts.tables import write_table
from reports.drawings.transformer_errors import left_out
from reports.drawings.transformer_pictures import Kept, Line, Mark, Row, corners, sheet

Array = NDArray[Any]
ARMS = {
    CNN: "no transformer",
    TWO: "two transformers",
    FOUR: "four transformers",
    SHARP: "control: every pixel",
}
WINDOWS = (ORANGE, SKY, PURPLE, GREEN)  # of the first transformer, the second, ...
METRICS = {
    f"looks/{HEAD}": "at a head, %",
    f"looks/{BODY}": "at a body, %",
    f"iou/{HEAD}": "IoU with the head",
    f"iou/{BODY}": "IoU with the body",
    "consistency": "same part in a class, %",
    "spread": "spread",
}
"""What was measured of a window -> its column of the table."""
PARTS = ("o", "s")  # marks of head and body


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Writes every figure that the records and the kept files allow; raises OSError if a file cannot be written."""
    arms = [arm for arm in ARMS if arm in records.arms]
    return [
        *draw_errors(records, folder, arms),
        *draw_windows(records, folder),
        *draw_parts(records, folder),
        *table(records, folder),
        *draw_curves(records, folder, "training_loss", "Training loss", {"train/loss": "loss"}, arms, names=ARMS),
    ]


def draw_errors(records: Records, folder: Path, arms: Sequence[str]) -> list[Drawn]:
    """A strip of seeds for each arm, the paper's numbers below the dots."""
    papers = {arm: [100 - accuracy for accuracy in found] for arm, found in PUBLISHED.items()}
    look = looks(arms)
    rows = {ARMS[arm]: (top1_error(arm).by_seed(records), look[arm]["color"], papers.get(arm, [])) for arm in arms}
    caption = "Crosses: the paper's networks on real birds; for two transformers at 224 and at 448 pixels."
    return draw_strips(folder, "errors", "Test error", "test error in %", rows, caption + left_out(records, arms))


def draw_windows(records: Records, folder: Path) -> list[Drawn]:
    """The same test images for each arm, with the windows before and after training; draws nothing without files."""
    rows = []
    for arm, count in COUNTS.items():
        file = Kept(folder, arm, records.seeds(arm)).file("windows.npz", "images", "centres", "visible", TRAINED)
        if file is None:
            continue
        marks = [_marks(*parts) for parts in zip(file["centres"], file["visible"], strict=True)]
        for when in (UNTRAINED, TRAINED):
            if when in file:
                windows = file[when].swapaxes(0, 1)  # of each image
                over: list[list[Line | Mark]] = [[*a, *_outlines(b)] for a, b in zip(marks, windows, strict=True)]
                rows.append(Row(f"{count}\n{when}", file["images"], over))
    if not rows:
        return []
    sheet(rows, folder / "figures" / "windows.png")
    caption = (
        "Test images of one seed with the windows of two and of four transformers: first orange, second light blue, "
        "third purple, fourth green. Marks: the centres of the true parts, a circle for the head, a square for the "
        "body. What lies outside the image is cut off."
    )
    return [Drawn("figures/windows.png", "Where the transformers look", caption)]


def _marks(centres: Array, visible: Array) -> list[Mark]:
    """The visible parts of an image, centres (2, 2) from -1 to 1."""
    parts = zip(centres, visible, PARTS, strict=True)
    return [Mark((centre + 1) / 2, shape) for centre, seen, shape in parts if seen]


def _outlines(windows: Array) -> list[Line]:
    """The windows (T, 4) of an image, each in the colour of its transformer."""
    return [Line(corners(window), WINDOWS[number % len(WINDOWS)]) for number, window in enumerate(windows)]


def draw_parts(records: Records, folder: Path) -> list[Drawn]:
    """A dot for each transformer and seed: in how many images it looks at heads, and at bodies."""
    arms = [arm for arm in COUNTS if len(records.where(arm, probe="window"))]
    if not arms:
        return []
    # What it looked at before training is nearly the same in every seed, and must be seen above the rest.
    shapes: dict[str, Any] = {
        UNTRAINED: {"marker": "o", "mfc": "none", "zorder": 4},
        TRAINED: {"marker": "o", "alpha": 0.6, "mew": 0},
    }
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + WIDTH * 0.6 * len(arms)), layout="constrained")
        for ax, arm in zip(figure.subplots(len(arms), 1, squeeze=False)[:, 0], arms, strict=True):
            ax.plot([0, 100], [100, 0], color=FAINT, lw=0.8, ls=(0, (4, 3)))
            for when, shape in shapes.items():
                for number, found in _all_shares(records, arm, when).items():
                    points = ([one[HEAD] for one in found], [one[BODY] for one in found])
                    ax.plot(*points, ls="", ms=5, color=WINDOWS[(number - 1) % len(WINDOWS)], **shape)
            ax.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", ylabel="at a body (%)", title=ARMS[arm])
        ax.set_xlabel("at a head (%)", size=STYLE["axes.labelsize"])
        used = WINDOWS[: max(COUNTS[arm] for arm in arms)]
        keys = [Line2D([], [], ls="", marker="o", color=c, label=f"transformer {i}") for i, c in enumerate(used, 1)]
        keys += [Line2D([], [], ls="", color=INK, label=when, **shape) for when, shape in shapes.items()]
        legend(figure, keys)
        save(figure, folder / "figures" / "parts.png")
    caption = (
        "Share of the test images in which a transformer looks at a head and at a body, a dot for each seed. One that "
        "finds a part of its own stands in the lower right or the upper left corner; on the middle of the dashed line "
        "it always looks at a part, whichever is there; before training (hollow) it looks at its tile of the image."
    )
    return [Drawn("figures/parts.png", "At which part each transformer looks", caption + _without_windows(records))]


def _without_windows(records: Records) -> str:
    return left_out(records, [arm for arm in COUNTS if arm in records.arms], "window", f"looks/{HEAD}")


def _all_shares(records: Records, arm: str, when: str) -> dict[int, list[Mapping[str, float]]]:
    """Transformer -> its shares in every seed."""
    found: dict[int, list[Mapping[str, float]]] = {}
    for seed in records.seeds(arm):
        for number, share in shares(records, arm, when, seed).items():
            found.setdefault(number, []).append(share)
    return found


def table(records: Records, folder: Path) -> list[Drawn]:
    """Means over the seeds of everything that was measured of each transformer; nothing without a measurement."""
    rows: list[list[object]] = []
    for arm, count in COUNTS.items():
        for number in range(1, count + 1):
            for when in (UNTRAINED, TRAINED):
                found = records.where(arm, probe="window", when=when, transformer=number)
                means = [
                    mean(values) if (values := found.where(metric=metric).values()) else None for metric in METRICS
                ]
                if len(found):
                    rows.append([ARMS[arm], number, when, *means])
    if not rows:
        return []
    columns = ["arm", "transformer", "when", *METRICS.values()]
    caption = (
        "Means over seeds. Same part in a class: images in which a transformer looks at the part at which it looks "
        "most often in their class. Spread: deviation of the window's centre over the images, in half image widths. "
        "IoU: intersection over union of the window and the true part's box, where boxes are known; a window is wider "
        "than a part, so that it ends at 0.64."
    )
    return [write_table(folder, "windows", "Windows in numbers", caption + _without_windows(records), columns, rows)]
