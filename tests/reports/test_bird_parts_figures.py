"""What the pictures of `bird_parts` show, read from the drawings before they are written."""

from itertools import product

import numpy as np
import pytest

from ablations.harness.store.files import write_npz
from ablations.harness.store.records import Record, Records, point
from reports.charts.style import GREEN, ORANGE, PURPLE, SKY
from reports.drawings.bird_parts import draw, draw_parts, draw_windows

SEEDS = (0, 1, 2)
WINDOW = (ORANGE, SKY, PURPLE, GREEN)
COUNTS, ARMS = {"two": 2, "four": 4}, {"two": "two transformers", "four": "four transformers"}
WHEN = ("untrained", "trained")
PICTURES = 7  # one more than a sheet has columns


def share(number, when, part, seed):
    """A share in % that no other transformer, time, part or seed has."""
    return 40.0 * (when == "trained") + 8 * number + 4 * (part == "head") + seed


@pytest.fixture
def records():
    return Records(
        Record("", arm, seed, point("window", when=when, transformer=number), f"looks/{part}",
               share(number, when, part, seed), "%", arm)
        for arm, count in COUNTS.items()
        for number, seed, when, part in product(range(1, count + 1), SEEDS, WHEN, ("head", "body"))
    )  # fmt: skip


def test_windows_before_training_stand_above_those_after_it(records, figures, tmp_path):
    rng = np.random.default_rng(0)
    kept = {}
    for arm, count in COUNTS.items():
        kept[arm] = {
            "images": rng.integers(0, 256, (PICTURES, 5, 5, 1), np.uint8),
            "centres": rng.uniform(-1, 1, (PICTURES, 2, 2)),
            "visible": rng.random((PICTURES, 2)) < 0.5,
            **{when: rng.uniform(-1, 1, (count, PICTURES, 4)) for when in WHEN},
        }
        write_npz(tmp_path / "files" / f"{arm}-s1" / "windows.npz", **kept[arm])
    draw_windows(records, tmp_path, ARMS)
    (ax,) = figures["windows"].axes
    assert [text.get_text() for text in ax.texts] == ["2\nuntrained", "2\ntrained", "4\nuntrained", "4\ntrained"]
    pictures, lines = iter(ax.images), iter(ax.lines)
    for number, (arm, when) in enumerate((arm, when) for arm in COUNTS for when in WHEN):
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


def test_heads_go_to_the_right_and_bodies_up(records, figures, tmp_path):
    lost = Record("", "two", 8, "diverged", "step", 1.0, "", "two")
    (told,) = draw_parts(Records([*records, lost]), tmp_path, ARMS)
    assert told.caption.endswith("Left out, without a value: two seed 8; four seed 8.")
    figure = figures["parts"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(ARMS.values())
    assert {ax.get_ylabel() for ax in figure.axes} == {"at a body (%)"}
    assert figure.axes[-1].get_xlabel() == "at a head (%)"
    for ax, count in zip(figure.axes, COUNTS.values(), strict=True):
        diagonal, *dots = ax.lines
        assert diagonal.get_xydata().tolist() == [[0, 100], [100, 0]]
        expected = [(when, number) for when in WHEN for number in range(1, count + 1)]
        for line, (when, number) in zip(dots, expected, strict=True):
            points = [[share(number, when, part, seed) for part in ("head", "body")] for seed in SEEDS]
            assert line.get_xydata().tolist() == points
            assert line.get_color() == WINDOW[number - 1]
            assert (line.get_markerfacecolor() == "none") == (when == "untrained"), "hollow before training"
    keys = figure.legends[0].get_lines()
    assert [key.get_label() for key in keys] == [*(f"transformer {number}" for number in range(1, 5)), *WHEN]
    assert [key.get_color() for key in keys[:4]] == list(WINDOW)
    assert draw(Records(), tmp_path, ARMS) == []
