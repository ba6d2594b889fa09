"""The training of a spatial transformer as an animated GIF: digits, its window on them, and what it gives."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from ablations.harness.store.files import atomic_write_bytes
from reports.charts.pictures import Array, Kept
from reports.charts.style import FAINT, INK, ORANGE, Drawn

SIDE, MARGIN, HEAD = 100, 14, 34  # pixels: an image, what is left around it for its window, the line of text above
CELL = SIDE + 2 * MARGIN
PAIRS, PAIRS_ACROSS = 8, 2
FINER = 3  # lines are drawn so much larger and shrunk, for smooth edges
GREYS, BLENDS = 32, 16  # colours that all frames share: few, which keeps the file small
WHOLE, SLOWEST, FASTEST, FIRST, LAST = 6000, 500, 120, 800, 3000  # milliseconds: all frames, one, and held ones
MOST_FRAMES, MOST_BYTES = 60, 1_500_000


def animate(kept: Kept, name: str, title: str) -> list[Drawn]:
    """Writes `kept.folder`/figures/`name`.gif from training.npz of the first seed that kept one; the same each time.

    Where there are too many states for the size of a file in a page, they are thinned out evenly; the first and the
    last stay. Draws nothing without a file. Raises ValueError for a damaged one, OSError if the GIF cannot be written.
    """
    file = kept.file("training.npz", "epochs", "images", "outputs", "outlines")
    if file is None or len(file["epochs"]) == 0:
        return []
    images, epochs = file["images"][:PAIRS], file["epochs"]
    count = min(MOST_FRAMES, len(epochs))
    while True:
        times = np.linspace(0, len(epochs) - 1, count).round().astype(int)
        frames = [_frame(images, file["outputs"][t], file["outlines"][t], f"epoch {epochs[t]:g}") for t in times]
        content = _gif(frames)
        if len(content) <= MOST_BYTES or count <= 2:
            break
        count = max(2, count * 3 // 4)
    path = kept.folder / "figures" / f"{name}.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, content)
    caption = (
        "Test digits in the course of training: left the image with the window from which the transformer "
        "samples (the dot is its upper left corner), right what it gives. "
        f"{kept.label or kept.arm}, one seed, {count} states."
    )
    return [Drawn(f"figures/{name}.gif", title, caption)]


def frame_time(count: int) -> int:
    """Milliseconds of each of `count` frames; whole hundredths of a second, because a GIF knows no less."""
    return min(SLOWEST, max(FASTEST, WHOLE // count // 10 * 10))


def _frame(images: Array, outputs: Array, outlines: Array, words: str) -> Image.Image:
    """One state: pairs of an image (S, S) with its outline (P, 2) in pixels and an output (S', S'), text above."""
    across = min(PAIRS_ACROSS, len(images))
    down = -(-len(images) // across)
    frame = Image.new("RGB", (across * 2 * CELL, HEAD + down * CELL), "white")
    pen = ImageDraw.Draw(frame)
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 18)
    pen.text((MARGIN, 8), words, fill=INK, font=font)
    for place, (image, output, outline) in enumerate(zip(images, outputs, outlines, strict=False)):
        x, y = place % across * 2 * CELL, HEAD + place // across * CELL
        frame.paste(_window(image, outline), (x, y))
        frame.paste(_enlarged(output, SIDE), (x + CELL + MARGIN, y + MARGIN))
    for column in range(1, across):
        pen.line([(column * 2 * CELL, HEAD), (column * 2 * CELL, frame.height - MARGIN)], fill=FAINT)
    return frame


def _enlarged(image: Array, size: int) -> Image.Image:
    return Image.fromarray(image).resize((size, size), Image.Resampling.NEAREST).convert("RGB")


def _window(image: Array, outline: Array) -> Image.Image:
    """The image with its outline, which may lie beside it."""
    large = Image.new("RGB", (CELL * FINER, CELL * FINER), "white")
    large.paste(_enlarged(image, SIDE * FINER), (MARGIN * FINER, MARGIN * FINER))
    pen = ImageDraw.Draw(large)
    points = [(float(x), float(y)) for x, y in ((outline + 0.5) / len(image) * SIDE + MARGIN) * FINER]
    pen.line([*points, points[0]], fill=ORANGE, width=2 * FINER, joint="curve")
    pen.circle(points[0], 4 * FINER, fill=ORANGE)
    return large.resize((CELL, CELL), Image.Resampling.BOX)


def _palette() -> list[tuple[float, ...]]:
    """Greys, and the colour of the outline blended with black and with white."""
    line = to_rgb(ORANGE)
    shares = [step / BLENDS for step in range(1, BLENDS + 1)]
    greys = [(step / (GREYS - 1),) * 3 for step in range(GREYS)]
    return greys + [tuple(ground + share * (part - ground) for part in line) for ground in (0, 1) for share in shares]


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """The frames one after the other for ever, the first and the last held."""
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * part) for colour in _palette() for part in colour])
    shown = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    held = [FIRST, *[frame_time(len(shown))] * (len(shown) - 2), LAST][-len(shown) :]
    stream = io.BytesIO()
    shown[0].save(stream, "GIF", save_all=True, append_images=shown[1:], duration=held, loop=0, optimize=False)
    return stream.getvalue()
