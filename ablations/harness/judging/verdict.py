"""Rules: from records to verdicts, recomputable from the records alone.

Every claim fixes its direction in advance, so the sign-flip tests are one-sided. Holm is applied over the experiments
of a script, once for "reproduced" and once for "contradicted"; checks follow from mathematics and stand alone. Within a
claim, "reproduced" is an intersection-union test (the largest p of its tests) and "contradicted" a Bonferroni test (the
smallest p times the number of tests). A claim one of whose needs does not hold is "out of reach": such an experiment
cannot see what it looks for, so it may say neither yes nor no.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablations.harness.declare.ablation import ALPHA, Claim, Need, Test
from ablations.harness.declare.scale import BUDGETS
from ablations.harness.judging.evidence import Evidence, gather
from ablations.harness.judging.reach import out_of_sight, reaches
from ablations.harness.judging.statistics import holm, sign_flip_p, smallest_p
from ablations.harness.judging.stuck import stuck
from ablations.harness.store.records import Records

OUT_OF_REACH = "out of reach"
VERDICTS = ("reproduced", "contradicted", "undecided", OUT_OF_REACH)


def judge(
    claims: Sequence[Claim],
    records: Records,
    seeds: Sequence[int],
    budget: str,
    data: str,
    num_claims: int | None = None,
) -> list[dict[str, Any]]:
    """The objects of verdicts.json, one per claim, fit for strict JSON (null for what is unknown or infinite).

    seeds: the planned ones, others are ignored. num_claims: how many experiments the script has, over which Holm runs,
    also when only some were selected; default those among `claims`. A claim of whose runs some are stuck is judged a
    second time without the seeds of those. Raises ValueError for an unknown budget, no or repeated seeds, or fewer
    num_claims than experiments.
    """
    experiments = sum(claim.kind == "experiment" for claim in claims)
    family = experiments if num_claims is None else num_claims
    if budget not in BUDGETS:
        raise ValueError(f"budget {budget!r}; allowed are {', '.join(BUDGETS)}")
    if family < experiments:
        raise ValueError(f"num_claims is {family}, but {experiments} experiments are given")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {list(seeds)}: give at least one, and none twice")
    verdicts = _verdicts(claims, records, seeds, budget, data, family)
    lost = stuck(records.where(probe="epoch"))
    for index, (claim, verdict) in enumerate(zip(claims, verdicts, strict=True)):
        arms = {arm for bound in (*claim.tests, *claim.needs) for arm in bound.measure.arms}
        mine = [(arm, seed) for arm, seed in lost if arm in arms and seed in seeds]
        left = [seed for seed in seeds if seed not in {seed for _, seed in mine}]
        verdict["stuck"] = [{"arm": arm, "seed": seed} for arm, seed in mine]
        again = _verdicts(claims, records, left, budget, data, family)[index] if mine and left else None
        told = ("verdict", "why", "estimate", "interval", "unit", "seeds")
        verdict["without_stuck"] = again and {key: again[key] for key in told}
    return verdicts


def _verdicts(
    claims: Sequence[Claim], records: Records, seeds: Sequence[int], budget: str, data: str, family: int
) -> list[dict[str, Any]]:
    needs = [[gather(need, records, seeds) for need in claim.needs] for claim in claims]
    evidence = [[gather(test, records, seeds) for test in claim.tests] for claim in claims]
    hindered = [_hindered(found, budget) for found in needs]
    p_values = [
        [_p_values(item) if not word else (1.0, 1.0) for item in items]
        for items, (word, _) in zip(evidence, hindered, strict=True)
    ]
    support = [max(p for p, _ in each) for each in p_values]
    against = [min(len(each) * p for _, p in each) for each in p_values]
    inside = [i for i, claim in enumerate(claims) if claim.kind == "experiment"]
    unselected = [1.0] * (family - len(inside))
    verdicts = []
    for i, claim in enumerate(claims):
        rivals = [j for j in inside if j != i] if claim.kind == "experiment" else []
        absent = unselected if claim.kind == "experiment" else []
        others = [support[j] for j in rivals] + absent, [against[j] for j in rivals] + absent
        tests = [
            _weigh(item, p, len(claim.tests), *others, len(seeds), *hindered[i])
            for item, p in zip(evidence[i], p_values[i], strict=True)
        ]
        verdicts.append(_summarise(claim, tests, needs[i], seeds, budget, data, family))
    return verdicts


def _hindered(needs: Sequence[Evidence[Need]], budget: str) -> tuple[str, str]:
    """The verdict that needs force, and why; nothing if all are met."""
    if budget == "smoke":
        return "undecided", "smoke budget proves the machinery only"
    for need in needs:
        if need.lack and not need.broken:
            return "undecided", f"need {need.bound.name}: {need.lack}"
        if len(need.values) == 1 and not need.bound.measure.exact:
            return "undecided", f"need {need.bound.name}: one seed says nothing of the spread over seeds"
    for need in needs:
        if need.broken or not need.holds:
            found = need.lack if need.broken else need.found
            wanted = f"{found}, and {need.bound.side} {need.bound.threshold:g} is needed before the claim can be judged"
            return OUT_OF_REACH, f"{wanted}; {need.bound.met_by}" if need.bound.met_by else wanted
    return "", ""


def _p_values(item: Evidence[Test]) -> tuple[float, float]:
    """How likely so good a result is if the claim holds nowhere beyond its threshold, and so bad a one if it does.

    1 where the evidence is incomplete.
    """
    test, upward = item.bound, item.bound.at_least is not None
    if item.lack:
        return 1.0, 1.0
    if test.measure.exact:
        return float(not item.holds), float(not _refuted(item))
    sides = ("greater", "less") if upward else ("less", "greater")
    return (
        sign_flip_p(item.numbers, test.threshold, sides[0]),
        sign_flip_p(item.numbers, test.refuted_from, sides[1]),
    )


def _refuted(item: Evidence[Test]) -> bool:
    """Whether the whole interval lies beyond what contradicts the claim."""
    bound = item.bound
    return item.high < bound.refuted_from if bound.at_least is not None else item.low > bound.refuted_from


def _weigh(
    item: Evidence[Test], p: tuple[float, float], num_tests: int, support: list[float], against: list[float],
    num_seeds: int, forced: str, why_forced: str,
) -> dict[str, Any]:  # fmt: skip
    """The entry of one test; `support` and `against` are the p-values of the script's other experiments."""
    # Holm's adjustment grows with p, so the largest over the tests is the adjustment of the claim's largest p (and
    # likewise the smallest): the claim's verdict follows from the outcomes of its tests.
    adjusted = holm([p[0], *support])[0]
    opposite = holm([num_tests * p[1], *against])[0]
    floor = 0.0 if item.bound.measure.exact else smallest_p(num_seeds)
    reachable = min(holm([floor, *support])[0], holm([num_tests * floor, *against])[0])
    lack = item.lack
    if not lack and reachable >= ALPHA:
        lack = f"{_counted(num_seeds, 'seed')} can reach p = {floor:.3g} at best, {reachable:.3g} after Holm over "
        lack += f"{_counted(1 + len(support), 'claim')}, and below {ALPHA:g} is needed"
    if forced:
        outcome, why = forced, why_forced
    else:
        outcome, why = ("undecided", lack) if lack else _outcome(item, adjusted, opposite)
    return {
        **item.written(),
        "margin": item.bound.margin,
        "outcome": outcome,
        "why": why,
        "p": None if item.lack or forced else p[0],
        "p_adjusted": adjusted,
        "p_opposite": None if item.lack or forced else p[1],
        "p_opposite_adjusted": opposite,
    }


def _outcome(item: Evidence[Test], adjusted: float, opposite: float) -> tuple[str, str]:
    """The outcome of one test with complete evidence, and why."""
    test, claimed, refuted = item.bound, item.holds, _refuted(item)
    found = f"{item.found}, where the claim needs {test.side} {test.threshold:g}"
    if not (claimed or refuted):
        if test.margin and max(abs(end - test.threshold) for end in (item.low, item.high)) < test.margin:
            return "undecided", f"{found}: any difference is smaller than the {test.margin:g} that matter"
        beyond = item.high < test.threshold if test.at_least is not None else item.low > test.threshold
        if beyond:
            return "undecided", f"{found}, but it is not missed by more than the {test.margin:g} that matter"
        return "undecided", f"{found}, which lies inside the interval"
    p = adjusted if claimed else opposite
    if p >= ALPHA:
        return "undecided", f"{found}, but Holm-adjusted p = {p:.2g} is not below {ALPHA:g}"
    found += "" if test.measure.exact else f", Holm-adjusted p = {p:.2g}"
    return "reproduced" if claimed else "contradicted", found


def _summarise(
    claim: Claim, tests: list[dict[str, Any]], needs: Sequence[Evidence[Need]], seeds: Sequence[int], budget: str,
    data: str, family: int,
) -> dict[str, Any]:  # fmt: skip
    """The object of one claim from the entries of its tests."""
    outcomes = {test["outcome"] for test in tests}
    verdict = next((word for word in (OUT_OF_REACH, "contradicted", "undecided") if word in outcomes), "reproduced")
    sampled = [entry["values"] for test, entry in zip(claim.tests, tests, strict=True) if not test.measure.exact]
    used = min((sum(value is not None for value in values.values()) for values in sampled), default=0)
    count = ("" if used == len(seeds) else f"{used} of ") + _counted(len(seeds), "seed")
    rivals = family if claim.kind == "experiment" else 1
    return {
        "claim": claim.id,
        "says": claim.says,
        "kind": claim.kind,
        "verdict": verdict,
        "why": next(test["why"] for test in tests if test["outcome"] == verdict),
        **{key: tests[0][key] for key in ("estimate", "interval", "unit")},
        "rule": claim.rule,
        "agrees_with": claim.agrees.get(verdict),
        "amended": [change._asdict() for change in claim.amended],
        "p": max(test["p_adjusted"] for test in tests),
        "p_opposite": min(test["p_opposite_adjusted"] for test in tests),
        "smallest_reachable_p": smallest_p(len(seeds)) if sampled else 0.0,
        "reach": reaches(claim, len(seeds), rivals),
        "out_of_sight": out_of_sight(claim, len(seeds), rivals),
        "seeds": used,
        "budget": budget,
        "data": data,
        "scale": f"{data}, {budget} budget, {count if sampled else 'exact count'}",
        **{key: getattr(claim, key) for key in ("published", "notes_value", "source")},
        "needs": [
            {**need.written(), "met": not need.lack and need.holds, "met_by": need.bound.met_by} for need in needs
        ],
        "tests": tests,
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
