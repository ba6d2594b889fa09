"""Claims on paths: exact counts, every estimate and rule on invented records, and the plan of every budget."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.path_lengths import (
    ABLATION,
    ALL,
    CLAIMS,
    COUNT,
    ERROR,
    NORM,
    SHORT,
    effective_length,
    effective_share,
    factor,
    gradient_shares,
    interval,
    largest_deviation,
    line,
    middle_share,
    share_of_paths,
    shares,
    straightness,
)

SEEDS = range(8)
BINOMIAL = [math.comb(54, length) for length in range(55)]


def row(arm: str, seed: int, where: str, metric: str, value: float, unit: str = "") -> Record:
    return Record("path_lengths", arm, seed, where, metric, float(value), unit, f"{arm}-{seed}")


def network(seed: int, norms: Sequence[float], counts: Sequence[int] = BINOMIAL) -> list[Record]:
    """The records of the arm of all blocks; norms: of paths of length 0, 1, ..."""
    found = [row(ALL, seed, point("paths_of_54_blocks", length=k), COUNT, n) for k, n in enumerate(counts)]
    found += [row(ALL, seed, point("paths", length=k), COUNT, n) for k, n in enumerate(counts)]
    # In another order, and with another state beside, as no estimate may rely on either.
    for length, norm in reversed(list(enumerate(norms))):
        found.append(row(ALL, seed, point("path", state="trained", length=length), NORM, norm))
        found.append(row(ALL, seed, point("path", state="untrained", length=length), NORM, 1.0))
    return found


def decaying(by: float) -> list[float]:
    return [by**length for length in range(55)]


def test_the_shortest_interval() -> None:
    assert interval([0.2, 0.5, 0.3], 0.75) == (1, 2)
    assert interval([0.5, 0.25, 0.25], 0.75) == (0, 1)
    assert interval([0.1, 0.8, 0.1], 0.8) == (1, 1)
    assert interval([0.1, 0.8, 0.1], 1.0) == (0, 2)
    with pytest.raises(ValueError, match="more than there is"):
        interval([0.1, 0.2], 0.95)
    assert shares([1, 3]) == [0.25, 0.75]
    assert shares([0, 0]) == []


def test_counts_are_exact() -> None:
    records = Records(network(0, decaying(0.3)))
    assert largest_deviation(records) == {0: 0.0}
    assert middle_share(records) == {0: pytest.approx(98.0, abs=0.05)}
    assert share_of_paths(records, 0, 5, 17) == pytest.approx(0.4537, abs=5e-5)
    wrong = [*BINOMIAL[:27], BINOMIAL[27] + 2, *BINOMIAL[28:]]
    assert largest_deviation(Records(network(1, decaying(0.3), wrong))) == {1: 2.0}
    assert largest_deviation(Records()) == middle_share(Records()) == {}


def test_gradients_that_shrink_by_a_constant_factor_give_a_binomial_again() -> None:
    """54 choose k times r^k is the binomial distribution of probability r / (1 + r)."""
    records = Records(network(0, [5 * norm for norm in decaying(0.25)]))
    expected = [math.comb(54, k) * 0.2**k * 0.8 ** (54 - k) for k in range(55)]
    assert gradient_shares(records, 0) == pytest.approx(expected)
    assert effective_length(records) == {0: pytest.approx(20.0)}
    assert factor(records) == {0: pytest.approx(0.25)}
    assert straightness(records) == {0: pytest.approx(1.0)}
    assert interval(expected) == (5, 16)
    assert effective_share(records) == {0: pytest.approx(100 * sum(BINOMIAL[5:17]) / 2**54)}


def test_a_line_leaves_out_what_carries_nothing() -> None:
    assert line([1.0, 0.1, 0.0, 0.001]) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert line([2.0, 2.0, 2.0]) == (0.0, 0.0)
    assert line([1.0, 10.0, 1.0, 10.0])[1] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="three"):
        line([1.0, 0.0, 2.0])


def evidence(
    norms: Callable[[int], Sequence[float]] = lambda seed: decaying(0.25 + 0.005 * seed),
    counts: Sequence[int] = BINOMIAL,
) -> Records:
    found: list[Record] = []
    for seed in SEEDS:
        noise = 0.02 * (seed - 3.5)
        found += network(seed, norms(seed), counts)
        found.append(row(ALL, seed, "test", ERROR, 6.0, "%"))
        found.append(row(SHORT, seed, "test", ERROR, 5.9 + noise, "%"))
    return Records(found)


def crooked(seed: int) -> list[float]:
    """Falls by half a block up to 20 of them, and stays there."""
    return [(0.4 + 0.005 * seed) ** min(length, 20) for length in range(55)]


def verdict_of(claim: str, records: Records) -> dict[str, Any]:
    found = judge(CLAIMS, records, list(SEEDS), "laptop", "digits", num_claims=len(CLAIMS))
    return next(item for item in found if item["claim"] == claim)


@pytest.mark.parametrize(
    ("claim", "records", "verdict"),
    [
        ("PL1", evidence(), "reproduced"),
        ("PL1", evidence(counts=[1] * 55), "contradicted"),
        ("PL1", Records(record for record in evidence() if record.arm == SHORT), "undecided"),
        ("PL2", evidence(), "reproduced"),
        ("PL2", evidence(norms=lambda seed: decaying(0.9 + 0.005 * seed)), "contradicted"),
        ("PL2", evidence(norms=crooked), "contradicted"),
        ("PL2", evidence(norms=lambda seed: decaying(0.3 if seed % 2 else 0.6)), "undecided"),
        ("PL3", evidence(), "reproduced"),
        ("PL3", evidence(norms=lambda seed: decaying(0.9 + 0.005 * seed)), "contradicted"),
        # Few paths, but long ones.
        ("PL3", evidence(norms=lambda seed: decaying(4.0 + 0.01 * seed)), "contradicted"),
        ("PL3", evidence(norms=lambda seed: decaying(0.25 if seed % 2 else 0.9)), "undecided"),
    ],
)
def test_counts_and_gradients_decide_either_way(claim: str, records: Records, verdict: str) -> None:
    found = verdict_of(claim, records)
    assert found["verdict"] == verdict, found["why"]


def test_a_diverged_run_leaves_what_needs_it_undecided() -> None:
    kept = [record for record in evidence() if (record.arm, record.seed) != (ALL, 5)]
    records = Records([*kept, row(ALL, 5, "test", ERROR, math.nan, "%")])
    assert verdict_of("PL1", records)["verdict"] == "reproduced", "a count needs one network"
    for claim in ("PL2", "PL3", "PL4"):
        found = verdict_of(claim, records)
        assert (found["verdict"], found["why"]) == ("undecided", f"arm {ALL} seed 5 diverged")


def test_plans_are_sound_and_have_the_papers_blocks(digits: Any) -> None:
    for budget in BUDGETS:
        planned = ABLATION.plan(budget, digits)
        check(ABLATION, planned)
        json.dumps(dict(planned.settings))
        short = planned.arms[1].arguments
        assert (short["depth"], short["kept_blocks"]) == ((14, 3) if budget == "smoke" else (110, 23))
        assert ABLATION.passes(54, {**planned.settings, "arm": ALL}) > 0
        assert ABLATION.passes(54, {**planned.settings, "arm": SHORT}) == 0
