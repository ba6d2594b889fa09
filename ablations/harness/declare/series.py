"""Series: several values of a seed, in the order of a field of their points, such as epochs, layers or draws.

    harm = 100 * (along(deleted(ARM), "layer") - intact(ARM)) / (chance(ARM) - intact(ARM))
    harm.first(3) - harm.last(3)     # seed -> mean over the first third of the layers minus that over the last
    harm.rank_correlation()          # seed -> Spearman's correlation of layer and harm

What reduces a series gives a measure. As measures do, series know their arms and can be made up for tests: each of
PLACES places then has a value of its own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from statistics import mean
from typing import Literal

from ablations.harness.declare.measure import CHOICES, Invented, Leaf, Measure
from ablations.harness.store.records import Records, point

PLACES = 9  # of a series that is made up

Values = list[tuple[float, float]]
"""Of one seed: place and value, in the order of the places."""


@dataclass(frozen=True)
class Series:
    """Values of each seed in order; - * / combine it with a number, a measure of the seed, or a series, place by place.

    formula, says, unit, arms, leaves: as of a measure. by_seed: records -> {seed: [(place, value), ...]}.
    A place that lacks a part has no value, nor has one whose divisor is not above 0.
    """

    formula: str
    says: str
    unit: str
    arms: tuple[str, ...]
    by_seed: Callable[[Records], dict[int, Values]]
    leaves: tuple[Leaf, ...]

    def __sub__(self, other: Series | Measure | float) -> Series:
        return _combined(self, "-", operator.sub, other)

    def __mul__(self, other: Series | Measure | float) -> Series:
        return _combined(self, "*", operator.mul, other)

    def __rmul__(self, factor: float) -> Series:
        return _combined(self, "*", operator.mul, factor)

    def __truediv__(self, other: Series | Measure | float) -> Series:
        return _combined(self, "/", operator.truediv, other)

    def after(self, place: float) -> Series:
        """The places beyond one."""
        return self._changed(f"{{}} after {place:g}", lambda found: [each for each in found if each[0] > place])

    def averaged(self) -> Series:
        """The mean of the values that share a place."""

        def change(found: Values) -> Values:
            places = dict.fromkeys(place for place, _ in found)
            return [(place, mean(value for at, value in found if at == place)) for place in places]

        return self._changed("averaged {}", change)

    def starting_at(self, first: Measure) -> Series:
        """The series with one value more in front, at place 0."""

        def by_seed(records: Records) -> dict[int, Values]:
            firsts = first.by_seed(records)
            return {seed: [(0.0, firsts[seed]), *v] for seed, v in self.by_seed(records).items() if seed in firsts}

        formula = f"({first.formula}, then {self.formula})"
        return replace(self, formula=formula, by_seed=by_seed, leaves=first.leaves + self.leaves)

    def steps(self) -> Series:
        """The rise to each place from the one before it."""
        return self._changed("steps of {}", lambda found: [(x, b - a) for (_, a), (x, b) in pairwise(found)])

    def log2(self) -> Series:
        """Binary logarithms; a place whose value is not above 0 has none."""
        return self._logarithm("log2", math.log2, "")

    def log10(self, unit: str = "") -> Series:
        """Decimal logarithms, in `decades`, say; a place whose value is not above 0 has none."""
        return self._logarithm("log10", math.log10, unit)

    def absolute(self) -> Series:
        """The sizes without their signs."""
        return self._changed("absolute({})", lambda found: [(x, abs(value)) for x, value in found])

    def rise(self) -> Measure:
        """The last value minus the first."""
        return reduced("rise", lambda _, values: values[-1] - values[0], self)

    def over(self, choice: Literal["mean", "median", "least", "greatest"]) -> Measure:
        """One value of each seed."""
        return reduced(choice, lambda _, values: CHOICES[choice](values), self)

    def share_below(self, bound: float) -> Measure:
        """Share in % of the values below a bound."""
        return reduced(f"share below {bound:g}", lambda _, values: 100.0 * mean(v < bound for v in values), self)

    def first(self, parts: int) -> Measure:
        """The mean over the first of so many equal parts, of one value at least."""
        return reduced(f"first 1/{parts}", lambda _, values: mean(values[: max(1, len(values) // parts)]), self)

    def last(self, parts: int) -> Measure:
        """The mean over the last of so many equal parts, of one value at least."""
        return reduced(f"last 1/{parts}", lambda _, values: mean(values[-max(1, len(values) // parts) :]), self)

    def rank_correlation(self) -> Measure:
        """Spearman's correlation of place and value; a seed whose values are all alike has none."""
        return reduced("rank correlation", _spearman, self)

    def rises(self) -> Measure:
        """Share of the pairs of places whose values rise, minus that of those that fall: Kendall's tau-a."""
        return reduced("rises", _kendall, self)

    def _logarithm(self, name: str, apply: Callable[[float], float], unit: str) -> Series:
        found = self._changed(f"{name}({{}})", lambda found: [(x, apply(v)) for x, v in found if not v <= 0])
        return replace(found, unit=unit)

    def _changed(self, formula: str, change: Callable[[Values], Values]) -> Series:
        def by_seed(records: Records) -> dict[int, Values]:
            return {seed: change(found) for seed, found in self.by_seed(records).items()}

        return replace(self, formula=formula.format(self.formula), by_seed=by_seed)


def along(part: Measure, field: str, downwards: bool = False) -> Series:
    """All values of a quantity of one arm in the order of a field of their points, which holds numbers.

    downwards: from the greatest; places then are the negative numbers. Raises ValueError for another measure.
    """
    quantity = part.quantity
    if quantity is None:
        raise ValueError(f"no quantity of one arm: {part}")
    (arm,), sign = part.arms, -1.0 if downwards else 1.0

    def by_seed(records: Records) -> dict[int, Values]:
        found: dict[int, Values] = {}
        for row in records.where(arm, None, quantity.probe, quantity.metric, **quantity.where):
            found.setdefault(row.seed, []).append((sign * float(row.fields[field]), row.value))
        return {seed: sorted(values, key=operator.itemgetter(0)) for seed, values in found.items()}

    def invent(place: int, value: float) -> list[Invented]:
        return [(arm, point(quantity.probe, **quantity.where, **{field: place}), quantity.metric, value)]

    formula = f"{part.formula} along {field}{' downwards' if downwards else ''}"
    leaves = tuple(Leaf(f"{formula} {at}", part.unit, partial(invent, at)) for at in range(1, PLACES + 1))
    return Series(formula, part.says, part.unit, part.arms, by_seed, leaves)


def reduced(name: str, function: Callable[..., float | None], *parts: Series) -> Measure:
    """A measure of one series, or of several.

    function: of the places and values of a series, or of the values of each of several, as lists. A seed without a
    value in one of them has none, nor has one of which the function makes None; NaN stays NaN.
    """

    def by_seed(records: Records) -> dict[int, float]:
        every = [part.by_seed(records) for part in parts]
        found: dict[int, float] = {}
        for seed in every[0]:
            if not all(each.get(seed) for each in every):
                continue
            columns = [[list(column) for column in zip(*each[seed], strict=True)] for each in every]
            given = columns[0] if len(columns) == 1 else [values for _, values in columns]
            broken = any(math.isnan(value) for _, values in columns for value in values)
            if (value := math.nan if broken else function(*given)) is not None:
                found[seed] = value
        return found

    formula, says = f"{name}({', '.join(part.formula for part in parts)})", f"{name} of {parts[0].says}"
    arms = tuple(dict.fromkeys(arm for part in parts for arm in part.arms))
    leaves = tuple(leaf for part in parts for leaf in part.leaves)
    return Measure(formula, says, parts[0].unit, arms, by_seed, leaves)


def _combined(
    left: Series, sign: str, apply: Callable[[float, float], float], right: Series | Measure | float
) -> Series:
    """Place by place; a number or a measure is the same at all places."""
    if isinstance(right, float | int):
        number = right
        return left._changed(f"({{}} {sign} {number:g})", lambda found: [(x, apply(v, number)) for x, v in found])

    def by_seed(records: Records) -> dict[int, Values]:
        theirs, found = right.by_seed(records), left.by_seed(records)
        return {seed: values(found[seed], theirs[seed]) for seed in found if seed in theirs}

    def values(ours: Values, theirs: Values | float) -> Values:
        others = dict(theirs) if isinstance(theirs, list) else dict.fromkeys((x for x, _ in ours), theirs)
        return [(x, apply(v, others[x])) for x, v in ours if x in others and not (sign == "/" and others[x] <= 0)]

    arms = tuple(dict.fromkeys(left.arms + right.arms))
    formula = f"({left.formula} {sign} {right.formula})"
    return replace(left, formula=formula, arms=arms, by_seed=by_seed, leaves=left.leaves + right.leaves)


def _spearman(places: list[float], values: list[float]) -> float | None:
    from scipy.stats import spearmanr

    return float(spearmanr(places, values).statistic) if len(set(values)) > 1 < len(set(places)) else None


def _kendall(places: list[float], values: list[float]) -> float | None:
    # scipy knows tau-b alone, which is other than this where values tie, and none where they all do.
    pairs = [(b > a) - (b < a) for a, b in combinations(values, 2)]
    return mean(pairs) if pairs else None
