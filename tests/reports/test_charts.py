"""Interactive charts: plotly accepts the files, the page embeds them safely, and what is damaged is named."""

import base64
import hashlib
import html
import json
import math
import re
import sys

import numpy as np
import pytest
from invented_surfaces import LOSS, bowl, holed, rough

from reports.charts.interactive import lines, surface_3d
from reports.pages.page import write_page
from reports.pages.page_scripts import chart_scripts

NASTY = "</script><script>alert(1)</script><b>&amp;"
SERIES = {"one": {1.0: [3.0, 5.0], 2.0: [1.0, math.nan]}, NASTY: {2.0: [7.0], 1.0: [8.0]}, "lost": {1.0: [math.nan]}}


def read(folder, drawn):
    plotly = pytest.importorskip("plotly.graph_objects")
    content = json.loads((folder / drawn.file).read_text())
    plotly.Figure(content)  # raises ValueError for a name or value that plotly does not know
    return content["data"], content["layout"]


@pytest.fixture
def page(tmp_path):
    """The page's source with the given figures on it."""

    def make(*drawn):
        (tmp_path / "ablation.json").write_text(json.dumps({"figures": [each._asdict() for each in drawn]}))
        return write_page(tmp_path).read_text()

    return make


def test_lines_are_means_with_bands(tmp_path):
    (drawn,) = lines({"loss": SERIES, "error (%)": {"one": {3.0: [2.0]}}}, "epoch", tmp_path, "l", "T", "Cap.")
    traces, layout = read(tmp_path, drawn)
    band, first, second, below = traces
    assert (first["x"], first["y"]) == ([1.0, 2.0], [4.0, 1.0])
    assert first["text"] == ["3 to 5, 2 seeds", "1 to 1, 1 seeds"]
    assert (band["x"], band["y"]) == ([1.0, 2.0, 2.0, 1.0], [5.0, 1.0, 1.0, 3.0])
    assert (second["x"], second["y"]) == ([1.0, 2.0], [8.0, 7.0])
    assert band["legendgroup"] == first["legendgroup"] == below["legendgroup"] == "one"
    assert [each["showlegend"] for each in traces] == [False, True, True, False]
    assert first["line"] == below["line"] != second["line"]
    assert below["yaxis"] == layout["xaxis"]["anchor"] == "y2"
    assert layout["yaxis"]["domain"][0] > layout["yaxis2"]["domain"][1] > layout["yaxis2"]["domain"][0] == 0
    assert "2 values that are not finite are left out" in drawn.caption
    assert lines({"loss": {"a": {1.0: [math.nan]}}}, "x", tmp_path, "none", "T", "") == []
    assert not (tmp_path / "figures" / "none.plotly.json").exists()


def test_surfaces_share_axes_and_colours(tmp_path):
    drawn = surface_3d(
        [("smooth", bowl(span=(-2.0, 1.0))), ("rough", rough())], LOSS, tmp_path, "s", "T", "Cap.", "loss"
    )
    traces, layout = read(tmp_path, drawn)
    assert [trace["scene"] for trace in traces] == ["scene", "scene2"]
    for axis in ("xaxis", "yaxis", "zaxis"):
        assert layout["scene"][axis] == layout["scene2"][axis]
    assert layout["scene"]["xaxis"]["range"] == [-2.0, 1.0]
    assert {trace["coloraxis"] for trace in traces} == {"coloraxis"}
    heights = np.array(traces[0]["z"])
    assert heights.shape == (7, 9), "a row for each beta"
    smooth = bowl(span=(-2.0, 1.0)).values[LOSS]
    assert pytest.approx(np.log10(smooth), rel=1e-5) == heights.T, "logarithmic, because one panel asks for it"
    assert traces[0]["text"][3][0] == "alpha -2; beta 0; loss 16.5", "and the reader is shown the loss itself"
    low, high = layout["scene"]["zaxis"]["range"]
    assert low < layout["coloraxis"]["cmin"] <= heights.min() <= heights.max() <= layout["coloraxis"]["cmax"] < high
    assert "normalisation: filter" in drawn.caption


def test_holes_are_null_and_counted_and_a_flat_surface_can_be_drawn(tmp_path):
    drawn = surface_3d([("holed", holed())], LOSS, tmp_path, "s", "T", "Cap.")
    (trace,), _ = read(tmp_path, drawn)
    assert sum(value is None for row in trace["z"] for value in row) == 2
    assert "2 have no finite value (missing from the surface), 2 are interpolated" in drawn.caption
    for value in (0.0, 50.0, math.nan):
        flat = bowl()
        flat.values[LOSS][:] = value
        _, layout = read(tmp_path, surface_3d([("flat", flat)], LOSS, tmp_path, "flat", "T", ""))
        assert layout["coloraxis"]["cmin"] < layout["coloraxis"]["cmax"] or value == 50.0
    with pytest.raises(ValueError, match="no metric 'x'"):
        surface_3d([("a", bowl())], "x", tmp_path, "s", "T", "")


def test_same_data_same_bytes(tmp_path):
    def draw():
        files = [
            *lines({"y": SERIES}, "x", tmp_path, "l", "T", ""),
            surface_3d([("a", rough())], LOSS, tmp_path, "s", "T", ""),
        ]
        return [(tmp_path / drawn.file).read_bytes() for drawn in files]

    assert draw() == draw()


def test_the_page_embeds_plotly_once_and_only_for_a_chart(tmp_path, page):
    pytest.importorskip("plotly")
    chart = lines({"loss <i>": SERIES}, "epoch", tmp_path, "l", f"T {NASTY}", "Cap.", logarithmic=True)
    surface = surface_3d([("a", bowl())], LOSS, tmp_path, "s", "Surface", "Cap.")
    source = page(*chart, surface)
    assert source.count("plotly.js v") == 1
    assert len(source) < 8e6
    scripts = re.findall(r"<script>(.*?)</script>", source, re.S)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', source)[1])
    assert policy.startswith("default-src 'none'; img-src data: blob:; script-src 'sha256-")
    assert len(scripts) == 2
    for script in scripts:
        assert f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert source.count("<noscript>") == 1
    assert source.count('class="chart" tabindex="0" role="group" aria-labelledby="chart-') == 2
    assert "Axes: epoch, loss &lt;i&gt; (logarithmic). Shown: one, &lt;/script&gt;&lt;script&gt;" in source
    assert f"Axes: alpha, beta, {LOSS} as height and colour. Shown: a." in source
    assert source == page(*chart, surface), "the same files, the same bytes"
    assert "script" not in page().split("<body>")[1]
    assert "script-src" not in page()


def test_no_text_of_a_chart_ends_its_script(tmp_path, page):
    pytest.importorskip("plotly")
    chart = lines({NASTY: {NASTY: {1.0: [2.0]}}}, NASTY, tmp_path, "l", NASTY, NASTY)
    content = json.loads((tmp_path / chart[0].file).read_text())
    content["data"][0]["name"] = NASTY  # as `lines` would not write it
    (tmp_path / chart[0].file).write_text(json.dumps(content))
    source = page(*chart)
    assert "alert(1)<" not in source
    (embedded,) = re.findall(r'<script type="application/json">(.*?)</script>', source, re.S)
    assert "<" not in embedded
    assert json.loads(embedded) == json.loads((tmp_path / chart[0].file).read_text())


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"null", b"[1]", b"\xff", b'{"data": []}',
        b'{"data": [], "layout": {}}', b'{"data": [7], "layout": {}}',
        b'{"data": [{"type": "scattermap", "name": "a"}], "layout": {}}',
        b'{"data": [{"type": "scatter", "name": "a", "y": [NaN]}], "layout": {}}',
        b'{"data": [{"type": "scatter", "name": 3}], "layout": {}}',
    ],
)  # fmt: skip
def test_a_damaged_chart_is_named_and_the_rest_shown(tmp_path, page, damage):
    pytest.importorskip("plotly")
    good, bad = (lines({"y": {"a": {1.0: [2.0]}}}, "x", tmp_path, name, name, "")[0] for name in ("good", "bad"))
    (tmp_path / bad.file).write_bytes(damage)
    source = page(good, bad)
    assert "figure 2 is damaged and left out: figures/bad.plotly.json (bad) is no chart." in source
    assert source.count('class="chart"') == 1


def test_without_plotly_the_page_says_what_it_needs(tmp_path, page, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert chart_scripts(tmp_path) is None
    (drawn,) = lines({"y": {"a": {1.0: [2.0]}}}, "x", tmp_path, "l", "Title", "Cap.")
    source = page(drawn)
    assert "These charts need plotly, which is not installed" in source
    assert "<script" not in source
    assert "script-src" not in source
    assert "Cap. Lines are means" in source
