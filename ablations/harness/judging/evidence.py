"""Evidence: what the records say about one measure, seed by seed, or why they say nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ablations.harness.declare.ablation import Bound
from ablations.harness.judging.statistics import t_interval
from ablations.harness.store.records import Records

B = TypeVar("B", bound=Bound)


@dataclass(frozen=True)
class Evidence(Generic[B]):
    """What the records say about one bound: a value per seed, their mean and its interval.

    lack: why they cannot decide it, "" if they can; the estimate of what is complete is shown all the same.
    broken: whether what lacks is a number, because a run diverged.
    """

    bound: B
    values: Mapping[int, float]
    lack: str = ""
    estimate: float | None = None
    low: float = -math.inf
    high: float = math.inf
    broken: bool = False

    @property
    def numbers(self) -> list[float]:
        """The values in the order of their seeds."""
        return list(self.values.values())

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies on the side that is asked for."""
        threshold = self.bound.threshold
        return self.low >= threshold if self.bound.at_least is not None else self.high <= threshold

    @property
    def found(self) -> str:
        """What was found, in words."""
        measure = self.bound.measure
        if self.estimate is None:
            return f"{measure.says}: no number"
        found = f"{measure.says}: {self.estimate:.4g} {measure.unit}".rstrip()
        return found if measure.exact else f"{found}, 95 % interval {self.low:.4g} to {self.high:.4g}"

    def written(self) -> dict[str, Any]:
        """What is said of the bound and what was found, as strict JSON has it: null for what is unknown or infinite."""
        bound, measure = self.bound, self.bound.measure
        return {
            "name": bound.name,
            "says": measure.says,
            "rule": bound.rule,
            "unit": measure.unit,
            "side": bound.side,
            "threshold": bound.threshold,
            "exact": measure.exact,
            "arms": list(measure.arms),
            "formula": measure.formula,
            "estimate": _strict(self.estimate),
            "interval": [_strict(self.low), _strict(self.high)],
            "values": {str(seed): _strict(value) for seed, value in self.values.items()},
        }


def gather(bound: B, records: Records, seeds: Sequence[int]) -> Evidence[B]:
    """Compute a bound from the complete ones among the planned `seeds`; raises ValueError if a count is not single."""
    measure = bound.measure
    rows = Records(row for row in records if not measure.arms or row.arm in measure.arms)
    for arm in measure.arms:
        if arm not in rows.arms:
            return Evidence(bound, {}, f"arm {arm} is missing")
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
        raise ValueError(f"test {bound.name!r} is exact, so its measure must be one value, not {len(values)}")
    for row in rows:  # a diverged run has no answers, so that most estimates leave its seed out
        if row.seed in seeds and row.seed not in values and not (measure.exact or math.isfinite(row.value)):
            values[row.seed] = math.nan
    if not (values if measure.exact else set(values) >= set(seeds)):
        lacks.append(f"{measure.says}: no value" + ("" if measure.exact else f" for {_absent(seeds, values)}"))
    lack = lacks[0] if lacks else ""
    if not values:
        return Evidence(bound, values, lack)
    for seed, value in values.items():
        if not math.isfinite(value):  # the mean of the surviving seeds would flatter the arm: give none
            stray = [row.arm for row in rows if row.seed == seed and not math.isfinite(row.value)]
            why = f"arm {stray[0]} seed {seed} diverged" if stray else f"{measure.says}: seed {seed} gives {value}"
            return Evidence(bound, values, why, broken=True)
    numbers = list(values.values())
    estimate = (numbers[0],) * 3 if measure.exact else t_interval(numbers)
    return Evidence(bound, values, lack, *estimate)


def _absent(seeds: Sequence[int], present: Iterable[int]) -> str:
    """The planned seeds that are not present, in words."""
    absent = sorted(set(seeds) - set(present))
    return f"seed{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}"


def _strict(value: float | None) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None
