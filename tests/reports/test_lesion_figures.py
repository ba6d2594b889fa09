"""The lesion figures: drawn from records alone, the same bytes each time, gaps for what diverged."""

import matplotlib as mpl
import numpy as np
import pytest
from invented_ablation import ARMS, synthetic_records
from PIL import Image

from ablations.harness.declare.chart import Drawing, written
from ablations.harness.store.records import Record, Records
from reports.charts.declared import draw_all
from reports.charts.style import STYLE, number, panels, save, strip, style
from reports.drawings import remove_layers
from reports.drawings.remove_layers import draw

FILES = ["single_deletion_summary", "single_deletion", "random_deletion", "reordering", "shortcut_control"]
CHARTS = ["single_deletion", "random_deletion"]


@pytest.fixture(scope="module")
def records():
    return synthetic_records(range(3), draws=3)


def names(drawn):
    """The pictures; charts follow them, see CHARTS."""
    return [figure.file for figure in drawn if figure.file.endswith(".png")]


def test_every_figure_is_drawn_in_the_same_bytes(records, tmp_path):
    said = [written(Drawing())]
    drawn = draw_all(said, "remove_layers", records, tmp_path / "a")
    mpl.rcParams["font.size"] = 30  # a user's own settings must not reach the picture, and must survive
    try:
        assert draw_all(said, "remove_layers", records, tmp_path / "b") == drawn
        assert mpl.rcParams["font.size"] == 30
    finally:
        mpl.rcdefaults()
    assert names(drawn) == [f"figures/{name}.png" for name in FILES]
    charts = drawn[len(FILES) :]
    assert [chart.file for chart in charts] == [f"figures/{name}.plotly.json" for name in CHARTS]
    for chart in charts:
        assert (tmp_path / "a" / chart.file).read_bytes() == (tmp_path / "b" / chart.file).read_bytes()
    for figure in drawn[: len(FILES)]:
        content = (tmp_path / "a" / figure.file).read_bytes()
        assert (tmp_path / "b" / figure.file).read_bytes() == content
        assert b"tEXt" not in content  # neither date nor version
        assert figure.title
        assert figure.caption.endswith(".")
        assert "diverged" not in figure.caption
        with Image.open(tmp_path / "a" / figure.file) as image:
            assert image.width == 736
            assert np.asarray(image.convert("L")).std() > 10


def test_the_axes_are_the_papers(records):
    with style():
        bars = remove_layers.single_deletion(records, list(ARMS))
        boxes = remove_layers.random_deletion(records, list(ARMS)[:3])
        order = remove_layers.reordering(records, list(ARMS)[:3])
    for ax, (arm, (count, reshaping, *_)) in zip(bars.axes, ARMS.items(), strict=True):
        assert ax.get_title(loc="left") == arm
        assert ax.get_ylim() == (0, 100)
        patches = ax.patches[1:]  # after the band of the intact error
        assert len(patches) == count
        assert [i for i, patch in enumerate(patches) if patch.get_hatch()] == list(reshaping)
        rows = records.where(arm=arm, probe="delete", position=0)
        assert patches[0].get_height() == pytest.approx(np.mean(rows.values()))
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        assert sum(len(line.get_ydata()) for line in dots) == 3 * count
    assert len(boxes.axes) == len(order.axes) == 3
    for ax in order.axes:
        left, right = ax.get_xlim()
        assert left > 1.0 > right
        assert sum(len(line.get_ydata()) for line in ax.lines if line.get_marker() == ".") == 3 * 5 * 3


@pytest.mark.parametrize("arm", ["vgg", "preact_resnet"])
def test_diverged_values_are_gaps_and_named(arm, tmp_path):
    one = draw(synthetic_records(range(2), draws=2, diverged=[(arm, 1)]), tmp_path / "one")
    every = draw(synthetic_records(range(2), draws=2, diverged=[(arm, 0), (arm, 1)]), tmp_path / "every")
    assert names(one) == names(every) == [f"figures/{name}.png" for name in FILES]
    assert f"(diverged) are gaps, and means leave them out: {arm} seed 1." in one[0].caption
    assert f"means leave them out: {arm} seed 0, 1." in every[0].caption
    assert ("diverged" in one[2].caption) == (arm == "preact_resnet")  # VGG is not in that figure


def test_figures_without_records_are_left_out(records, tmp_path):
    assert draw(Records(), tmp_path) == []
    some = draw(records.where(arm="vgg"), tmp_path)
    assert names(some) == [f"figures/{name}.png" for name in FILES[:2]]
    assert draw(records.where(probe="intact"), tmp_path) == []
    other = Records([Record("a", "b", 0, "delete block=x position=0 changes_shape=no", "loss", 1.0, "", "r")])
    assert draw(other, tmp_path) == []


def test_one_seed_and_one_draw_without_an_intact_record(tmp_path):
    records = Records(row for row in synthetic_records([0], draws=1, arms=["preact_resnet"]) if row.probe != "intact")
    assert len(names(draw(records, tmp_path))) == 5


def test_save_is_atomic_and_styled(tmp_path):
    with style():
        figure, axes = panels(2, 1.0, "label")
        drawn = save(figure, tmp_path, "x", "Title", "Caption.")
        with pytest.raises(OSError, match=r"x\.png"):
            save(figure, tmp_path / drawn.file, "y", "", "")
        save(figure, tmp_path / "new", "x", "Title", "Caption.")
    assert drawn == ("figures/x.png", "Title", "Caption.")
    assert len(axes) == 2
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["x.png"], "nothing unfinished stays behind"
    assert (tmp_path / "new" / drawn.file).read_bytes() == (tmp_path / drawn.file).read_bytes()
    with Image.open(tmp_path / drawn.file) as image:
        assert image.height == round(2.9 * STYLE["savefig.dpi"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (2.97901, "2.979"), (-71.049, "-71.05"), (262144.0, "262,144"), (1e-5, "1e-05"), (3e20, "3e+20")],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize("values", [[3.0] * 40, [0.0, 1e-9], [-5.0, 5.0], [1e6, 2e6], [0.0]])
def test_strip_stays_inside_its_box(values):
    drawn = strip({str(i): v for i, v in enumerate(values)}, min(values), max(values), values[0], True, False, "%")
    assert len(drawn["dots"]) == len(values)
    assert all(14 <= dot.x <= 346 and 16 < dot.y <= 50 for dot in drawn["dots"])
    assert 1 <= len(drawn["ticks"]) <= 7
    assert strip({}, None, None, 1.0, True, False, "%") is None
