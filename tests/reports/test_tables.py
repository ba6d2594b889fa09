"""Tables beside the figures, and curves drawn from records alone."""

import json
import math

import pytest

from ablations.harness.store.records import Record, Records, point
from reports.charts.curves import curves, draw_against, draw_curves
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


def test_arms_are_called_by_their_names(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("reports.charts.curves.save", lambda figure, path: made.append(figure))
    names = {"b": "the second", "c": "of no record"}
    arguments = (tmp_path, "curves", "Title", {"train/loss": "loss"})
    draw_curves(RECORDS, *arguments)
    _, chart = draw_curves(RECORDS, *arguments, ["b", "a"], names=names)
    keys = [{key.get_label(): key.get_color() for key in figure.legends[0].get_lines()} for figure in made]
    assert [list(each) for each in keys] == [["a", "b"], ["the second", "a"]], "else as the records do"
    means = [line for line in made[1].axes[0].lines if line.get_linewidth() == 1.8]
    assert {line.get_color(): list(line.get_ydata()) for line in means} == {
        keys[1]["the second"]: pytest.approx([(2 + 3 + 3) / 3, 1.5, 2 / 3 + 0.5]),
        keys[1]["a"]: pytest.approx([2.5, 1.5, 2 / 3 + 0.5]),
    }
    traces = json.loads((tmp_path / chart.file).read_text())["data"]
    shown = {trace["name"]: trace["y"] for trace in traces if trace.get("showlegend")}
    assert list(shown) == ["the second", "a"]
    assert [shown["the second"][0], shown["a"][0]] == pytest.approx([8 / 3, 2.5], rel=1e-4)


def test_ticks_of_pairs_are_the_names_of_the_arms(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("reports.charts.paired_seeds.save", lambda figure, path: made.append(figure.axes[0]))
    rows = [
        Record("x", arm, seed, "test", "error", 10.0 * len(arm) + seed, "%", "run")
        for arm in ("p", "qq")
        for seed in (0, 1)
    ]
    for names in ({"p": "plain"}, None):
        draw_pairs(Records(rows), tmp_path, ["qq", "p"], "error", "error in %", names)
    assert [[tick.get_text() for tick in ax.get_xticklabels()] for ax in made] == [["qq", "plain"], ["qq", "p"]]
    for ax in made:
        assert [dots.get_offsets().tolist() for dots in ax.collections] == [[[0, 20], [0, 21]], [[1, 10], [1, 11]]]


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
