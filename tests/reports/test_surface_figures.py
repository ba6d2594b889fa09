"""Pictures of loss surfaces: what panels share, what is said of holes and policies, the same bytes each time."""

import json

import numpy as np
import pytest
from invented_surfaces import FACTS, LOSS, bowl, holed, line, rough
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ablations.harness.store.records import Record, Records
from reports.charts.style import style
from reports.charts.surface_view import View, levels, notes, policies, view_of
from reports.charts.surfaces import contours, heat_map, slices, trajectory
from reports.drawings.loss_landscape import draw

WORDS = ("name", "Title", "Caption.")


def texts(figure: Figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("draw", [
    lambda folder: contours([("a", bowl()), ("b", holed())], LOSS, folder, *WORDS),
    lambda folder: slices([("a", line()), ("b", line(0.1, broken=[3]))], LOSS, folder, *WORDS),
    lambda folder: trajectory(bowl(), LOSS, np.array([[0.9, 0.4], [0.0, 0.0]]), [0, 9], folder, *WORDS),
    lambda folder: heat_map({"a": np.eye(3)}, (np.arange(3.0), np.arange(3.0)), folder, *WORDS),
], ids=["contours", "slices", "trajectory", "heat_map"])  # fmt: skip
def test_every_picture_is_a_png_of_the_same_bytes(draw, tmp_path):
    with style():
        drawn = draw(tmp_path / "one")
        assert draw(tmp_path / "two") == drawn
    assert drawn[:2] == ("figures/name.png", "Title")
    assert drawn.caption.startswith("Caption.")
    content = (tmp_path / "one" / drawn.file).read_bytes()
    assert (tmp_path / "two" / drawn.file).read_bytes() == content
    with Image.open(tmp_path / "one" / drawn.file) as image:
        assert image.width == 736
        assert np.asarray(image.convert("L")).std() > 10


def test_panels_share_axes_levels_and_colours(figures, tmp_path):
    contours([("smooth", bowl(span=(-2.0, 1.0))), ("rough", rough())], LOSS, tmp_path, *WORDS)
    smooth, uneven, bar = figures["name"].axes
    assert smooth.get_xlim() == uneven.get_xlim() == (-2.0, 1.0)
    assert smooth.get_ylim() == uneven.get_ylim() == (-1.0, 1.0)
    filled = [ax.collections[0] for ax in (smooth, uneven)]
    assert list(filled[0].levels) == list(filled[1].levels)
    assert np.array_equal(filled[0].norm.boundaries, filled[1].norm.boundaries)
    assert "logarithmic" in bar.get_ylabel()
    assert [ax.get_title(loc="left") for ax in (smooth, uneven)] == ["smooth", "rough"]


def test_the_figure_names_its_policies_and_its_centre(figures, tmp_path):
    contours([("a", bowl()), ("b", bowl(images=64))], LOSS, tmp_path, *WORDS)
    shown = " ".join(texts(figures["name"]).split())
    assert "normalisation: filter; biases and batch norm: fixed; batch-norm statistics: keep;" in shown
    assert "seeds of directions: 3, 4. a - images: 512. b - images: 64" in shown
    assert "centre" in shown
    assert "no finite value" not in shown


def test_holes_are_hatched_and_counted(figures, tmp_path):
    drawn = contours([("whole", bowl()), ("holed", holed())], LOSS, tmp_path, *WORDS)
    assert drawn.caption == (
        "Caption. holed: of 63 points 2 have no finite value (hatched), 2 are interpolated between computed neighbours."
    )
    assert "no finite value" in texts(figures["name"])
    assert all(ax.patches[0].get_hatch() for ax in figures["name"].axes[:2])


def test_a_surface_without_any_value_is_drawn_as_a_hole(tmp_path):
    surface = bowl()
    surface.values[LOSS][:] = np.nan
    assert "63 have no finite value" in contours([("a", surface)], LOSS, tmp_path, *WORDS).caption
    surface.values[LOSS][:] = 2.5
    assert contours([("flat", surface)], LOSS, tmp_path, *WORDS).caption == "Caption."


def test_points_that_are_open_are_not_called_holes():
    surface = bowl()
    surface.values[LOSS][:2], surface.state[:2] = np.nan, 0
    assert notes([("a", surface)], LOSS, "hatched") == "a: of 63 points 14 are not computed yet (hatched)."


def test_slices_have_bands_and_gaps(figures, tmp_path):
    drawn = slices([("a", line()), ("b", line(0.2, broken=[3, 4]))], LOSS, tmp_path, *WORDS)
    (ax,) = figures["name"].axes
    assert np.isnan(ax.lines[1].get_ydata()).sum() == 2
    assert len(ax.collections) == 2, "a band each"
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.4, 1.6))
    assert "one standard error" in drawn.caption
    assert "b: of 11 points 2 have no finite value" in drawn.caption
    assert len([patch for patch in ax.patches if patch.get_hatch()]) == 2
    bare = line()
    del bare.values["train/loss_standard_error"]
    assert "standard error" not in slices([("a", bare)], LOSS, tmp_path, *WORDS).caption


def test_a_trajectory_that_leaves_the_surface_is_shown_whole(figures, tmp_path):
    points = np.array([[-3.0, 0.5], [-1.0, 0.2], [0.0, 0.0]])
    trajectory(bowl(), LOSS, points, [0, 30, 60], tmp_path, *WORDS, axis_labels=("first (60 %)", "second (10 %)"))
    ax = figures["name"].axes[0]
    assert ax.get_xlim()[0] < -3.0
    assert ax.get_xlim()[1] >= 1.0
    assert "first (60 %)" in texts(figures["name"])
    assert "epoch 0" in texts(figures["name"])
    assert any(np.array_equal(each.get_xydata(), points) for each in ax.lines)
    with pytest.raises(ValueError, match="one finite point of 2 for each epoch"):
        trajectory(bowl(), LOSS, points, [0, 30], tmp_path, *WORDS)
    with pytest.raises(ValueError, match="one finite point of 2 for each epoch"):
        trajectory(bowl(), LOSS, points * np.nan, [0, 30, 60], tmp_path, *WORDS)


def test_a_heat_map_reaches_from_0_to_1_and_counts_what_does_not(figures, tmp_path):
    ratios = np.array([[0.0, 0.5, 1.5], [np.nan, 0.2, 0.3]])
    drawn = heat_map({"net": ratios}, (np.arange(2.0), np.arange(3.0)), tmp_path, *WORDS)
    mesh = figures["name"].axes[0].collections[0]
    assert mesh.get_clim() == (0, 1)
    assert mesh.get_array().shape == (3, 2), "alpha lies to the right"
    assert drawn.caption.endswith("net: 1 of 6 points without a finite value (hatched). net: 1 of 6 points above 1.")
    for maps, message in (({}, "at least one"), ({"a": -ratios}, "0 or more"), ({"a": ratios.T}, "has the shape")):
        with pytest.raises(ValueError, match=message):
            heat_map(maps, (np.arange(2.0), np.arange(3.0)), tmp_path, *WORDS)


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"),
    [(0.1, 2.0, False), (0.0, 0.0, False), (7.0, 7.0, False), (-3.0, 90.0, False), (1e-3, 5.0, True), (0.5, 1e9, True)],
)
def test_levels_enclose_the_range_and_are_few(low, high, logarithmic):
    found = levels(View(low, high, logarithmic))
    assert found[0] <= low <= high < found[-1]
    assert found == sorted(set(found))
    assert 2 <= len(found) <= 23


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one surface"):
        contours([], LOSS, tmp_path, *WORDS)
    with pytest.raises(ValueError, match="surface 'a' has no metric 'x'; it has train/loss"):
        contours([("a", bowl())], "x", tmp_path, *WORDS)
    with pytest.raises(ValueError, match="surface 'a' has 1 axes; this picture needs 2"):
        contours([("a", line())], LOSS, tmp_path, *WORDS)
    with pytest.raises(ValueError, match="surface 'b' has 2 axes; this picture needs 1"):
        slices([("b", bowl())], LOSS, tmp_path, *WORDS)


def test_the_range_is_that_of_all_panels():
    assert view_of([("a", bowl()), ("b", holed())], LOSS, 2) == View(0.5, 5.5, False)
    assert view_of([("a", bowl(depth=0.01)), ("b", bowl())], LOSS, 2) == View(0.01, 5.5, True)
    assert view_of([("a", bowl(depth=0.0))], LOSS, 2).logarithmic is False, "0 has no logarithm"


def test_facts_that_are_absent_are_not_printed():
    surface = bowl()
    for fact in FACTS:
        surface.facts.pop(fact)
    assert policies([("a", surface)]) == ""
    assert policies([("a", surface), ("b", bowl(images=1))]).startswith("b - normalisation: filter; biases")


def test_the_first_picture_is_with_and_without_shortcuts_and_as_well_fitted(figures, tmp_path):
    """Of the first seed there is; far away it is cut, so that the valley is seen."""

    def row(arm, where, metric, value):
        return Record("loss_landscape", arm, 100, where, metric, value, "", f"{arm}-100")

    kept = {"plain/plane": rough(), "residual/plane": bowl(), "residual/earlier_30": bowl(depth=0.7)}
    for name, surface in kept.items():
        arm, _, file = name.partition("/")
        (tmp_path / "files" / f"{arm}-s100").mkdir(parents=True, exist_ok=True)
        surface.save(tmp_path / "files" / f"{arm}-s100" / f"{file}.npz")
    rows = [row("plain", "centre", "train/loss", 0.05), row("plain", "plane pair=0", "share_nonconvex", 40.0)]
    for epoch, loss, share in ((3, 1.0, 9.0), (30, 0.06, 12.0)):
        rows += [row("residual", f"earlier epoch={epoch}", "train/loss", loss)]
        rows += [row("residual", f"earlier epoch={epoch}", "share_nonconvex", share)]
    first, second, *_ = draw(Records(rows), tmp_path, ["residual", "plain"])
    assert (first.file, second.file) == ("figures/plane_3d.plotly.json", "figures/plane_train_loss.png")
    traces = json.loads((tmp_path / first.file).read_text())["data"]
    names = [trace["name"] for trace in traces]
    assert names == ["plain", "residual", "residual, epoch 30"]
    assert max(value for trace in traces for line in trace["z"] for value in line) == pytest.approx(1.0), "log10 of 10"
    assert [ax.get_title(loc="left") for ax in figures["plane_train_loss"].axes[:3]] == names
    assert "At that epoch residual fitted about as well as plain does at its end." in first.caption
    assert "is not convex: plain 40 %, residual, epoch 30 12 %." in first.caption
    assert "Above 10 nats it is cut." in first.caption
