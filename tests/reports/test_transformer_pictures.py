"""What the pictures of spatial transformers show, read from the drawing itself before it is written."""

from statistics import fmean

import numpy as np
import pytest
from invented_transformers import invented_records, write_files
from matplotlib.colors import same_color
from PIL import Image

from reports.charts import animation
from reports.charts.animation import animate
from reports.charts.style import BLUE, GREEN, INK, ORANGE, SKY
from reports.drawings.spatial_transformer import RESOLUTIONS, draw
from reports.drawings.transformer_errors import PAPER, draw_gaps, values
from reports.drawings.transformer_pictures import (
    COLUMNS,
    LABEL,
    Kept,
    draw_looks,
    draw_pairs_found,
    draw_sums,
    read_arrays,
)
from reports.drawings.transformer_poses import draw_poses

ONE, OTHER, SUM, PAIR = "rts_st_cnn_affine", "rts_st_fcn_tps", "addition_two_st", "colocalise_translated"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the files of a few arms, and their records."""
    folder, records = tmp_path_factory.mktemp("kept"), invented_records([0, 1], (ONE, OTHER, SUM, PAIR))
    write_files(folder, records)
    return folder, records


def cells(figure):
    """The images of a sheet by (row, column), row 0 above, each within its own cell."""
    (ax,) = figure.axes
    lowest, highest = ax.get_ylim()
    assert lowest > highest, "the first row is above"
    lefts = sorted({image.get_extent()[0] for image in ax.images})
    assert min(np.diff(lefts)) == pytest.approx(1)
    found = {}
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        assert image.origin == "upper"
        assert 0 < right - left == pytest.approx(bottom - top)
        assert int(top) == int(bottom)
        assert found.setdefault((int(top), lefts.index(left)), image) is image
    return found


def over(image, fractions):
    """Where points (n, 2) of an image, fractions of its width, stand in the figure, the first again at the end."""
    left, right, bottom, top = image.get_extent()
    x, y = np.append(fractions, fractions[:1], axis=0).T
    return np.stack([left + x * (right - left), top + y * (bottom - top)], axis=1)


def shown(line):
    return np.stack(line.get_data(), axis=1)


def labels(figure):
    """The words in front of the rows, from the first row to the last."""
    (ax,) = figure.axes
    words = [text for text in ax.texts if text.get_position()[0] < 1]
    return [text.get_text() for text in sorted(words, key=lambda text: text.get_position()[1])]


def test_windows_lie_where_they_were_kept_and_below_is_what_they_gave(kept, figures):
    folder, _ = kept
    draw_looks(folder, "looks_rts", "title", [Kept(folder, ONE, [0], "one"), Kept(folder, OTHER, [1], "other")])
    sheet = figures["looks_rts"]
    images = cells(sheet)
    assert labels(sheet) == ["one", "gives", "other", "gives"]
    assert images.keys() == {(row, column) for row in range(4) for column in range(COLUMNS)}
    lines = iter(sheet.axes[0].lines)
    for row, path in ((0, f"{ONE}-s0"), (2, f"{OTHER}-s1")):
        arrays = read_arrays(folder / "files" / path / "looks.npz")
        for column in range(COLUMNS):
            image = images[row, column]
            assert np.array_equal(image.get_array(), arrays["images"][column])
            assert np.array_equal(images[row + 1, column].get_array(), arrays["outputs"][column])
            window, dot = next(lines), next(lines)
            expected = over(image, (arrays["outlines"][column] + 0.5) / arrays["images"].shape[-1])
            assert np.allclose(shown(window), expected)
            assert np.allclose(shown(dot), expected[:1])
            assert (dot.get_marker(), window.get_color(), dot.get_color()) == ("o", ORANGE, ORANGE)
            for line in (window, dot):  # of which nothing is seen in the neighbours
                seen = line.clipbox.transformed(sheet.axes[0].transData.inverted())
                assert seen.extents == pytest.approx([LABEL + column, row + 1, LABEL + column + 1, row])
    assert next(lines, None) is None
    assert {image.get_clim() for image in images.values()} == {(0, 255)}


def test_both_channels_of_a_sum_have_the_windows_of_both_transformers(kept, figures):
    folder, _ = kept
    draw_sums([Kept(folder, SUM, [0], "two STs")])
    sheet = figures[f"looks_{SUM}"]
    images, arrays = cells(sheet), read_arrays(folder / "files" / f"{SUM}-s0" / "looks.npz")
    assert labels(sheet) == ["digit 1", "digit 2", "orange\ngives", "and", "blue\ngives", "and"]
    heads = [text.get_text() for text in sheet.axes[0].texts if text.get_text().startswith("sum")]
    assert heads == [f"sum {label}" for label in arrays["labels"][:COLUMNS]]
    lines = [line for line in sheet.axes[0].lines if line.get_marker() == "None"]
    for channel in range(2):
        for column in range(COLUMNS):
            image = images[channel, column]
            assert np.array_equal(image.get_array(), arrays["images"][column, channel])
            for transformer, colour in enumerate((ORANGE, SKY)):
                given = images[2 + 2 * transformer + channel, column].get_array()
                assert np.array_equal(given, arrays["outputs"][transformer, column, channel])
                line = lines[2 * (COLUMNS * channel + column) + transformer]
                window = (arrays["outlines"][transformer, column] + 0.5) / arrays["images"].shape[-1]
                assert np.allclose(shown(line), over(image, window))
                assert line.get_color() == colour


def test_true_boxes_of_pairs_are_green_and_found_ones_orange(kept, figures):
    folder, _ = kept
    draw_pairs_found([Kept(folder, PAIR, [0], "same digit")])
    sheet = figures["pairs_found"]
    images, arrays = cells(sheet), read_arrays(folder / "files" / f"{PAIR}-s0" / "pairs.npz")
    assert labels(sheet) == ["same\ndigit", "their\npartners"]
    lines = iter(sheet.axes[0].lines)
    for member in range(2):
        for column in range(COLUMNS):
            image = images[member, column]
            assert np.array_equal(image.get_array(), arrays["images"][column, member])
            for name, colour, dashes in (("true_boxes", GREEN, "--"), ("found_boxes", ORANGE, "-")):
                left, top, right, bottom = (arrays[name][column, member] + 1) / 2
                line = next(lines)
                corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
                assert np.allclose(shown(line), over(image, corners))
                assert (line.get_color(), line.get_linestyle()) == (colour, dashes)
    assert next(lines, None) is None


def test_found_poses_stand_against_the_true_ones(kept, figures):
    folder, records = kept
    (told,) = draw_poses(records, folder, ONE)
    arrays = read_arrays(folder / "files" / f"{ONE}-s0" / "poses.npz")
    axes = figures["poses"].axes
    scale = np.linalg.lstsq(arrays["true_scale"][:, None], arrays["found_scale"], rcond=None)[0].item()
    assert 0.5 < scale < 0.7, "as invented, and not 1"
    slopes = {"angle": 1.0, "scale": scale, "shift": 1.0}
    units = {"angle": "angle (degrees)", "scale": "scale", "shift": "shift (half image widths)"}
    for ax, (what, slope) in zip(axes, slopes.items(), strict=True):
        true, found = (arrays[f"{which}_{what}"].reshape(300, -1) for which in ("true", "found"))
        assert len(ax.collections) == true.shape[1]
        for column, (dots, colour) in enumerate(zip(ax.collections, (BLUE, ORANGE), strict=False)):
            assert np.allclose(dots.get_offsets(), np.stack([true[:, column], found[:, column]], axis=1))
            assert same_color(dots.get_facecolor()[0, :3], colour)
        assert (ax.get_xlabel(), ax.get_ylabel()) == (f"true {units[what]}", f"found {what}")
        (dashes,) = ax.lines
        (left, low), (right, high) = shown(dashes)
        assert (left, right) == (true.min(), true.max())
        assert (low, high) == pytest.approx((slope * left, slope * right))
        mean = fmean(values(records, ONE, "pose", f"{what}/correlation").values())
        assert ax.get_title(loc="left") == f"correlation {mean:.2f}, mean of 2 seeds"
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["along x", "along y"]
    assert "of one seed" in told.caption


def test_the_cross_of_a_gap_is_the_papers(figures, tmp_path):
    arms = ("r_cnn", "r_st_cnn_affine", "r_st_cnn_projective", "tc_cnn", "tc_st_cnn_affine")
    records = invented_records(arms=arms)
    assert draw_gaps(records, tmp_path, "gaps", "title", {"panel": ("cnn", "st_cnn")}, "said.")
    (ax,) = figures["gaps"].axes
    crosses = [shown(line)[0] for line in ax.lines if line.get_marker() == "x"]
    bars = [shown(line) for line in ax.lines if line.get_color() == INK and line.get_linewidth() == 2]
    pairs = [("r_cnn", "r_st_cnn_affine"), ("r_cnn", "r_st_cnn_projective"), ("tc_cnn", "tc_st_cnn_affine")]
    assert [y for _, y in crosses] == pytest.approx([0.5, 0.4, 1.8]), "of table 1 and appendix A.4"
    for (plain, transformed), cross, bar, dots in zip(pairs, crosses, bars, ax.collections, strict=True):
        assert cross[1] == pytest.approx(PAPER[plain] - PAPER[transformed])
        assert set(dots.get_offsets()[:, 0]) == {cross[0]}, "over the seeds that it is compared with"
        assert bar.mean(axis=0) == pytest.approx([cross[0], np.mean(dots.get_offsets()[:, 1])])
    legend = [text.get_text() for text in figures["gaps"].legends[0].get_texts()]
    assert legend == ["affine", "projective", "the paper"]


def test_resolutions_are_errors_against_multiply_adds(figures, tmp_path):
    records = invented_records(arms=[arm for arms in RESOLUTIONS.values() for arm in arms])
    draw(records, tmp_path)
    (ax,) = figures["resolution"].axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("multiply-adds of an image (M)", "test error (%)")
    legend = figures["resolution"].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == list(RESOLUTIONS) == ["CNN", "ST-CNN"]
    dots = {tuple(point) for each in ax.collections for point in each.get_offsets()}
    expected = set()
    for line, key, arms in zip(ax.lines, legend.get_lines(), RESOLUTIONS.values(), strict=True):
        points = []
        for arm in arms:
            (cost,) = set(values(records, arm, "network", "multiply_adds").values())
            points.append((cost, fmean(values(records, arm).values())))
            expected |= {(cost, value) for value in values(records, arm).values()}
        assert shown(line).tolist() == [pytest.approx(point) for point in sorted(points)]
        assert line.get_color() == key.get_color()
    assert dots == expected
    assert len(dots) == 15, "three seeds of five arms"


def dense(corners):
    """Points of a closed line (n, 2), so many that no pixel of it is passed over."""
    steps = np.arange(20)[:, None, None] / 20
    return (corners + steps * (np.roll(corners, -1, axis=0) - corners)).reshape(-1, 2)


def orange_at(frame, points):
    """Whether a pixel next to each point (n, 2), x first, is coloured, which nothing but the window is."""
    strength = frame[..., 0] - frame[..., 2]
    x, y = points.astype(int).T
    return np.array([strength[b - 1 : b + 2, a - 1 : a + 2].max() for a, b in zip(x, y, strict=True)]) > 60


def test_the_window_in_the_first_and_the_last_frame_is_where_it_was_then(kept):
    folder, _ = kept
    (made,) = animate(Kept(folder, ONE, [0]), "training", "title")
    frames = []
    with Image.open(folder / made.file) as gif:
        for number in (0, gif.n_frames - 1):
            gif.seek(number)
            frames.append(np.asarray(gif.convert("RGB"), dtype=int))
    arrays = read_arrays(folder / "files" / f"{ONE}-s0" / "training.npz")
    for place in range(animation.PAIRS):
        corner = np.array([place % 2 * 2 * animation.CELL, animation.HEAD + place // 2 * animation.CELL])
        first, last = (
            dense(animation.MARGIN + (outlines[place] + 0.5) / arrays["images"].shape[-1] * animation.SIDE)
            for outlines in (arrays["outlines"][0], arrays["outlines"][-1])
        )
        for frame, own, foreign in ((frames[0], first, last), (frames[1], last, first)):
            inside = own[((own > 2) & (own < animation.CELL - 3)).all(axis=1)]
            assert len(inside) > 300
            assert orange_at(frame, corner + inside).all()
            far = np.linalg.norm(foreign[:, None] - own[None], axis=2).min(axis=1) > 8  # further than the dot is wide
            away = foreign[far & ((foreign > 2) & (foreign < animation.CELL - 3)).all(axis=1)]
            assert len(away) > 100
            assert not orange_at(frame, corner + away).any()
