"""Tables beside the figures, and curves drawn from records alone."""

import json
import math

import pytest

from ablations.harness.records import Record, Records, point
from reports.curve_figures import curves, draw_against, draw_curves
from reports.page import write_page
from reports.tables import write_table


def row(arm, seed, epoch, value):
    return Record("x", arm, seed, point("epoch", epoch=epoch), "train/loss", value, "nats", "run")


RECORDS = Records(
    [row(arm, seed, epoch, 2.0 / epoch + seed) for arm in "ab" for seed in (0, 1) for epoch in (1, 2, 3)]
    + [row("b", 2, 1, 3.0), row("b", 2, 2, math.nan)]
    + [Record("x", "b", 2, point("diverged"), "step", 7.0, "", "run")]
)


def test_curves_are_by_arm_seed_and_epoch():
    found = curves(RECORDS, "train/loss", ["b", "a", "c"])
    assert list(found) == ["b", "a"]
    assert found["a"] == {0: {1: 2.0, 2: 1.0, 3: 2 / 3}, 1: {1: 3.0, 2: 2.0, 3: 2 / 3 + 1}}
    assert found["b"][2] == {1: 3.0}, "what is not finite is left out"


def test_drawn_figures_are_files_and_the_same_each_time(tmp_path):
    drawn = draw_curves(RECORDS, tmp_path, "curves", "Title", {"train/loss": "loss"}, logarithmic=True)
    drawn += draw_against(
        tmp_path, "against", "Title", "x", "y", {"one": {0.5: [1.0, math.nan], 1.0: [2.0]}}, {"r": 1.5}
    )
    names = ["curves.png", "curves.plotly.json", "against.png"]
    assert [figure.file for figure in drawn] == [f"figures/{name}" for name in names]
    assert "cross" in drawn[0].caption
    assert "1 runs without a finite value" in drawn[2].caption
    before = [(tmp_path / figure.file).read_bytes() for figure in drawn]
    draw_curves(RECORDS, tmp_path, "curves", "Title", {"train/loss": "loss"}, logarithmic=True)
    draw_against(tmp_path, "against", "Title", "x", "y", {"one": {0.5: [1.0, math.nan], 1.0: [2.0]}}, {"r": 1.5})
    assert [(tmp_path / figure.file).read_bytes() for figure in drawn] == before


def test_nothing_is_drawn_from_nothing(tmp_path):
    assert draw_curves(Records(), tmp_path, "curves", "Title", {"train/loss": "loss"}) == []
    assert draw_against(tmp_path, "against", "Title", "x", "y", {"one": {1.0: [math.nan]}}) == []
    assert not list(tmp_path.rglob("figures/*"))


def test_a_table_stands_on_the_page_as_it_was_written(tmp_path):
    rows = [["identity", 6.61, None], ["<b>gated</b>", "fail", 12.3456]]
    drawn = write_table(tmp_path, "table", "Table 1", "as published", ["form", "paper", "ours"], rows)
    assert (tmp_path / drawn.file).read_text() == "form,paper,ours\nidentity,6.61,\n<b>gated</b>,fail,12.35\n"
    (tmp_path / "ablation.json").write_text(json.dumps({"figures": [drawn._asdict()]}))
    page = write_page(tmp_path).read_text()
    assert "<td>12.35</td>" in page
    assert "&lt;b&gt;gated&lt;/b&gt;" in page
    assert "Table 1" in page
    with pytest.raises(ValueError, match="2 cells under 3 columns"):
        write_table(tmp_path, "table", "", "", ["a", "b", "c"], [[1, 2]])
