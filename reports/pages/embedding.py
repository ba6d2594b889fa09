"""What the page shows for a file of figures/: a PNG or GIF as it is, a .csv as a table, a .plotly.json as a chart."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ablations.harness.store.files import CHART
from reports.pages.reading import strict_json

PNG_HEADER = struct.Struct(">8s4x4sII")  # signature, length of the chunk, its name, width and height in pixels
TRACES = ("scatter", "surface")  # others are not written by charts.py, and some would ask a server for maps


def figure(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """One entry of ablation.json's figures as the template wants it.

    Raises ValueError saying what is wrong with the file.
    """
    file, title, caption = entry["file"], entry["title"], entry["caption"]
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} lies outside the folder")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} ({title}) cannot be read, {error.strerror}") from error
    read = _chart if path.name.endswith(CHART) else READERS.get(path.suffix, _image)
    try:
        return {**read(content), "title": title, "caption": caption}
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, csv.Error) as error:
        kind = {_chart: "chart", _table: "table", _image: "complete PNG", _animation: "complete GIF"}[read]
        raise ValueError(f"{file} ({title}) is no {kind}") from error


def data_uri(picture: bytes, kind: str = "png") -> str:
    """The bytes of a PNG or GIF file as a page holds them."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")


def _image(content: bytes) -> dict[str, Any]:
    header = PNG_HEADER.unpack(content[: PNG_HEADER.size].ljust(PNG_HEADER.size))
    if header[:2] != (b"\x89PNG\r\n\x1a\n", b"IHDR") or not content.endswith(b"IEND\xaeB\x60\x82"):
        raise ValueError("not a PNG, or cut off")
    return {"kind": "image", "data": data_uri(content), "width": header[2], "height": header[3]}


def _animation(content: bytes) -> dict[str, Any]:
    """An animated GIF, and its last frame as a PNG for who does not want it to move."""
    if not content.endswith(b";"):
        raise ValueError("cut off")
    with Image.open(io.BytesIO(content), formats=["GIF"]) as gif:
        gif.seek(getattr(gif, "n_frames", 1) - 1)
        last, (width, height) = io.BytesIO(), gif.size
        gif.convert("RGB").save(last, "png", optimize=True)
    moving, still = data_uri(content, "gif"), data_uri(last.getvalue())
    return {"kind": "animation", "data": moving, "still": still, "width": width, "height": height}


def _table(content: bytes) -> dict[str, Any]:
    columns, *rows = csv.reader(content.decode().splitlines())
    return {"kind": "table", "columns": columns, "rows": rows}


def _chart(content: bytes) -> dict[str, Any]:
    """The chart as JSON that may stand inside a script element, and its axes and lines in words."""
    chart = strict_json(content)
    traces, layout = chart["data"], chart["layout"]
    if not traces or any(trace["type"] not in TRACES for trace in traces):
        raise ValueError(f"a chart holds traces of the types {', '.join(TRACES)}")
    text = json.dumps({"data": traces, "layout": layout}, allow_nan=False, separators=(",", ":"))
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    spatial = any(trace["type"] == "surface" for trace in traces)
    return {"kind": "chart", "json": Markup(safe), "spatial": spatial, "words": _words(traces, layout)}


def _words(traces: Sequence[dict[str, Any]], layout: dict[str, Any]) -> str:
    """The chart for a reader who does not see it: its axes, then its lines or surfaces."""
    holders = [layout, *(value for key, value in layout.items() if key.startswith("scene"))]
    axes = [
        value["title"]["text"] + (" (logarithmic)" if value.get("type") == "log" else "")
        for holder in holders
        for key, value in sorted(holder.items())
        if key[1:5] == "axis" and "title" in value and not (key == "zaxis" and "coloraxis" in layout)
    ]
    if "coloraxis" in layout:
        axes.append(f"{layout['coloraxis']['colorbar']['title']['text']} as height and colour")
    names = [trace["name"] for trace in traces]
    words = f"Axes: {', '.join(dict.fromkeys(axes))}. Shown: {', '.join(dict.fromkeys(names))}."
    return html.unescape(words)


READERS = {".csv": _table, ".gif": _animation}  # by the end of a file's name; all others are PNG or charts
