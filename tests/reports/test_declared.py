"""Declared charts are drawn from records, and survive the file that declares them."""

import csv
import json
from dataclasses import replace

from ablations.harness.declare import chart as declared
from ablations.harness.declare.chart import Against, AgainstField, ArmTable, Pairs, Strips
from ablations.harness.declare.measure import Quantity, top1_error
from ablations.harness.store.records import Record, Records, point
from reports.charts.declared import draw, draw_all
from reports.charts.values import left_out

COST = Quantity("cost", "M", probe="network")
SEEN = Quantity("seen", "%", probe="window")
LOST = float("nan")


def rows(metric, where, values):
    """Arm -> values of seeds 0, 1, ..."""
    return [
        Record("invented", arm, seed, where, metric, value, "", f"{arm}-{seed}")
        for arm, found in values.items()
        for seed, value in enumerate(found)
    ]


def read(folder, name):
    with open(folder / "figures" / f"{name}.csv", newline="") as stream:
        return list(csv.reader(stream))


def test_a_table_has_a_row_for_each_arm_or_each_value_of_a_field(tmp_path):
    records = Records([
        *rows("test/top1_error", "test", {"a": [1.0, 3.0], "b": [LOST, 5.0], "c": [7.0]}),
        *rows("step", "diverged", {"b": [9.0]}),
        *rows("seen", point("window", number=10), {"a": [10.0, 11.0]}),
        *rows("seen", point("window", number=2), {"a": [2.0, 3.0]}),
    ])  # fmt: skip
    table = ArmTable("arms", "title", {"error": top1_error, "paper": {"a": 0.5}}, names={"a": "first"}, arms=("b", "a"))
    draw(table, records, tmp_path)
    assert read(tmp_path, "arms") == [["arm", "error", "paper"], ["b", "5", ""], ["first", "2", "0.5"]]
    draw(ArmTable("windows", "title", {"seen": SEEN}, by={"number": "window"}), records, tmp_path)
    assert read(tmp_path, "windows") == [["arm", "window", "seen"], ["a", "10", "10.5"], ["a", "2", "2.5"]]
    none = ArmTable("none", "title", {"seen": SEEN}, arms=("b",), by={"number": "window"})
    assert draw(none, records, tmp_path) == []
    seen, cost = replace(SEEN, over="mean"), COST
    draw(ArmTable("spread", "title", {"seen": seen, "cost": cost}, spread=True), records, tmp_path)
    assert read(tmp_path, "spread") == [["arm", "seen"], ["a", "6.5 +- 0.71"], ["b", ""]], "b diverged, c was not asked"


def test_a_quantity_stands_against_a_number_or_another_quantity(figures, tmp_path):
    errors = rows("test/top1_error", "test", {"a": [1.0, 3.0], "b": [5.0, 5.0], "c": [9.0]})
    records = Records([*errors, *rows("cost", "network", {"a": [20.0], "b": [10.0]})])
    line = {"line": {"a": 1, "b": 2, "c": 3}}
    draw(Against("numbers", "title", top1_error, "%", "x", line), records, tmp_path)
    draw(Against("costs", "title", top1_error, "%", "M", line, across=COST), records, tmp_path)
    found = {name: figure.axes[0].lines[0].get_xydata().tolist() for name, figure in figures.items()}
    assert found == {"numbers": [[1, 2], [2, 5], [3, 9]], "costs": [[10, 5], [20, 2]]}, "of c the cost is not known"


def test_horizontal_lines_are_numbers_arms_and_other_quantities(figures, tmp_path):
    records = Records([
        *rows("test/top1_error", point("delete", layer=1), {"a": [1.0, 3.0]}), *rows("cost", "network", {"b": [7.0]}),
        *rows("test/top1_error", "test", {"a": [4.0], "b": [6.0, LOST]}),
    ])  # fmt: skip
    lines = {"eight": 8, "six": "b", "seven": COST, "nobody": "c"}
    deleted = Quantity("test/top1_error", "%", probe="delete")
    charts = (
        Against("arms", "title", top1_error, "%", "x", {"line": {"a": 1}}, lines),
        AgainstField("layers", "title", deleted, "%", "layer", "x", references={"seven": COST, "one": 1.0}),
    )
    draw_all([json.loads(json.dumps(declared.written(each))) for each in charts], "invented", records, tmp_path)
    found = {name: [line.get_ydata()[0] for line in figure.axes[0].lines] for name, figure in figures.items()}
    assert found == {"arms": [4, 8, 6, 7], "layers": [2, 7, 1]}, "the first is the quantity itself"


def test_networks_say_their_arguments_and_seeds_their_median(figures, tmp_path):
    arms = [{"name": arm, "arguments": {"depth": depth}} for arm, depth in {"a": 20, "b": 56, "c": 110}.items()]
    (tmp_path / "ablation.json").write_text(json.dumps({"arms": arms}))
    records = Records(rows("test/top1_error", "test", {"a": [1.0, 3.0, 9.0], "b": [5.0, 5.0, LOST], "d": [LOST]}))
    draw(
        ArmTable("arms", "title", {"layers": "depth", "error": top1_error}, medians=True, arms="abc"), records, tmp_path
    )
    assert read(tmp_path, "arms")[1:] == [["a", "20", "3 (1 to 9)"], ["b", "56", "5, 1 diverged"]]
    draw(Against("deep", "title", top1_error, "%", "x", {"line": dict.fromkeys("abc", "depth")}), records, tmp_path)
    assert figures["deep"].axes[0].lines[0].get_xydata()[:, 0].tolist() == [20, 56]
    draw(Strips("decades", "title", top1_error, "%", {"first": "a"}, logarithmic=True), records, tmp_path)
    (ax,) = figures["decades"].axes
    assert (ax.get_xscale(), round(ax.get_xlim()[0], 3)) == ("log", 0.8)


def test_what_has_no_value_is_left_out_and_named(figures, tmp_path):
    records = Records(rows("test/top1_error", "test", {"a": [1.0, 3.0], "b": [LOST, 5.0], "c": [LOST, LOST]}))
    assert left_out(top1_error, records, ["a"]) == ""
    strips = Strips("strips", "title", top1_error, "%", {"first": "a", "second": "b", "third": "c"}, {"first": (2.0,)})
    (told,) = draw(strips, records, tmp_path)
    assert "Left out, without a value: b seed 0; c." in told.caption
    (ax,) = figures["strips"].axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["first", "second"]
    assert [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "x"] == [[2.0]]
    (told,) = draw(Pairs(("a", "d"), "error", caption="Said."), records, tmp_path)
    assert told.caption.endswith("Said.")
    assert draw_all([declared.written(strips)], "invented", Records(), tmp_path) == []
