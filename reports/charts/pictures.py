"""Pictures from what probes kept: images in rows with what lies over them, and what spatial transformers give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reports.charts.style import INK, ORANGE, SKY, WIDTH, Drawn, save

Array = NDArray[Any]
COLUMNS = 6  # images side by side, as many as are told apart on a phone
MARGIN = 0.12  # of a cell, on each side of an image, because windows reach beyond it
LABEL = 1.1  # width of the labels in front, in cells
WINDOWS = ((ORANGE, "-"), (SKY, "--"))  # of the first and the second transformer, which may coincide


def read_arrays(path: Path, *names: str) -> dict[str, Array]:
    """Arrays of an .npz file; raises ValueError if one of `names` is missing or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for name in names:
        if name not in found:
            raise ValueError(f"{path} holds no {name!r}, only {', '.join(found)}")
    return found


class Kept(NamedTuple):
    """What probes kept of an arm below `folder`/files, and what to call it in a picture."""

    folder: Path
    arm: str
    seeds: Sequence[int]
    label: str = ""

    def file(self, name: str, *needed: str) -> Mapping[str, Array] | None:
        """The arrays of files/<arm>-s<seed>/`name` of the first seed that has it; None if none has.

        Raises ValueError as `read_arrays`.
        """
        paths = (self.folder / "files" / f"{self.arm}-s{seed}" / name for seed in self.seeds)
        return next((read_arrays(path, *needed) for path in paths if path.exists()), None)


class Line(NamedTuple):
    """A closed line over an image: points (n, 2) as fractions of its width, x first; dot: whether to mark the first."""

    points: Array
    colour: str
    style: str = "-"
    dot: bool = False


class Mark(NamedTuple):
    """A point (2,) over an image, as fractions of its width, x first, in white with a dark edge."""

    point: Array
    shape: str


class Row(NamedTuple):
    """Images (n, S, S) or (n, S, S, C) of uint8 side by side, a label in front, and what lies over each image."""

    label: str
    images: Array
    over: Sequence[Sequence[Line | Mark]] = ()


def draw_looks(
    folder: Path, name: str, title: str, shown: Sequence[Kept], said: str = "", heading: str = ""
) -> list[Drawn]:
    """What transformers take from the same images and give, to `folder`/figures/`name`.png.

    A row for each channel of what is taken, with the windows of all transformers, then one for what each of them gives.
    said: goes to the end of the caption, before what has no file. heading: in front of an image's label, above it.
    Draws nothing without a file.
    """
    rows, missing, heads = [], [], []
    for kept in shown:
        file = kept.file("looks.npz", "images", "outputs", "outlines", "labels")
        if file is None:
            missing.append(kept.arm)
            continue
        images, outputs, outlines = file["images"], file["outputs"], file["outlines"]
        if outlines.ndim == 3:  # of a single transformer
            outputs, outlines = outputs[None], outlines[None]
        if images.ndim == 3:  # of a single channel
            images, outputs = images[:, None], outputs[:, :, None]
        points = (outlines + 0.5) / images.shape[-1]  # from pixels, 0 being the centre of the first
        over = [  # the windows of one image, the same in all its channels
            [Line(each, *WINDOWS[number % 2], dot=True) for number, each in enumerate(windows)]
            for windows in points.swapaxes(0, 1)
        ]
        rows += [Row("and" if c else kept.label, images[:, c], over) for c in range(images.shape[1])]
        for number, each in enumerate(outputs):
            gives = "gives" if len(outputs) == 1 else f"{('orange', 'blue')[number % 2]}\ngives"
            rows += [Row("and" if c else gives, each[:, c]) for c in range(images.shape[1])]
        heads = [f"{heading} {label}" for label in file["labels"]] if heading else []
    if not rows:
        return []
    caption = (
        "Test images of one seed, the same in all rows: above with the window from which a transformer samples (the "
        "dot is its upper left corner), below what it gives to the network."
    )
    left_out = f"Left out, without a file: {', '.join(missing)}." if missing else ""
    return [save(sheet(rows, heads), folder, name, title, " ".join(filter(None, (caption, said, left_out))))]


def corners(box: Array) -> Array:
    """The corners of a box (left, top, right, bottom), -1 to 1, as fractions of the image's width."""
    left, top, right, bottom = (box + 1) / 2
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def sheet(rows: Sequence[Row], heads: Sequence[str] = ()) -> Figure:
    """Rows of images as one picture, with a head above each column where given."""
    top = 0.25 if heads else 0.0
    width, height = LABEL + COLUMNS, top + len(rows)
    figure = Figure(figsize=(WIDTH, WIDTH * height / width))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(len(rows), -top))
    ax.axis("off")
    for column, head in enumerate(heads[:COLUMNS]):
        ax.text(LABEL + column + 0.5, 0.02, head, ha="center", va="bottom")
    for y, row in enumerate(rows):
        ax.text(LABEL / 2, y + 0.5, row.label, ha="center", va="center", size=9, linespacing=1.1)
        for x, image in enumerate(row.images[:COLUMNS]):
            _picture(ax, LABEL + x, y, image, row.over[x] if row.over else ())
    ax.set(xlim=(0, width), ylim=(len(rows), -top), aspect="auto")  # which `imshow` has changed
    return figure


def _picture(ax: Axes, x: float, y: float, image: Array, over: Sequence[Line | Mark]) -> None:
    side = 1 - 2 * MARGIN
    left, top = x + MARGIN, y + MARGIN
    ax.imshow(image, "gray", extent=(left, left + side, top + side, top), vmin=0, vmax=255, interpolation="nearest")
    for item in over:
        if isinstance(item, Mark):
            ax.plot(*(item.point * side + (left, top)), item.shape, ms=4, color="white", mec=INK, mew=0.8)
            continue
        xs, ys = (np.append(item.points, item.points[:1], axis=0) * side + (left, top)).T
        cell = Rectangle((x, y), 1, 1, transform=ax.transData)
        marks = ax.plot(xs, ys, item.style, color=item.colour, lw=1.3)
        marks += ax.plot(xs[:1], ys[:1], "o", color=item.colour, ms=3.5) if item.dot else []
        for mark in marks:
            mark.set_clip_path(cell)  # a window far outside would cross its neighbours
