"""Statistics against scipy and brute force, and every rule of the verdicts on invented records."""

import json
import math
from itertools import product
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.harness.declare.ablation import Claim, Test
from ablations.harness.declare.measure import computed
from ablations.harness.judging.statistics import holm, sign_flip_p, smallest_p, t_interval
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import Record, Records, point, read_records, write_csv

CONTRACT = {"claim", "says", "verdict", "estimate", "interval", "unit", "rule", "seeds", "budget", "data"}
CONTRACT |= {"published", "notes_value", "source"}
EIGHT = range(8)
AROUND_40 = [40, 41, 39, 42, 38, 40.5, 39.5, 41.5]
WIDE = [10, 60, 35, 20, 50, 5, 55, 30]
MILD = st.integers(-40, 40).map(lambda eighths: eighths / 8)  # exact in binary: no tie depends on rounding


def errors(arm, values, start=0):
    """One record per seed for `arm`."""
    return [
        Record("remove_layers", arm, seed, point("delete"), "top1_error", value, "%", f"{arm}{seed}")
        for seed, value in enumerate(values, start)
    ]


def gap_records(gaps):
    """Two arms whose error differs by `gaps`, seed by seed."""
    return Records(errors("resnet", [10.0] * len(gaps)) + errors("vgg", [10.0 + gap for gap in gaps]))


def gap(records):
    vgg, resnet = records.by_seed(arm="vgg"), records.by_seed(arm="resnet")
    return {seed: mean(vgg[seed]) - mean(resnet[seed]) for seed in vgg if seed in resnet}


def gap_test(name="gap", at_least=30.0, **changes):
    given = {"says": "the gap", "unit": "% points", "function": gap, "arms": ("resnet", "vgg")} | changes
    at_most = given.pop("at_most", None)
    return Test(name, computed(**given), at_least=at_least, at_most=at_most)


def claim(*tests, id="RL1"):
    return Claim(id, "deleting one layer destroys a VGG", "Veit et al. 2016, figure 3", "90 % error", "", tests)


def judge_one(tests, records, seeds=EIGHT, budget="laptop", num_claims=None):
    return judge([claim(*tests)], records, seeds, budget, "digits", num_claims)[0]


# --- statistics ---


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.5, 3.7, 1.0, -2.0], AROUND_40])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_t_interval_is_scipys(values, level):
    from scipy import stats

    center, low, high = t_interval(values, level)
    expected = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert center == pytest.approx(np.mean(values), rel=1e-12)
    assert (low, high) == pytest.approx(expected, rel=1e-9)


def test_the_t_interval_at_its_edges():
    assert t_interval([2.0]) == (2.0, -math.inf, math.inf)
    assert t_interval([2.0] * 5) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])


@pytest.mark.parametrize("alternative", ["greater", "less"])
@pytest.mark.parametrize("values", [[0.3], [1, 2, 3, -1, 0.5], [1, 1, 2, -2, 0, 3], [0.1, 0.2, -0.3, 0.1 + 0.2]])
def test_sign_flip_is_scipys_and_brute_force(values, alternative):
    from scipy.stats import permutation_test

    threshold = 0.25
    shifted = np.array(values) - threshold
    sums = [np.dot(signs, shifted) for signs in product((1, -1), repeat=len(values))]
    sign = 1 if alternative == "greater" else -1
    brute = np.mean([sign * total >= sign * shifted.sum() - 1e-12 for total in sums])
    p = sign_flip_p(values, threshold, alternative)
    assert p == brute
    if len(values) > 1:  # scipy refuses a single observation
        found = permutation_test(
            (shifted,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        )
        assert p == pytest.approx(found.pvalue, rel=1e-12)


def test_sign_flip_at_its_edges():
    assert sign_flip_p([0.1] * 3, 0.1, "greater") == 1, "no difference is no evidence"
    assert sign_flip_p(AROUND_40, 30, "greater") == smallest_p(8) == 1 / 256
    assert sign_flip_p(AROUND_40, 30, "less") == 1
    assert sign_flip_p([1.0] * 24, 0, "greater") == smallest_p(24), "two halves, not all 2^24 patterns"
    for values in ([], [1.0] * 41):
        with pytest.raises(ValueError, match="1 to 40"):
            sign_flip_p(values, 0, "greater")
    with pytest.raises(ValueError, match="two-sided"):
        sign_flip_p([1.0], 0, "two-sided")


@pytest.mark.parametrize(("raw", "adjusted"), [
    ([], []),
    ([0.03], [0.03]),
    ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
    ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ([0.5, 0.4, 0.9], [1, 1, 1]),
    ([0.01, 0.02, 1], [0.03, 0.04, 1]),
])  # fmt: skip
def test_holm_by_hand(raw, adjusted):
    assert holm(raw) == pytest.approx(adjusted)


# --- the rules ---


@pytest.mark.parametrize(("gaps", "bound", "verdict", "why"), [
    (AROUND_40, {"at_least": 30}, "reproduced", "needs at least 30, Holm-adjusted p = 0.0039"),
    (AROUND_40, {"at_least": 50}, "contradicted", "needs at least 50, Holm-adjusted p = 0.0039"),
    (WIDE, {"at_least": 30}, "undecided", "needs at least 30, which lies inside the interval"),
    (AROUND_40, {"at_least": None, "at_most": 50}, "reproduced", "needs at most 50"),
    (AROUND_40, {"at_least": None, "at_most": 30}, "contradicted", "needs at most 30"),
    (WIDE, {"at_least": None, "at_most": 30}, "undecided", "lies inside"),
    ([30.0] * 8, {"at_least": 30}, "undecided", "p = 1 is not below 0.05"),
])  # fmt: skip
def test_each_rule_gives_each_verdict(gaps, bound, verdict, why):
    found = judge_one([gap_test(**bound)], gap_records(gaps))
    assert found["verdict"] == found["tests"][0]["outcome"] == verdict
    assert why in found["why"]


def test_the_object_holds_the_contract_and_is_strict_json():
    found = judge_one([gap_test()], gap_records(AROUND_40))
    assert set(found) >= CONTRACT
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["estimate"] == pytest.approx(np.mean(AROUND_40))
    assert found["interval"] == pytest.approx(t_interval(AROUND_40)[1:])
    assert (found["seeds"], found["scale"]) == (8, "digits, laptop budget, 8 seeds")
    assert (found["published"], found["unit"], found["budget"]) == ("90 % error", "% points", "laptop")
    assert found["p"] == found["smallest_reachable_p"] == 1 / 256
    assert found["tests"][0]["values"] == {str(seed): value for seed, value in enumerate(AROUND_40)}


def test_too_few_seeds_state_the_floor():
    found = judge_one([gap_test()], gap_records([40, 40, 41]), range(3), num_claims=4)
    assert found["verdict"] == "undecided"
    assert found["why"] == "3 seeds can reach p = 0.125 at best, 0.5 after Holm over 4 claims, and below 0.05 is needed"
    assert found["smallest_reachable_p"] == 0.125


def test_one_seed_has_no_interval():
    found = judge_one([gap_test()], gap_records([40]), [0])
    assert (found["verdict"], found["estimate"], found["interval"]) == ("undecided", 40, [None, None])
    assert "1 seed can reach p = 0.5" in found["why"]
    assert found["scale"] == "digits, laptop budget, 1 seed"


def test_claims_that_were_not_selected_still_count():
    five = gap_records(AROUND_40[:5])
    assert judge_one([gap_test()], five, range(5))["verdict"] == "reproduced"
    assert judge_one([gap_test()], five, range(5), num_claims=2)["verdict"] == "undecided"


def test_holm_runs_over_the_claims():
    sure, half_sure = claim(gap_test()), claim(gap_test(at_least=38.5), id="RL2")
    found = judge([sure, half_sure], gap_records(AROUND_40), EIGHT, "laptop", "digits", 3)
    raw = [verdict["tests"][0]["p"] for verdict in found]
    assert raw[1] > raw[0]
    assert [verdict["p"] for verdict in found] == pytest.approx(holm([*raw, 1.0])[:2])


def test_a_small_p_may_not_survive_holm():
    gaps = [32, 33, 31, 32.5, 31.5, 29.9]
    found = judge_one([gap_test()], gap_records(gaps), range(6), num_claims=3)
    assert found["interval"][0] > 30
    assert found["tests"][0]["p"] == 2 / 64
    assert found["verdict"] == "undecided"
    assert found["why"].endswith("but Holm-adjusted p = 0.094 is not below 0.05")


def test_smoke_never_decides():
    for gaps in (AROUND_40, [1.0] * 8):
        found = judge_one([gap_test()], gap_records(gaps), budget="smoke")
        assert (found["verdict"], found["why"]) == ("undecided", "smoke budget proves the machinery only")
    assert judge_one([count_test(3)], Records(errors("resnet", [5])), budget="smoke")["verdict"] == "undecided"


def test_a_missing_arm_is_named():
    found = judge_one([gap_test()], Records(errors("resnet", [1.0] * 8)))
    assert (found["verdict"], found["why"]) == ("undecided", "arm vgg is missing")
    assert (found["estimate"], found["interval"], found["seeds"]) == (None, [None, None], 0)
    assert found["tests"][0]["p"] is None
    assert found["scale"] == "digits, laptop budget, 0 of 8 seeds"


def test_a_missing_seed_is_named_and_its_pair_left_out():
    rows = [row for row in gap_records(AROUND_40) if (row.arm, row.seed) not in (("vgg", 3), ("vgg", 5))]
    found = judge_one([gap_test()], Records(rows))
    assert (found["verdict"], found["why"]) == ("undecided", "arm vgg lacks seeds 3, 5")
    assert set(found["tests"][0]["values"]) == set("012467")
    assert found["estimate"] == pytest.approx(np.mean([value for i, value in enumerate(AROUND_40) if i not in (3, 5)]))
    assert (found["p"], found["scale"]) == (1, "digits, laptop budget, 6 of 8 seeds")


def test_an_estimate_that_leaves_out_a_seed_decides_nothing():
    partial = gap_test(function=lambda records: {s: v for s, v in gap(records).items() if s != 3})
    assert judge_one([partial], gap_records(AROUND_40))["why"] == "the gap: no value for seed 3"
    nothing = gap_test(function=lambda records: {}, arms=())
    assert judge_one([nothing], gap_records(AROUND_40))["estimate"] is None


def test_no_records_at_all_are_undecided():
    assert judge_one([gap_test(arms=())], Records())["verdict"] == "undecided"


def test_seeds_that_were_not_planned_are_ignored():
    found = judge_one([gap_test()], gap_records([*AROUND_40, 500]))
    assert found["seeds"] == 8
    assert found["estimate"] == pytest.approx(np.mean(AROUND_40))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_is_named(value):
    gaps = [*AROUND_40[:3], value, *AROUND_40[4:]]
    found = judge_one([gap_test()], gap_records(gaps))
    assert (found["verdict"], found["why"]) == ("undecided", "arm vgg seed 3 diverged")
    assert found["estimate"] is None
    assert found["tests"][0]["values"]["3"] is None
    json.dumps(found, allow_nan=False)


def test_a_nan_that_the_estimate_made_itself_is_named():
    broken = gap_test(function=lambda records: dict.fromkeys(EIGHT, math.nan))
    assert judge_one([broken], gap_records(AROUND_40))["why"] == "the gap: seed 0 gives nan"


@pytest.mark.parametrize(("bounds", "verdict"), [
    ((30, 35), "reproduced"),
    ((30, 40), "undecided"),
    ((30, 50), "contradicted"),
    ((50, 40), "contradicted"),
])  # fmt: skip
def test_a_claim_needs_all_its_tests(bounds, verdict):
    found = judge_one([gap_test(f"gap {bound}", bound) for bound in bounds], gap_records(AROUND_40))
    assert found["verdict"] == verdict
    assert found["p"] == max(test["p_adjusted"] for test in found["tests"])


def test_one_test_among_several_pays_for_its_company():
    gaps = gap_records(AROUND_40[:5])
    alone, company = gap_test("false", 50), [gap_test(f"true {i}", 10.0 + i) for i in range(2)]
    assert judge_one([alone], gaps, range(5))["verdict"] == "contradicted"
    found = judge_one([alone, *company], gaps, range(5))
    assert found["verdict"] == "undecided"
    assert found["p_opposite"] == pytest.approx(3 / 32)


def test_a_contradicted_part_outweighs_a_missing_one():
    found = judge_one([gap_test("missing", arms=("plain",)), gap_test("false", 50)], gap_records(AROUND_40))
    assert found["verdict"] == "contradicted"
    assert found["estimate"] is None, "the headline is the first test's"


def count_test(bound, **changes):
    of_each = {"function": lambda records: {r.seed: r.value for r in records}, "arms": ()} | changes
    return Test("count", computed("the number of blocks", "blocks", exact=True, **of_each), at_least=bound)


@pytest.mark.parametrize(("bound", "verdict", "p"), [(5, "reproduced", 0), (6, "contradicted", 1)])
def test_an_exact_count_needs_no_seeds(bound, verdict, p):
    found = judge_one([count_test(bound)], Records(errors("resnet", [5])), num_claims=4)
    assert (found["verdict"], found["p"], found["interval"]) == (verdict, p, [5, 5])
    assert (found["seeds"], found["smallest_reachable_p"]) == (0, 0)
    assert found["scale"] == "digits, laptop budget, exact count"


def test_an_exact_count_is_one_finite_value():
    assert judge_one([count_test(5, arms=("vgg",))], Records(errors("resnet", [5])))["why"] == "arm vgg is missing"
    assert judge_one([count_test(5)], Records())["why"] == "the number of blocks: no value"
    assert "diverged" in judge_one([count_test(5)], Records(errors("resnet", [math.nan])))["why"]
    with pytest.raises(ValueError, match="one value, not 2"):
        judge_one([count_test(5)], Records(errors("resnet", [5, 5])))


@pytest.mark.parametrize(("changes", "message"), [
    ({"budget": "Smoke"}, "budget 'Smoke'"),
    ({"num_claims": 0}, "num_claims is 0"),
    ({"seeds": [1, 1]}, "none twice"),
    ({"seeds": []}, "at least one"),
])  # fmt: skip
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        judge_one([gap_test()], gap_records(AROUND_40), **changes)


def test_a_verdict_is_recomputed_from_the_file_alone(tmp_path):
    records = gap_records([value + 0.1 for value in AROUND_40])
    write_csv(tmp_path / "records.csv", records)
    assert judge_one([gap_test()], read_records(tmp_path)) == judge_one([gap_test()], records)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(-50, 50), st.randoms())
def test_the_order_of_the_seeds_changes_nothing(gaps, threshold, random):
    shuffled = random.sample(gaps, len(gaps))
    one, other = (
        judge_one([gap_test(at_least=threshold)], gap_records(each), range(len(gaps)))["tests"][0]
        for each in (gaps, shuffled)
    )
    assert {**one, "values": None} == {**other, "values": None}


@settings(max_examples=40, deadline=None)
@given(st.lists(MILD, min_size=5, max_size=9), MILD, MILD)
def test_an_easier_threshold_never_worsens_a_verdict(gaps, one, other):
    hard, easy = (
        judge_one([gap_test(at_least=bound)], gap_records(gaps), range(len(gaps)))
        for bound in (max(one, other), min(one, other))
    )
    order = ["contradicted", "undecided", "reproduced"]
    assert order.index(easy["verdict"]) >= order.index(hard["verdict"])
    assert easy["p"] <= hard["p"]
    assert easy["p_opposite"] >= hard["p_opposite"]
