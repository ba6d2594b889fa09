"""Measures compute what they say: pairing, runs that diverged, words, units and arms of an expression."""

import math

import pytest

from ablations.harness.declare.measure import (
    Quantity,
    absolute,
    counted,
    greatest,
    least,
    log2,
    mean_of,
    top1_error,
    where_at_least,
    won,
)  # fmt: skip
from ablations.harness.store.records import Record, Records, point

NAN = math.nan


def records(*rows: tuple[str, int, str, str, float]) -> Records:
    return Records(Record("x", arm, seed, where, metric, value, "", arm) for arm, seed, where, metric, value in rows)


def errors(**of_arms: list[float]) -> Records:
    return records(
        *((arm, seed, "test", "test/top1_error", v) for arm, vs in of_arms.items() for seed, v in enumerate(vs))
    )


def test_differences_are_paired_by_seed_and_say_what_they_are() -> None:
    measure = top1_error("plain") - top1_error("residual")
    assert measure.by_seed(errors(plain=[5, 7, 9], residual=[4, 3])) == {0: 1, 1: 4}
    assert (measure.says, measure.unit) == ("test error, plain minus residual", "% points")
    assert measure.arms == ("plain", "residual")
    assert str(measure) == "([test/top1_error at test of plain] - [test/top1_error at test of residual])"
    again = 2 * (measure - 1) / top1_error("plain")
    assert again.by_seed(errors(plain=[4, 0], residual=[1, 1])) == {0: 1}, "no value where the divisor is not above 0"
    assert again.arms == ("plain", "residual")
    assert (3 - top1_error("plain")).by_seed(errors(plain=[1])) == {0: 2}


@pytest.mark.parametrize("values", [[1.0, NAN, 2.0], [NAN, 1.0, 2.0], [2.0, 1.0, NAN]])
@pytest.mark.parametrize("over", ["mean", "median", "least", "greatest"])
def test_what_is_no_number_is_passed_over_by_nothing(values: list[float], over: str) -> None:
    rows = records(*(("a", 0, point("layer", place=place), "norm", value) for place, value in enumerate(values)))
    quantity = Quantity("norm", probe="layer", over=over)
    assert math.isnan(quantity("a").by_seed(rows)[0])
    share = Quantity("norm", probe="layer", share_from=1.5)
    assert math.isnan(share("a").by_seed(rows)[0])
    assert share("a").by_seed(Records(row for row in rows if math.isfinite(row.value))) == {0: 50.0}


def test_a_run_that_diverged_or_ended_above_guessing_counts_as_guessing_where_asked() -> None:
    rows = records(
        ("a", 0, point("epoch", epoch=2), "loss", 0.5), ("a", 0, point("epoch", epoch=10), "loss", 0.25),
        ("a", 1, point("epoch", epoch=1), "loss", 4.0), ("b", 0, "chance", "loss", 2.0),
        ("a", 2, point("epoch", epoch=1), "loss", 1.0), ("a", 2, "diverged", "step", 9.0),
    )  # fmt: skip
    last = Quantity("loss", probe="epoch", over="last")
    assert last("a").by_seed(rows) == {0: 0.25, 1: 4.0, 2: 1.0}
    assert Quantity("loss", probe="epoch", over="last", guessing="loss")("a").by_seed(rows) == {0: 0.25, 1: 4.0, 2: 2.0}
    capped = Quantity("loss", probe="epoch", over="last", guessing="loss", capped=True)
    assert capped("a").by_seed(rows) == {0: 0.25, 1: 2.0, 2: 2.0}
    nobody = Records(row for row in rows if row.probe != "chance")
    assert capped("a").by_seed(nobody) == {0: 0.25, 1: 4.0}


def test_several_measures_of_a_seed() -> None:
    rows = errors(a=[1, 8, NAN], b=[4, 2, 1], c=[4, 2])
    a, b = top1_error("a"), top1_error("b")
    assert mean_of(a, b).by_seed(Records(row for row in rows if row.seed < 2)) == {0: 2.5, 1: 5}
    assert greatest(a, b).by_seed(rows) == pytest.approx({0: 4, 1: 8, 2: NAN}, nan_ok=True)
    assert least(b, a).by_seed(rows) == pytest.approx({0: 1, 1: 2, 2: NAN}, nan_ok=True)
    assert won(a - b).by_seed(rows) == pytest.approx({0: 0, 1: 100, 2: NAN}, nan_ok=True)
    assert won(b - top1_error("c")).by_seed(rows) == {0: 50, 1: 50}
    assert log2(b - 1).by_seed(rows) == {0: pytest.approx(math.log2(3)), 1: 0}
    assert absolute(a - b).by_seed(rows)[0] == 3


def test_a_seed_counts_where_another_measure_is_large_enough() -> None:
    rows = errors(a=[1, 2, 3, 4, 5], b=[10, 9, NAN, 11])
    found = where_at_least(top1_error("a"), top1_error("b"), 10.0)
    assert found.by_seed(rows) == {0: 1, 3: 4}
    assert found.arms == ("a", "b")
    assert str(found) == "([test/top1_error at test of a] where [test/top1_error at test of b] >= 10)"


def test_a_count_is_one_value_of_all_seeds() -> None:
    rows = errors(a=[3, NAN, 5])
    assert [counted(top1_error("a"), pick).by_seed(rows) for pick in ("first", "least", "greatest")] == [
        {0: 3}, {0: 3}, {0: 5}
    ]  # fmt: skip
    assert counted(top1_error("a")).exact
    assert (counted(top1_error("a")) / counted(top1_error("a"))).exact
    assert not (top1_error("a") - top1_error("b")).exact
    assert counted(top1_error("b")).by_seed(rows) == {}


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="over 'most'; allowed: one, mean, median, least, greatest, last"):
        Quantity("loss", over="most")
