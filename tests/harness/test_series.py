"""Series compute what they say: order, pairing, reductions, and values that are no numbers."""

import math

import pytest
from scipy.stats import spearmanr

from ablations.harness.declare.measure import Quantity, top1_error
from ablations.harness.declare.series import PLACES, Series, along, reduced
from ablations.harness.store.records import Record, Records, point

harm, whole = Quantity("harm", "%", "harm", "delete"), Quantity("harm", "%", "whole", "intact")


def records(arm: str = "a", seed: int = 0, before: float = 0.0, **of_places: float) -> Records:
    """Values of places x1, x2, ... in this order; before: of the network itself."""
    rows = [(point("delete", layer=place[1:]), value) for place, value in of_places.items()]
    rows.append((point("intact"), before))
    return Records(Record("x", arm, seed, where, "harm", value, "%", arm) for where, value in rows)


def layers(arm: str = "a", downwards: bool = False) -> Series:
    return along(harm(arm), "layer", downwards)


def test_values_stand_in_the_order_of_the_field_and_not_of_the_rows() -> None:
    rows = records(x10=5.0, x2=1.0, x9=3.0)
    assert layers().by_seed(rows) == {0: [(2, 1), (9, 3), (10, 5)]}
    assert layers(downwards=True).by_seed(rows) == {0: [(-10, 5), (-9, 3), (-2, 1)]}
    assert layers().after(2).by_seed(rows) == {0: [(9, 3), (10, 5)]}
    assert layers().starting_at(whole("a")).steps().by_seed(rows) == {0: [(2, 1), (9, 2), (10, 2)]}
    with pytest.raises(ValueError, match="no quantity of one arm"):
        along(top1_error("a") - top1_error("b"), "layer")


def test_places_are_paired_and_a_measure_is_the_same_at_all_of_them() -> None:
    rows = Records([*records(x1=4.0, x2=8.0, x3=6.0, before=2.0), *records("b", x2=2.0, x3=0.0, x4=1.0)])
    ratio = layers() / layers("b")
    assert ratio.by_seed(rows) == {0: [(2, 4)]}, "no value where the divisor is not above 0"
    assert ratio.log2().over("mean").by_seed(rows) == {0: 2}
    assert ratio.arms == ("a", "b")
    small = (0.001 * layers()).log10("decades")
    assert small.absolute().over("greatest").by_seed(rows) == {0: pytest.approx(-math.log10(0.004))}
    assert (small.unit, layers("b").log10().by_seed(rows)) == ("decades", {0: [(2, math.log10(2)), (4, 0)]})
    assert (100 * (layers() - whole("a")) / whole("a")).by_seed(rows) == {0: [(1, 100), (2, 300), (3, 200)]}
    assert (layers() - whole("c")).by_seed(rows) == {}
    assert ratio.formula == "([harm at delete of a] along layer / [harm at delete of b] along layer)"


def test_values_of_one_place_are_averaged() -> None:
    rows = Records([*records(x1=4.0, x2=8.0), *records(x1=5.0)])
    assert layers().averaged().by_seed(rows) == {0: [(1, 4.5), (2, 8)]}


def test_reductions() -> None:
    rows = Records([*records(x1=4.0, x2=1.0, x3=2.0, x4=3.0, x5=9.0, x6=9.0, x7=8.0), *records(seed=1, x1=2.0, x2=2.0)])
    assert [layers().over(each).by_seed(rows)[0] for each in ("least", "median", "greatest")] == [1, 4, 9]
    assert layers().first(3).by_seed(rows) == {0: 2.5, 1: 2}
    assert layers().last(3).by_seed(rows) == {0: 8.5, 1: 2}
    assert layers().rise().by_seed(rows) == {0: 4, 1: 0}
    assert layers().share_below(4).by_seed(rows) == {0: pytest.approx(300 / 7), 1: 100}
    assert layers().rises().by_seed(rows) == {0: pytest.approx((15 - 5) / 21), 1: 0}, "20 pairs of 21 differ"
    expected = spearmanr(range(7), [4, 1, 2, 3, 9, 9, 8]).statistic
    assert layers().rank_correlation().by_seed(rows) == {0: pytest.approx(expected)}, "none where all are alike"
    assert layers(downwards=True).rank_correlation().by_seed(rows) == {0: pytest.approx(-expected)}


def test_what_is_no_number_is_passed_over_by_nothing_and_no_value_is_none() -> None:
    rows = Records([*records(x1=4.0, x2=math.nan, x3=1.0), *records(seed=1)])
    every = [
        layers().over("least"), layers().share_below(2), layers().first(3), layers().rises(), layers().log2().last(1),
        layers().rank_correlation(), reduced("sum", lambda a, b: sum(a + b), layers(), layers().after(2)),
    ]  # fmt: skip
    for measure in every:
        found = measure.by_seed(rows)
        assert found.keys() == {0}
        assert math.isnan(found[0])
    assert reduced("nothing", lambda places, values: None, layers()).by_seed(records(x1=1.0)) == {}


def test_a_series_is_made_up_place_by_place() -> None:
    measure = (layers() - whole("a")).over("mean")
    assert len(measure.leaves) == PLACES + 1
    rows = [
        Record("x", arm, 0, where, metric, value, "", "")
        for number, leaf in enumerate(measure.leaves)
        for arm, where, metric, value in leaf.invent(number)
    ]
    assert measure.by_seed(Records(rows)) == {0: sum(range(PLACES)) / PLACES - PLACES}
