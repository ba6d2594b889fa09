"""What the pictures of `spatial_transformer` show, read from the drawings before they are written."""

from statistics import fmean

import numpy as np
import pytest
from invented_looks import strokes
from matplotlib.colors import same_color

from ablations.harness.declare.chart import Drawing
from ablations.harness.declare.measure import top1_error
from ablations.harness.judging.statistics import t_interval
from ablations.harness.store.files import write_npz
from ablations.harness.store.records import Record, Records, point
from ablations.spatial_transformer import ABLATION
from reports.charts.style import BLUE, GREEN, INK, ORANGE
from reports.charts.values import by_seed
from reports.drawings.spatial_transformer import (
    draw,
    draw_gaps,
    draw_pairs_found,
    draw_poses,
    draw_remaining,
    draw_removed,
    draw_table,
)

(DRAWING,) = (chart for chart in ABLATION.charts if isinstance(chart, Drawing))
ARGUMENTS = DRAWING.arguments
PAPER, NAMES, KINDS, TRANSFORMS = (ARGUMENTS[name] for name in ("paper", "names", "kinds", "transforms"))
ARM, SEEDS = ARGUMENTS["posed"]["poses"][0], range(3)


def records(values, where="test", metric="test/top1_error"):
    """Arm -> a value per seed."""
    return Records(
        Record("", arm, seed, where, metric, float(value), "%", arm)
        for arm, found in values.items()
        for seed, value in enumerate(found)
    )


def errors(arms):
    """Test errors that no other arm and seed has."""
    return records({arm: [PAPER[arm] + place + 0.3 * seed**2 for seed in SEEDS] for place, arm in enumerate(arms)})


def test_the_table_holds_the_means_the_intervals_and_the_papers_numbers(figures, tmp_path):
    rows = errors(PAPER)
    (told,) = draw_table(rows, tmp_path, PAPER, NAMES, KINDS)
    assert "Left out" not in told.caption
    assert len(PAPER) == 36
    texts = {text.get_text() for text in figures["table1"].axes[0].texts}
    for arm, paper in PAPER.items():
        mean, low, _ = t_interval(rows.where(arm).values())
        assert {f"{mean:.1f}", f"\N{PLUS-MINUS SIGN}{mean - low:.1f}", f"{paper:.1f}"} <= texts
    assert {"FCN", "ST-FCN Proj", "ST-CNN TPS", "R", "TC"} <= texts
    assert (PAPER["tc_fcn"], PAPER["e_st_cnn_tps"], "tc_st_cnn_tps" in PAPER) == (13.2, 1.1, False)
    (told,) = draw_table(errors(["r_cnn"]), tmp_path, PAPER, NAMES, KINDS)
    assert "Left out, without a value: r_fcn;" in told.caption


def test_gaps_are_differences_paired_by_seed_and_the_cross_is_the_papers(figures, tmp_path):
    pairs = [("r_cnn", "r_st_cnn_affine"), ("r_cnn", "r_st_cnn_projective"), ("tc_cnn", "tc_st_cnn_affine")]
    rows = errors(dict.fromkeys(arm for pair in pairs for arm in pair))
    draw_gaps(rows, tmp_path, PAPER, KINDS, TRANSFORMS, "gaps", "title", {"panel": ("cnn", "st_cnn")}, "said.")
    (ax,) = figures["gaps"].axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["R", "TC"]
    crosses = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "x"]
    bars = [line.get_xydata() for line in ax.lines if line.get_color() == INK and line.get_linewidth() == 2]
    assert [y for _, y in crosses] == pytest.approx([0.5, 0.4, 1.8]), "of table 1 and appendix A.4"
    for (plain, moved), cross, bar, dots in zip(pairs, crosses, bars, ax.collections, strict=True):
        one, other = (by_seed(top1_error, rows, arm) for arm in (plain, moved))
        assert dots.get_offsets()[:, 1].tolist() == pytest.approx([one[seed] - other[seed] for seed in SEEDS])
        assert set(dots.get_offsets()[:, 0]) == {cross[0]}, "over the seeds that it is compared with"
        assert bar.mean(axis=0) == pytest.approx([cross[0], np.mean(dots.get_offsets()[:, 1])])
    legend = [text.get_text() for text in figures["gaps"].legends[0].get_texts()]
    assert legend == ["Aff", "Proj", "the paper"]
    draw_gaps(rows, tmp_path, PAPER, KINDS, TRANSFORMS, "shares", "", {"panel": ("cnn", "st_cnn")}, "", shares=True)
    (ax,) = figures["shares"].axes
    for (plain, moved), dots in zip(pairs, ax.collections, strict=True):
        one, other = (by_seed(top1_error, rows, arm) for arm in (plain, moved))
        wanted = [100 * (1 - other[seed] / one[seed]) for seed in SEEDS]
        assert dots.get_offsets()[:, 1].tolist() == pytest.approx(wanted)
    crosses = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "x"]
    assert crosses == pytest.approx([100 * 0.5 / 1.2, 100 * 0.4 / 1.2, 100 * 1.8 / 3.5])


def test_transforms_that_were_not_planned_are_not_missed(figures, tmp_path):
    rows = errors(arm for arm in PAPER if "_st_" not in arm or arm.endswith("affine"))
    told = draw(rows, tmp_path, **ARGUMENTS)
    assert set(figures) == {"table1", "gaps", "shares", "against_cnn"}
    assert not [each.caption for each in told if "tps" in each.caption or "projective" in each.caption]
    told = draw(errors(arm for arm in PAPER if arm != "r_st_cnn_tps"), tmp_path, **ARGUMENTS)
    assert "r_st_cnn_tps" in told[0].caption, "one that is alone in lacking is"


@pytest.fixture
def poses(tmp_path):
    """Writes poses.npz of an arm and gives its arrays; changes: arrays in place of those."""

    def write(arm, **changes):
        rng = np.random.default_rng(1)
        angle, scale, shift = rng.uniform(-90, 90, 300), rng.uniform(0.7, 1.2, 300), rng.uniform(-0.3, 0.3, (300, 2))
        arrays = {
            "true_angle": angle, "found_angle": 0.8 * angle + rng.normal(0, 15, 300), "true_scale": scale,
            "found_scale": 0.6 * scale + rng.normal(0, 0.03, 300), "true_shift": shift,
            "found_shift": shift + rng.normal(0, 0.05, (300, 2)), "left": rng.normal(0, 20, 300), **changes,
        }  # fmt: skip
        write_npz(tmp_path / "files" / f"{arm}-s0" / "poses.npz", **arrays)
        return arrays

    return write


def test_found_poses_stand_against_the_true_ones(poses, figures, tmp_path):
    arrays = poses(ARM)
    rows = [
        Record("", ARM, seed, "pose", f"{what}/correlation", 0.7 + 0.1 * seed, "", ARM)
        for what in ("angle", "scale", "shift")
        for seed in (0, 1)
    ]
    (told,) = draw_poses(Records(rows), tmp_path, ARM, "poses", "ST-CNN Aff")
    axes = figures["poses"].axes
    scale = np.linalg.lstsq(arrays["true_scale"][:, None], arrays["found_scale"], rcond=None)[0].item()
    assert 0.5 < scale < 0.7, "as invented, and not 1"
    units = {"angle": "angle (degrees)", "scale": "scale", "shift": "shift (half image widths)"}
    for ax, (what, slope) in zip(axes, {"angle": 1.0, "scale": scale, "shift": 1.0}.items(), strict=True):
        true, found = (arrays[f"{which}_{what}"].reshape(300, -1) for which in ("true", "found"))
        assert len(ax.collections) == true.shape[1]
        for column, (dots, colour) in enumerate(zip(ax.collections, (BLUE, ORANGE), strict=False)):
            assert np.allclose(dots.get_offsets(), np.stack([true[:, column], found[:, column]], axis=1))
            assert same_color(dots.get_facecolor()[0, :3], colour)
        assert (ax.get_xlabel(), ax.get_ylabel()) == (f"true {units[what]}", f"found {what}")
        (left, low), (right, high) = ax.lines[0].get_xydata()
        assert (left, right) == (true.min(), true.max())
        assert (low, high) == pytest.approx((slope * left, slope * right))
        assert ax.get_title(loc="left") == "correlation 0.75, mean of 2 seeds"
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["along x", "along y"]
    assert "of one seed" in told.caption
    poses(ARM, true_scale=np.ones(300), true_shift=np.zeros((300, 2)))
    (told,) = draw_poses(Records(rows), tmp_path, ARM, "angles", "ST-FCN Aff")
    assert [ax.get_ylabel() for ax in figures["angles"].axes] == ["found angle"]
    assert told.caption.startswith("ST-FCN Aff on test digits")


def test_remaining_angles_are_read_and_show_the_class_that_stays_upside_down(poses, figures, tmp_path):
    came = np.where(np.arange(300) % 10 == 3, 179.0, 20.0)
    poses(ARM, true_angle=came, left=np.where(came > 90, 170.0, 50.0))
    rows = [*records({ARM: [50, 60]}, "pose", "angle/removed"),
            *records({ARM: [90, 96]}, point("class", label=3), "kept_upside_down")]  # fmt: skip
    (told,) = draw_remaining(Records(rows), tmp_path, {ARM: "turned", "lost": "missing"})
    assert told.caption.endswith(f"Left out, without a value: {ARM}; lost.")
    (ax,) = figures["remaining"].axes
    said = "turned\n55 % of the variation removed within a class\n93 % of class 3 leave upside down"
    assert ax.get_title(loc="left") == said
    upright, turned = ({bar.get_x(): bar.get_height() for bar in bars if bar.get_height()} for bars in ax.containers)
    assert upright == {45: pytest.approx(90)}
    assert turned == {165: pytest.approx(10)}


def test_what_is_taken_away_is_shown_with_every_seed(figures, tmp_path):
    values = {"angle": [10, 20, 30], "scale": [40, 50, 60], "shift": [-300, 80, 90]}
    rows = [row for what, found in values.items() for row in records({ARM: found}, "pose", f"{what}/removed")]
    (told,) = draw_removed(Records(rows), tmp_path, {ARM: "ST-CNN Aff"})
    (ax,) = figures["removed"].axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ST-CNN Aff"]
    seen = [dots.get_offsets()[:, 0].tolist() for dots in ax.collections]
    assert seen == [[10, 20, 30], [40, 50, 60], [80, 90]]
    assert [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "<"] == [[-100.0]]
    assert "An arrow stands for seeds below -100 %; a mean below it has no bar." in told.caption
    assert [fmean(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 2] == [
        20,
        50,
        pytest.approx(-130 / 3),
    ]
    assert draw_removed(Records(rows), tmp_path, {"rts_cnn": "CNN"}) == []


def test_true_boxes_of_pairs_are_green_and_found_ones_orange(figures, tmp_path):
    rng = np.random.default_rng(0)
    boxes = {name: np.sort(rng.uniform(-1, 1, (6, 2, 2, 2)), axis=2).reshape(6, 2, 4) for name in ("true", "found")}
    images = strokes(rng, 6, 2)
    write_npz(
        tmp_path / "files" / "pair-s0" / "pairs.npz", images=images,
        true_boxes=boxes["true"], found_boxes=boxes["found"],
    )  # fmt: skip
    draw_pairs_found(records({"pair": [1]}), tmp_path, {"lost": "other", "pair": "same digit"})
    (ax,) = figures["pairs_found"].axes
    assert [text.get_text() for text in ax.texts] == ["same\ndigit", "their\npartners"]
    pictures, lines = iter(ax.images), iter(ax.lines)
    for member in range(2):
        for column in range(6):
            picture = next(pictures)
            assert np.array_equal(picture.get_array(), images[column, member])
            left, right, bottom, top = picture.get_extent()
            for name, colour, dashes in (("true", GREEN, "--"), ("found", ORANGE, "-")):
                box, line = (boxes[name][column, member] + 1) / 2, next(lines)
                x, y = line.get_xydata()[[0, 2]].T  # of the upper left and the lower right corner
                assert x == pytest.approx(left + box[[0, 2]] * (right - left))
                assert y == pytest.approx(top + box[[1, 3]] * (bottom - top))
                assert (line.get_color(), line.get_linestyle()) == (colour, dashes)
    assert next(lines, None) is next(pictures, None) is None


def test_nothing_is_drawn_from_nothing(tmp_path):
    assert draw(Records(), tmp_path, **ARGUMENTS) == []
