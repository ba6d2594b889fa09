"""Tables beside the figures, and curves drawn from records alone."""

import json
import math
from dataclasses import replace

import pytest

from ablations.harness.declare.chart import AgainstField, Curves, Pairs, written
from ablations.harness.declare.measure import Quantity
from ablations.harness.store.records import Record, Records, point
from reports.charts.against import draw_against_field
from reports.charts.curves import curves, draw_curves
from reports.charts.declared import draw_all
from reports.charts.paired_seeds import draw_pairs
from reports.charts.tables import write_table
from reports.pages.page import write_page


def row(arm, seed, epoch, value):
    return Record("x", arm, seed, point("epoch", epoch=epoch), "train/loss", value, "nats", "run")


RECORDS = Records(
    [row(arm, seed, epoch, 2.0 / epoch + seed) for arm in "ab" for seed in (0, 1) for epoch in (1, 2, 3)]
    + [row("b", 2, 1, 3.0), row("b", 2, 2, math.nan)]
    + [Record("x", "b", 2, point("diverged"), "step", 7.0, "", "run")]
)


CURVES = Curves("curves", "Title", {"train/loss": "loss"})
LOSS = Quantity("train/loss", probe="epoch")
AGAINST = AgainstField("against", "Title", LOSS, "y", "epoch", "x", references={"r": 1.5})


def test_curves_are_by_arm_seed_and_epoch():
    found = curves(RECORDS, "train/loss", ["b", "a", "c"])
    assert list(found) == ["b", "a"]
    assert found["a"] == {0: {1: 2.0, 2: 1.0, 3: 2 / 3}, 1: {1: 3.0, 2: 2.0, 3: 2 / 3 + 1}}
    assert found["b"][2] == {1: 3.0}, "what is not finite is left out"


def test_drawn_figures_are_files_and_the_same_each_time(tmp_path):
    charts = [written(chart) for chart in (replace(CURVES, logarithmic=True), AGAINST)]
    drawn = draw_all(charts, "x", RECORDS, tmp_path)
    names = ["curves.png", "curves.plotly.json", "against.png"]
    assert [figure.file for figure in drawn] == [f"figures/{name}" for name in names]
    assert "cross" in drawn[0].caption
    assert "1 runs without a finite value" in drawn[2].caption
    before = [(tmp_path / figure.file).read_bytes() for figure in drawn]
    draw_all(charts, "x", RECORDS, tmp_path)
    assert [(tmp_path / figure.file).read_bytes() for figure in drawn] == before


def test_arms_are_called_by_their_names(tmp_path, figures):
    names = {"b": "the second", "c": "of no record"}
    draw_curves(CURVES, RECORDS, tmp_path)
    _, chart = draw_curves(replace(CURVES, name="named", arms=["b", "a"], names=names), RECORDS, tmp_path)
    made = list(figures.values())
    keys = [{key.get_label(): key.get_color() for key in figure.legends[0].get_lines()} for figure in made]
    assert [list(each) for each in keys] == [["a", "b"], ["the second", "a"]], "else as the records do"
    means = [line for line in made[1].axes[0].lines if line.get_linewidth() == 1.8]
    assert {line.get_color(): list(line.get_ydata()) for line in means} == {
        keys[1]["the second"]: pytest.approx([(2 + 3 + 3) / 3, 1.5, 2 / 3 + 0.5]),
        keys[1]["a"]: pytest.approx([2.5, 1.5, 2 / 3 + 0.5]),
    }
    crosses = [line.get_xydata().tolist() for line in made[1].axes[0].lines if line.get_marker() == "x"]
    assert crosses == [[[1, 3.0]]], "where seed 2 of b ended"
    traces = json.loads((tmp_path / chart.file).read_text())["data"]
    shown = {trace["name"]: trace["y"] for trace in traces if trace.get("showlegend")}
    assert list(shown) == ["the second", "a"]
    assert [shown["the second"][0], shown["a"][0]] == pytest.approx([8 / 3, 2.5], rel=1e-4)


@pytest.mark.parametrize(("names", "shown"), [({"p": "plain"}, ["qq", "plain"]), ({}, ["qq", "p"])])
def test_ticks_of_pairs_are_the_names_of_the_arms(tmp_path, figures, names, shown):
    rows = [
        Record("x", arm, seed, "test", "error", 10.0 * len(arm) + seed, "%", "run")
        for arm in ("p", "qq")
        for seed in (0, 1)
    ]
    draw_pairs(Pairs(("qq", "p"), "error in %", Quantity("error"), names=names), Records(rows), tmp_path)
    (ax,) = figures["pairs"].axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == shown
    assert [dots.get_offsets().tolist() for dots in ax.collections] == [[[0, 20], [0, 21]], [[1, 10], [1, 11]]]


def test_nothing_is_drawn_from_nothing(tmp_path):
    assert draw_curves(CURVES, Records(), tmp_path) == []
    assert draw_curves(replace(CURVES, arms=["c"]), RECORDS, tmp_path) == []
    lost = RECORDS.where("b", 2).where(metric="train/loss", epoch=2)
    assert draw_against_field(AGAINST, lost, tmp_path) == []
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
