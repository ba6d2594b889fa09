"""Statistics and rules: from records to verdicts, recomputable from records.csv alone.

Every claim fixes its direction in advance, so the sign-flip tests are one-sided. Holm is applied over the claims of a
script, once for "reproduced" and once for "contradicted". Within a claim, "reproduced" is an intersection-union test
(the largest p of its tests) and "contradicted" a Bonferroni test (the smallest p times the number of tests).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from ablations.harness.declare.ablation import ALPHA, LEVEL, MAX_SEEDS, Claim, Test
from ablations.harness.declare.scale import BUDGETS
from ablations.harness.store.records import Records


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """Mean and the ends of Student's interval for it, from the sample deviation (n - 1).

    level: in (0, 1). One value gives an infinite interval. Raises ValueError for no value.
    """
    from scipy.special import stdtrit  # the quantile alone; scipy.stats takes a second to import

    if not values:
        raise ValueError("an interval needs at least one value")
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, -math.inf, math.inf
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half


def sign_flip_p(values: Sequence[float], threshold: float, alternative: str) -> float:
    """Exact sign-flip p for mean(values) lying on one side of `threshold`, in [smallest_p(n), 1]; ties are extreme.

    Under the null the differences from the threshold are symmetric about 0, so all 2^n patterns of signs are equally
    likely. alternative: "greater" or "less". Raises ValueError for another, or unless there are 1 to MAX_SEEDS values.
    """
    import numpy as np

    if not 1 <= len(values) <= MAX_SEEDS:
        raise ValueError(f"{len(values)} values; the exact test takes 1 to {MAX_SEEDS}")
    if alternative not in ("greater", "less"):
        raise ValueError(f"alternative {alternative!r}; allowed are 'greater' and 'less'")
    sign = 1 if alternative == "greater" else -1
    # Sorted, so that the order of the seeds cannot reach the result through rounding.
    differences = sorted(sign * (value - threshold) for value in values)
    # All 2^n sums are sums of one from either half: count the pairs without ever forming them.
    left, right = (
        reduce(lambda sums, number: np.concatenate([sums + number, sums - number]), part, np.zeros(1))
        for part in (differences[::2], differences[1::2])
    )
    right.sort()
    tolerance = 1e-12 * math.fsum(map(abs, differences))  # a tie may miss by rounding
    cutoff = math.fsum(differences) - tolerance
    too_small = np.searchsorted(right, cutoff - left, side="left")
    return float((len(right) - too_small).sum()) / 2 ** len(values)


def smallest_p(n: int) -> float:
    """The smallest p that a one-sided sign-flip test of n seeds can reach."""
    return 1 / 2**n


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given, at most 1."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


@dataclass(frozen=True)
class _Evidence:
    """What the records say about one test; `lack` is why they cannot decide it (both p then count as 1), "" if not."""

    test: Test
    values: Mapping[int, float]
    lack: str = ""
    estimate: float | None = None
    low: float = -math.inf
    high: float = math.inf
    p: float = 1.0
    p_opposite: float = 1.0


def _gather(test: Test, records: Records, seeds: Sequence[int]) -> _Evidence:
    """Compute one test from the complete ones among the planned `seeds`; raises ValueError if a count is not single."""
    measure = test.measure
    rows = Records(row for row in records if not measure.arms or row.arm in measure.arms)
    for arm in measure.arms:
        if arm not in rows.arms:
            return _Evidence(test, {}, f"arm {arm} is missing")
    lacks = []
    if not measure.exact:
        present = {arm: set(rows.seeds(arm)) for arm in rows.arms}
        lacks += [f"arm {arm} lacks {_absent(seeds, got)}" for arm, got in present.items() if set(seeds) - got]
        complete = set(seeds).intersection(*present.values())
        rows = Records(row for row in rows if row.seed in complete)
    else:  # a count needs no seeds, but of every arm a network that was trained
        trained = {row.arm for row in rows if row.probe != "diverged" and math.isfinite(row.value)}
        lacks += [f"arm {arm} has no trained network" for arm in measure.arms if arm not in trained]
    found = measure.by_seed(rows) if rows else {}
    values = {int(seed): float(value) for seed, value in sorted(found.items()) if measure.exact or seed in seeds}
    if measure.exact and len(values) > 1:
        raise ValueError(f"test {test.name!r} is exact, so its measure must be one value, not {len(values)}")
    for row in rows:  # a diverged run has no answers, so that most estimates leave its seed out
        if row.seed in seeds and row.seed not in values and not (measure.exact or math.isfinite(row.value)):
            values[row.seed] = math.nan
    if not (values if measure.exact else set(values) >= set(seeds)):
        lacks.append(f"{measure.says}: no value" + ("" if measure.exact else f" for {_absent(seeds, values)}"))
    lack = lacks[0] if lacks else ""
    if not values:
        return _Evidence(test, values, lack)
    for seed, value in values.items():
        if not math.isfinite(value):  # the mean of the surviving seeds would flatter the arm: give none
            broken = [row.arm for row in rows if row.seed == seed and not math.isfinite(row.value)]
            why = f"arm {broken[0]} seed {seed} diverged" if broken else f"{measure.says}: seed {seed} gives {value}"
            return _Evidence(test, values, why)
    numbers, upward = list(values.values()), test.at_least is not None
    if measure.exact:
        wrong = numbers[0] < test.threshold if upward else numbers[0] > test.threshold
        return _Evidence(test, values, lack, numbers[0], numbers[0], numbers[0], float(wrong), float(not wrong))
    mean, low, high = t_interval(numbers)
    if lack:  # incomplete evidence is shown but gets no p
        return _Evidence(test, values, lack, mean, low, high)
    sides = ("greater", "less") if upward else ("less", "greater")
    return _Evidence(test, values, lack, mean, low, high, *(sign_flip_p(numbers, test.threshold, s) for s in sides))


def judge(
    claims: Sequence[Claim],
    records: Records,
    seeds: Sequence[int],
    budget: str,
    data: str,
    num_claims: int | None = None,
) -> list[dict[str, Any]]:
    """The objects of verdicts.json, one per claim, fit for strict JSON (null for what is unknown or infinite).

    seeds: the planned ones, others are ignored. num_claims: how many claims the script has, over which Holm runs, also
    when only some were selected; default len(claims). Raises ValueError for an unknown budget, no or repeated seeds,
    or fewer num_claims than claims.
    """
    family = len(claims) if num_claims is None else num_claims
    if budget not in BUDGETS:
        raise ValueError(f"budget {budget!r}; allowed are {', '.join(BUDGETS)}")
    if family < len(claims):
        raise ValueError(f"num_claims is {family}, but {len(claims)} claims are given")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {list(seeds)}: give at least one, and none twice")
    evidence = [[_gather(test, records, seeds) for test in claim.tests] for claim in claims]
    unselected = [1.0] * (family - len(claims))
    support = [max(item.p for item in items) for items in evidence] + unselected
    against = [min(len(items) * item.p_opposite for item in items) for items in evidence] + unselected
    verdicts = []
    for i, (claim, items) in enumerate(zip(claims, evidence, strict=True)):
        others = support[:i] + support[i + 1 :], against[:i] + against[i + 1 :]
        tests = [_weigh(item, len(items), *others, len(seeds), budget) for item in items]
        verdicts.append(_summarise(claim, tests, len(seeds), budget, data))
    return verdicts


def _weigh(
    item: _Evidence, num_tests: int, support: list[float], against: list[float], num_seeds: int, budget: str
) -> dict[str, Any]:
    """The entry of one test; `support` and `against` are the p-values of the script's other claims."""
    # Holm's adjustment grows with p, so the largest over the tests is the adjustment of the claim's largest p (and
    # likewise the smallest): the claim's verdict follows from the outcomes of its tests.
    adjusted = holm([item.p, *support])[0]
    opposite = holm([num_tests * item.p_opposite, *against])[0]
    lack = "smoke budget proves the machinery only" if budget == "smoke" else item.lack
    floor = 0.0 if item.test.measure.exact else smallest_p(num_seeds)
    reachable = min(holm([floor, *support])[0], holm([num_tests * floor, *against])[0])
    if not lack and reachable >= ALPHA:
        lack = f"{_counted(num_seeds, 'seed')} can reach p = {floor:.3g} at best, {reachable:.3g} after Holm over "
        lack += f"{_counted(1 + len(support), 'claim')}, and below {ALPHA:g} is needed"
    outcome, why = ("undecided", lack) if lack else _outcome(item, adjusted, opposite)
    test, measure = item.test, item.test.measure
    return {
        "name": test.name,
        "says": measure.says,
        "rule": test.rule,
        "unit": measure.unit,
        "side": test.side,
        "threshold": test.threshold,
        "exact": measure.exact,
        "arms": list(measure.arms),
        "formula": measure.formula,
        "outcome": outcome,
        "why": why,
        "estimate": _strict(item.estimate),
        "interval": [_strict(item.low), _strict(item.high)],
        "p": None if item.lack else item.p,
        "p_adjusted": adjusted,
        "p_opposite": None if item.lack else item.p_opposite,
        "p_opposite_adjusted": opposite,
        "values": {str(seed): _strict(value) for seed, value in item.values.items()},
    }


def _outcome(item: _Evidence, adjusted: float, opposite: float) -> tuple[str, str]:
    """The outcome of one test with complete evidence, and why."""
    test, measure, upward = item.test, item.test.measure, item.test.at_least is not None
    claimed = item.low >= test.threshold if upward else item.high <= test.threshold
    refuted = item.high < test.threshold if upward else item.low > test.threshold
    found = f"{measure.says}: {item.estimate:.4g} {measure.unit}".rstrip()
    if not measure.exact:
        found += f", 95 % interval {item.low:.4g} to {item.high:.4g}"
    found += f", where the claim needs {test.side} {test.threshold:g}"
    if not (claimed or refuted):
        return "undecided", f"{found}, which lies inside the interval"
    p = adjusted if claimed else opposite
    if p >= ALPHA:
        return "undecided", f"{found}, but Holm-adjusted p = {p:.2g} is not below {ALPHA:g}"
    found += "" if measure.exact else f", Holm-adjusted p = {p:.2g}"
    return "reproduced" if claimed else "contradicted", found


def _summarise(claim: Claim, tests: list[dict[str, Any]], num_seeds: int, budget: str, data: str) -> dict[str, Any]:
    """The object of one claim from the entries of its tests."""
    outcomes = {test["outcome"] for test in tests}
    verdict = next((word for word in ("contradicted", "undecided") if word in outcomes), "reproduced")
    sampled = [entry["values"] for test, entry in zip(claim.tests, tests, strict=True) if not test.measure.exact]
    used = min((sum(value is not None for value in values.values()) for values in sampled), default=0)
    count = ("" if used == num_seeds else f"{used} of ") + _counted(num_seeds, "seed")
    return {
        "claim": claim.id,
        "says": claim.says,
        "verdict": verdict,
        "why": next(test["why"] for test in tests if test["outcome"] == verdict),
        **{key: tests[0][key] for key in ("estimate", "interval", "unit")},
        "rule": claim.rule,
        "p": max(test["p_adjusted"] for test in tests),
        "p_opposite": min(test["p_opposite_adjusted"] for test in tests),
        "smallest_reachable_p": smallest_p(num_seeds) if sampled else 0.0,
        "seeds": used,
        "budget": budget,
        "data": data,
        "scale": f"{data}, {budget} budget, {count if sampled else 'exact count'}",
        **{key: getattr(claim, key) for key in ("published", "notes_value", "source")},
        "tests": tests,
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _absent(seeds: Sequence[int], present: Iterable[int]) -> str:
    """The planned seeds that are not present, in words."""
    absent = sorted(set(seeds) - set(present))
    return f"seed{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}"


def _strict(value: float | None) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None
