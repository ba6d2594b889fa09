"""What the figures of `house_numbers` show, read from the drawings before they are written, and its table."""

import csv
from statistics import fmean

import pytest

from ablations.harness.store.records import Record, Records, point
from ablations.house_numbers import CNN, MULTI, SINGLE, SLOWER
from reports.charts.style import BLUE, FAINT, INK, ORANGE
from reports.drawings.house_numbers import ARMS, draw

SEEDS = (0, 1)
SECONDS = {CNN: 1.0, SINGLE: 1.1, MULTI: 1.06}
MULTIPLY_ADDS = {CNN: 100.0, SINGLE: 105.0, MULTI: 102.0}


def row(arm, seed, where, metric, value):
    return Record("house_numbers", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def wrong(arm, seed, what, at):
    """An error in % that no other arm, seed and place has."""
    return 20 * list(ARMS).index(arm) + 3 * at + seed + (0.5 if what == "place" else 0)


@pytest.fixture
def records():
    rows = []
    for seed in SEEDS:
        for arm in ARMS:
            rows.append(row(arm, seed, "test", "test/top1_error", 30 + seed))
            for what, places in (("length", range(6)), ("place", range(1, 6))):
                rows += [
                    row(arm, seed, point(what, **{what: at}), "error", wrong(arm, seed, what, at)) for at in places
                ]
            rows.append(row(arm, seed, point("epoch", epoch=1), "train/loss", 1.0))
            rows.append(row(MULTI, seed, point("timed", network=arm), "multiply_adds", MULTIPLY_ADDS[arm]))
            seconds = SECONDS[arm] + 0.01 * seed * (arm != CNN)
            rows.append(row(MULTI, seed, point("timed", network=arm, round=0), "seconds", seconds))
        for arm, count in ((SINGLE, 1), (MULTI, 4)):
            for number in range(count + 1):
                where = point("window", transformer=number)
                for metric, value in (("area", 100), ("overlap", 50), ("covers", 90)):
                    found = value - 10 * number + seed + (arm == SINGLE)
                    rows.append(row(arm, seed, where, f"window/{metric}", found))
    return Records(rows)


@pytest.fixture
def page(records, figures, tmp_path):
    """What is drawn, by name, and the figures' folder."""
    draw(records, tmp_path)
    return figures, tmp_path / "figures"


def test_a_row_tells_of_one_window(page):
    _, folder = page
    with open(folder / "windows.csv", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert [word.partition(",")[0] for word in header] == [
        "arm", "transformer", "window's area", "overlap with the number", "part of the number inside",
    ]  # fmt: skip
    assert rows[0] == ["the whole image", "", "101.5", "51.5", "91.5"], "once, because it is the same for all arms"
    assert rows[1] == ["one in front", "1", "91.5", "41.5", "81.5"]
    assert rows[2:] == [["four inside", str(n), *(f"{v - 10 * n + 0.5:g}" for v in (100, 50, 90))] for n in range(1, 5)]


def test_dots_are_times_and_the_orange_bar_is_multiply_adds(page):
    made, _ = page
    (ax,) = made["costs"].axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["one in front", "four inside"]
    assert [dots.get_offsets().tolist() for dots in ax.collections] == [
        [pytest.approx([0, 10]), pytest.approx([0, 11])],
        [pytest.approx([1, 6]), pytest.approx([1, 7])],
    ]
    bars = {
        (round(fmean(line.get_xdata())), line.get_color()): pytest.approx(list(line.get_ydata()))
        for line in ax.lines
        if line.get_color() != FAINT
    }
    expected = {(0, INK): [10.5] * 2, (0, ORANGE): [5.0] * 2, (1, INK): [6.5] * 2, (1, ORANGE): [2.0] * 2}
    assert bars == expected
    (limit,) = (line for line in ax.lines if line.get_color() == FAINT and line.get_ydata()[0] != 0)
    assert list(limit.get_ydata()) == pytest.approx([2.0 + SLOWER] * 2)
    assert min(limit.get_xdata()) > 0.5, "it stands beside the four, of which the paper says it"
    keys = {key.get_label(): key.get_color() for key in made["costs"].legends[0].get_lines()}
    assert (keys["time, one seed"], keys["time, mean"], keys["multiply-adds"]) == (BLUE, INK, ORANGE)


def test_lines_join_the_mean_errors_of_lengths_and_places(page):
    made, _ = page
    axes = made["where"].axes
    assert [ax.get_xlabel() for ax in axes] == ["digits in the number", "place in the number"]
    keys = {key.get_label(): key.get_color() for key in made["where"].legends[0].get_lines()}
    assert list(keys) == list(ARMS.values())
    assert len(set(keys.values())) == 3
    for ax, what, places in zip(axes, ("length", "place"), (range(6), range(1, 6)), strict=True):
        dots = {tuple(spot) for each in ax.collections for spot in each.get_offsets()}
        assert dots == {(at, wrong(arm, seed, what, at)) for arm in ARMS for seed in SEEDS for at in places}
        for line, (arm, name) in zip(ax.lines, ARMS.items(), strict=True):
            assert line.get_xydata().tolist() == [[at, wrong(arm, 0, what, at) + 0.5] for at in places]
            assert line.get_color() == keys[name]
        assert ax.get_ylim()[0] == 0


def test_arms_have_names_for_readers(page):
    made, _ = page
    (ax,) = made["pairs"].axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(ARMS.values())
    losses = [key.get_label() for key in made["training_loss"].legends[0].get_lines()]
    assert losses == list(ARMS.values())
