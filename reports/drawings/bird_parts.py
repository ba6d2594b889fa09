"""Pictures of `bird_parts`: windows on test images, and the parts that they look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D

from ablations.harness.declare.measure import Quantity
from ablations.harness.store.records import Records
from reports.charts.pictures import Kept, Line, Mark, Row, corners, sheet
from reports.charts.style import FAINT, GREEN, INK, ORANGE, PURPLE, SKY, WIDTH, Drawn, legend, panels, save
from reports.charts.values import left_out

WINDOWS = (ORANGE, SKY, PURPLE, GREEN)  # of the first transformer, the second, ...
MARKS = ("o", "s")  # of head and body
HEAD, BODY = (Quantity(f"looks/{kind}", "%", probe="window") for kind in ("head", "body"))
# What it looked at before training is nearly the same in every seed, and must be seen above the rest.
WHEN: dict[str, dict[str, Any]] = {
    "untrained": {"marker": "o", "mfc": "none", "zorder": 4},
    "trained": {"marker": "o", "alpha": 0.6, "mew": 0},
}


def draw(records: Records, folder: Path, arms: Mapping[str, str]) -> list[Drawn]:
    """What the records and the kept files allow; arms: those with transformers -> what to call them."""
    return [*draw_windows(records, folder, arms), *draw_parts(records, folder, arms)]


def draw_windows(records: Records, folder: Path, arms: Mapping[str, str]) -> list[Drawn]:
    """The same test images for each arm, with the windows before and after training; draws nothing without files."""
    rows = []
    for arm in arms:
        file = Kept(folder, arm, records.seeds(arm)).file("windows.npz", "images", "centres", "visible", *WHEN)
        if file is None:
            continue
        for when in WHEN:
            over: list[list[Line | Mark]] = [
                [Mark((centre + 1) / 2, shape) for centre, seen, shape in zip(*parts, MARKS, strict=True) if seen]
                for parts in zip(file["centres"], file["visible"], strict=True)
            ]
            for number, windows in enumerate(file[when]):
                for image, window in zip(over, windows, strict=True):
                    image.append(Line(corners(window), WINDOWS[number % len(WINDOWS)]))
            rows.append(Row(f"{len(file[when])}\n{when}", file["images"], over))
    if not rows:
        return []
    caption = (
        "Test images of one seed with the windows of two and of four transformers: first orange, second light blue, "
        "third purple, fourth green. Marks: the centres of the true parts, a circle for the head, a square for the "
        "body. What lies outside the image is cut off."
    )
    return [save(sheet(rows), folder, "windows", "Where the transformers look", caption)]


def draw_parts(records: Records, folder: Path, arms: Mapping[str, str]) -> list[Drawn]:
    """A dot for each transformer and seed: in how many images it looks at heads, and at bodies."""
    numbers = {arm: list(found) for arm in arms if (found := records.where(arm, probe="window").over("transformer"))}
    if not numbers:
        return []
    figure, axes = panels(len(numbers), WIDTH * 0.6)
    for ax, (arm, of) in zip(axes, numbers.items(), strict=True):
        ax.plot([0, 100], [100, 0], color=FAINT, lw=0.8, ls=(0, (4, 3)))
        for when, shape in WHEN.items():
            for number in of:
                head, body = (each(arm, when=when, transformer=number).by_seed(records) for each in (HEAD, BODY))
                colour = WINDOWS[(number - 1) % len(WINDOWS)]
                ax.plot(list(head.values()), list(body.values()), ls="", ms=5, color=colour, **shape)
        ax.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", ylabel="at a body (%)", title=arms[arm])
    axes[-1].set_xlabel("at a head (%)")
    used = WINDOWS[: max(map(len, numbers.values()))]
    keys = [Line2D([], [], ls="", marker="o", color=c, label=f"transformer {i}") for i, c in enumerate(used, 1)]
    keys += [Line2D([], [], ls="", color=INK, label=when, **shape) for when, shape in WHEN.items()]
    legend(figure, keys)
    caption = (
        "Share of the test images in which a transformer looks at a head and at a body, a dot for each seed. One that "
        "finds a part of its own stands in the lower right or the upper left corner; on the middle of the dashed line "
        "it always looks at a part, whichever is there; before training (hollow) it looks at its tile of the image."
    )
    said = left_out(HEAD, records, [arm for arm in arms if arm in records.arms])
    return [save(figure, folder, "parts", "At which part each transformer looks", caption + said)]
