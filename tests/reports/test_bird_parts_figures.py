"""What the figures of `bird_parts` show, read from the drawings before they are written."""

import numpy as np
import pytest
from matplotlib.colors import same_color

from ablations.bird_parts import BODY, COUNTS, FOUR, HEAD, TRAINED, TWO, UNTRAINED
from ablations.harness.store.files import write_npz
from ablations.harness.store.records import Record, Records, point
from reports.charts.style import GREEN, ORANGE, PURPLE, SKY
from reports.drawings.bird_parts import ARMS, draw, draw_parts, draw_windows

SEEDS = (0, 1, 2)
WINDOW = (ORANGE, SKY, PURPLE, GREEN)
PICTURES = 7  # one more than a sheet has columns


def row(arm, seed, where, metric, value):
    return Record("bird_parts", arm, seed, where, metric, float(value), "%", f"{arm}-{seed}")


def share(number, when, part, seed):
    """A share in % that no other transformer, time, part or seed has."""
    return 40 * (when == TRAINED) + 8 * number + 4 * (part == HEAD) + seed


@pytest.fixture
def records():
    rows = [
        row(arm, seed, "test", "test/top1_error", 10 * place + seed)
        for place, arm in enumerate(ARMS, start=1)
        for seed in SEEDS
    ]
    rows += [
        row(arm, seed, point("epoch", epoch=epoch), "train/loss", place + 1 / epoch)
        for place, arm in enumerate(ARMS, start=1)
        for seed in SEEDS
        for epoch in (1, 2)
    ]
    rows += [
        row(arm, seed, point("window", when=when, transformer=number), f"looks/{part}", share(number, when, part, seed))
        for arm, count in COUNTS.items()
        for number in range(1, count + 1)
        for seed in SEEDS
        for when in (TRAINED, UNTRAINED)
        for part in (HEAD, BODY)
    ]
    return Records(rows)


def test_windows_before_training_stand_above_those_after_it(records, figures, tmp_path):
    rng = np.random.default_rng(0)
    kept = {}
    for arm, count in COUNTS.items():
        kept[arm] = {
            "images": rng.integers(0, 256, (PICTURES, 5, 5, 1), np.uint8),
            "centres": rng.uniform(-1, 1, (PICTURES, 2, 2)),
            "visible": rng.random((PICTURES, 2)) < 0.5,
            TRAINED: rng.uniform(-1, 1, (count, PICTURES, 4)),
            UNTRAINED: rng.uniform(-1, 1, (count, PICTURES, 4)),
        }
        write_npz(tmp_path / "files" / f"{arm}-s1" / "windows.npz", **kept[arm])
    draw_windows(records, tmp_path)
    (ax,) = figures["windows"].axes
    assert [text.get_text() for text in ax.texts] == ["2\nuntrained", "2\ntrained", "4\nuntrained", "4\ntrained"]
    pictures, lines = iter(ax.images), iter(ax.lines)
    for number, (arm, when) in enumerate((arm, when) for arm in COUNTS for when in (UNTRAINED, TRAINED)):
        for place in range(6):
            picture, found = next(pictures), kept[arm]
            left, right, bottom, top = picture.get_extent()
            assert number < top < bottom < number + 1
            assert np.array_equal(picture.get_array(), found["images"][place, :, :, 0])
            for part, shape in enumerate("os"):
                if found["visible"][place, part]:
                    mark = next(lines)
                    x, y = (found["centres"][place, part] + 1) / 2
                    assert mark.get_marker() == shape
                    assert mark.get_xydata()[0] == pytest.approx((left + x * (right - left), top + y * (bottom - top)))
            for box, colour in zip(found[when][:, place], WINDOW, strict=False):
                line = next(lines)
                x, y = line.get_xydata()[[0, 2]].T  # of the upper left and the lower right corner
                assert x == pytest.approx(left + (box[[0, 2]] + 1) / 2 * (right - left))
                assert y == pytest.approx(top + (box[[1, 3]] + 1) / 2 * (bottom - top))
                assert (line.get_marker(), line.get_color()) == ("None", colour)
    assert next(lines, None) is next(pictures, None) is None


def test_windows_of_a_network_that_was_not_kept_untrained(records, figures, tmp_path):
    colour = np.zeros((2, 5, 5, 3), np.uint8) + np.uint8([10, 20, 30])
    centres, visible = np.zeros((2, 2, 2)), np.ones((2, 2), bool)
    path = tmp_path / "files" / f"{FOUR}-s0" / "windows.npz"
    write_npz(path, images=colour, centres=centres, visible=visible, trained=np.zeros((4, 2, 4)))
    draw_windows(records, tmp_path)
    (ax,) = figures["windows"].axes
    assert [text.get_text() for text in ax.texts] == ["4\ntrained"]
    assert np.array_equal(ax.images[1].get_array(), colour[1])


def test_heads_go_to_the_right_and_bodies_up(records, figures, tmp_path):
    draw_parts(records, tmp_path)
    figure = figures["parts"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == [ARMS[TWO], ARMS[FOUR]]
    assert {ax.get_ylabel() for ax in figure.axes} == {"at a body (%)"}
    assert figure.axes[-1].get_xlabel() == "at a head (%)"
    for ax, count in zip(figure.axes, COUNTS.values(), strict=True):
        diagonal, *dots = ax.lines
        assert diagonal.get_xydata().tolist() == [[0, 100], [100, 0]]
        expected = [(when, number) for when in (UNTRAINED, TRAINED) for number in range(1, count + 1)]
        for line, (when, number) in zip(dots, expected, strict=True):
            points = [[share(number, when, part, seed) for part in (HEAD, BODY)] for seed in SEEDS]
            assert line.get_xydata().tolist() == points
            assert line.get_color() == WINDOW[number - 1]
            assert (line.get_markerfacecolor() == "none") == (when == UNTRAINED), "hollow before training"
    keys = figure.legends[0].get_lines()
    named = [f"transformer {number}" for number in range(1, 5)]
    assert [key.get_label() for key in keys] == [*named, UNTRAINED, TRAINED]
    assert [key.get_color() for key in keys[:4]] == list(WINDOW)


def test_an_arm_has_one_name_and_one_colour(records, figures, tmp_path):
    draw(records, tmp_path)
    (errors,) = figures["errors"].axes
    names = [tick.get_text() for tick in errors.get_yticklabels()]
    dots = dict(zip(names, errors.collections, strict=True))
    keys = {key.get_label(): key.get_color() for key in figures["training_loss"].legends[0].get_lines()}
    assert list(keys) == names == list(ARMS.values())
    assert len(set(keys.values())) == 4
    (losses,) = figures["training_loss"].axes
    for place, name in enumerate(ARMS.values(), start=1):
        assert dots[name].get_offsets()[:, 0].tolist() == [10 * place + seed for seed in SEEDS]
        assert same_color(dots[name].get_facecolor()[0, :3], keys[name])
        curves = [line for line in losses.lines if line.get_color() == keys[name]]
        assert {tuple(line.get_ydata()) for line in curves} == {(place + 1, place + 0.5)}
    crosses = {round(line.get_ydata()[0]): list(line.get_xdata()) for line in errors.lines if line.get_marker() == "x"}
    assert crosses == {0: pytest.approx([17.7]), 1: pytest.approx([16.9, 16.1]), 2: pytest.approx([15.9])}, (
        "the paper's"
    )
