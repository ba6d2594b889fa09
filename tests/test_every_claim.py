"""Every claim of every script can come out either way, whichever of its tests decides: on records made up for it.

What a measure is made of says which records its values would come from. The values are searched for: such that all
needs are met, and all tests lie on the claimed side, or one of them as far on the other as contradicts.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from ablations.harness.declare.ablation import Ablation, Bound, Claim, Need, Test
from ablations.harness.declare.scripts import scripts
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import Record, Records

SEEDS = 14  # enough for the claim with the most tests in the script with the most claims, either way
COUNTS = {"PL1", "PR3", "ST9"}  # are checks: a count cannot be searched for

Values = Mapping[str, float]
"""Of each leaf, by its formula."""


def sampled(claim: Claim) -> Claim:
    """The claim without needs that are counted, which no search meets."""
    return replace(claim, needs=tuple(need for need in claim.needs if not need.measure.exact))


EVERY = [(ablation, sampled(claim)) for ablation in scripts() for claim in ablation.claims if claim.id not in COUNTS]


def bounds(claim: Claim) -> tuple[Test | Need, ...]:
    return *claim.tests, *claim.needs


def records_of(claim: Claim, values: Values, seed: int = 0) -> Iterator[Record]:
    """What the leaves of all tests and needs say when they have these values."""
    leaves = {leaf.formula: leaf for bound in bounds(claim) for leaf in bound.measure.leaves}
    for formula, leaf in leaves.items():
        assert leaf.invent is not None, f"nobody can make up {formula}"
        for arm, point, metric, value in leaf.invent(values[formula]):
            yield Record("invented", arm, seed, point, metric, value, leaf.unit, f"{arm}-{seed}")


def drawn(unit: str, draws: random.Random) -> float:
    if unit == "%":
        return draws.choice((draws.uniform(0, 100), 10 ** draws.uniform(-2, 2)))
    return draws.choice((1, 1, 1, -1)) * 10 ** draws.uniform(-2, 1)


def missed(bound: Bound, records: Records, other_side: bool) -> float:
    """By how much a test or need misses the side that is wanted, with room for noise; 0 where it does not."""
    found = bound.measure.by_seed(records)
    if 0 not in found:
        return 1e9
    threshold = bound.refuted_from if other_side and isinstance(bound, Test) else bound.threshold
    above = found[0] - threshold
    room = 0.02 + 0.05 * abs(threshold)
    return max(0.0, room - (above if (bound.at_least is None) == other_side else -above))


def searched(claim: Claim, against: str = "") -> Values:
    """Values with which every test is on the claimed side, but for the one named `against`."""
    units = {leaf.formula: leaf.unit for bound in bounds(claim) for leaf in bound.measure.leaves}
    draws = random.Random(0)
    values = {formula: drawn(unit, draws) for formula, unit in units.items()}

    def misses(values: Values) -> float:
        records = Records(records_of(claim, values))
        return sum(missed(bound, records, bound.name == against) for bound in bounds(claim))

    least = misses(values)
    for _ in range(20_000):
        if not least:
            return values
        formula = draws.choice(list(units))
        other = {**values, formula: drawn(units[formula], draws)}
        if (now := misses(other)) <= least:
            values, least = other, now
    raise AssertionError(f"{claim.id}: no values found against {against!r}")


def mixed(claim: Claim, test: Test, support: Values, against: Values) -> list[Values]:
    """Of each seed the values of one side or the other, so many of either that the mean lies near the threshold."""
    ours, theirs = (
        test.measure.by_seed(Records(records_of(claim, values)))[0] - test.threshold for values in (support, against)
    )
    number = min(SEEDS - 1, max(1, round(SEEDS * theirs / (theirs - ours))))
    return [support] * number + [against] * (SEEDS - number)


def verdict(ablation: Ablation, claim: Claim, *sides: Values) -> tuple[str, dict[str, str]]:
    """The verdict, and the outcome of each test, on seeds that take turns in having these values."""
    draws, rows = random.Random(1), []
    for seed in range(SEEDS):
        side = sides[seed % len(sides)]
        noisy = {f: v + 1e-4 * (0.1 + abs(v)) * draws.uniform(-1, 1) for f, v in side.items()}
        rows += records_of(claim, noisy, seed)
    (found,) = judge([claim], Records(rows), range(SEEDS), "laptop", "invented", len(ablation.claims))
    return found["verdict"], {test["name"]: test["outcome"] for test in found["tests"]}


@pytest.mark.parametrize(("ablation", "claim"), EVERY, ids=[claim.id for _, claim in EVERY])
def test_every_verdict_can_come_out_whichever_test_decides(ablation: Ablation, claim: Claim) -> None:
    support = searched(claim)
    assert verdict(ablation, claim, support)[0] == "reproduced"
    for test in claim.tests:
        against = searched(claim, test.name)
        found, outcomes = verdict(ablation, claim, against)
        assert found == "contradicted"
        assert [name for name, outcome in outcomes.items() if outcome == "contradicted"] == [test.name]
        if not test.measure.exact:
            asked = replace(claim, needs=())  # whose spread is not that of real seeds
            found, outcomes = verdict(ablation, asked, *mixed(claim, test, support, against))
            assert (found == "reproduced", outcomes[test.name]) == (False, "undecided")


NEEDING = [(ablation, claim) for ablation, claim in EVERY if claim.needs]


@pytest.mark.parametrize(("ablation", "claim"), NEEDING, ids=[claim.id for _, claim in NEEDING])
def test_a_claim_is_out_of_reach_without_any_of_its_needs(ablation: Ablation, claim: Claim) -> None:
    for need in claim.needs:
        assert verdict(ablation, claim, searched(claim, need.name))[0] == "out of reach"
