"""Measures: what a test judges, as an expression over records that can be computed, printed and invented.

    error = Quantity("test/top1_error", "%", "test error")
    error("plain") - error("residual")                 # seed -> difference in % points, paired by seed
    greatest(loss("highway_50"), loss("highway_100"))  # seed -> the larger of the two

A measure knows its arms, its unit and its words, so that no declaration says them again. `computed` is the one way
out, for what no expression says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import Literal, get_args

from ablations.harness.store.records import Record, Records, point

BySeed = dict[int, float]
Invented = tuple[str, str, str, float]
"""Of a record that nobody measured: arm, point, metric, value."""

SHARED = 200  # values of which an invented share is made

Over = Literal["one", "mean", "median", "least", "greatest", "last"]
CHOICES: Mapping[str, Callable[[list[float]], float]] = {
    "first": lambda values: values[0], "mean": mean, "median": median, "least": min, "greatest": max,
}  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """A part of a measure that is no expression of others; invent: records of which a value comes out, for tests.

    unit: of that value.
    """

    formula: str
    unit: str
    invent: Callable[[float], Iterable[Invented]] | None


@dataclass(frozen=True)
class Measure:
    """A number per seed; + - * / combine it with another, paired by seed, or with a number.

    formula: how it is computed; says: what it is, in words; unit: "" for a pure number. arms: in the order in which
    the formula names them. by_seed: records -> {seed: value}; a seed that lacks a part has none, NaN is a run that
    diverged.
    exact: one count (at seed 0), the same for every seed, which needs no statistics.
    """

    formula: str
    says: str
    unit: str
    arms: tuple[str, ...]
    by_seed: Callable[[Records], BySeed]
    leaves: tuple[Leaf, ...]
    exact: bool = False
    quantity: Quantity | None = None

    def __str__(self) -> str:
        return self.formula

    def called(self, says: str, unit: str | None = None) -> Measure:
        """The same under other words, and in another unit if one is given."""
        return replace(self, says=says, unit=self.unit if unit is None else unit)

    def __add__(self, other: Measure | float) -> Measure:
        return _paired("+", self, other)

    def __sub__(self, other: Measure | float) -> Measure:
        return _paired("-", self, other)

    def __mul__(self, other: Measure | float) -> Measure:
        return _paired("*", self, other)

    def __rsub__(self, number: float) -> Measure:
        return _paired("-", number, self)

    def __rmul__(self, factor: float) -> Measure:
        return _paired("*", self, factor)

    def __truediv__(self, other: Measure | float) -> Measure:
        """A quotient has no value where its divisor is not above 0."""
        return _paired("/", self, other)


@dataclass(frozen=True)
class Quantity:
    """A metric at a point, of any arm; calling it with the arm's name gives a measure.

    probe, where: first word and fields of the point. says: in words, for rules and charts.
    over: what becomes of several values of one seed; `last` is the one at the greatest epoch.
    guessing: a run that diverged has the value of this metric at the probe `chance`, what guessing scores, the same
    for every arm; capped: so has one that ends above it.
    share_from: instead of the values, the share of them in % that are as large as this or larger.
    Raises ValueError for an unknown `over`.
    """

    metric: str
    unit: str = ""
    says: str = ""
    probe: str = "test"
    where: Mapping[str, object] = field(default_factory=dict)
    over: Over = "one"
    guessing: str = ""
    capped: bool = False
    share_from: float | None = None

    def __post_init__(self) -> None:
        if self.over not in get_args(Over):
            raise ValueError(f"quantity {self.metric!r}: over {self.over!r}; allowed: {', '.join(get_args(Over))}")

    def __str__(self) -> str:
        fields = "".join(f", {key}={value}" for key, value in self.where.items())
        over = "" if self.over == "one" else f"{self.over} "
        over = over if self.share_from is None else f"share from {self.share_from:g} of "
        return f"{over}{self.metric} at {self.probe}{fields}"

    def __call__(self, arm: str, **where: object) -> Measure:
        """The quantity of one arm; where: more fields of the point."""
        mine = replace(self, where={**self.where, **where}) if where else self
        formula, says = f"[{mine} of {arm}]", f"{self.says or self} of {arm}"
        leaf = Leaf(formula, self.unit, lambda value: mine._invented(arm, value))
        return Measure(formula, says, self.unit, (arm,), lambda r: mine._by_seed(r, arm), (leaf,), quantity=mine)

    def _by_seed(self, records: Records, arm: str) -> BySeed:
        groups: dict[int, list[Record]] = {}
        for row in records.where(arm, None, self.probe, self.metric, **self.where):
            groups.setdefault(row.seed, []).append(row)
        found = {seed: self._reduced(rows) for seed, rows in sorted(groups.items())}
        if not self.guessing:
            return found
        diverged = records.where(arm, probe="diverged").seeds()
        trained = {seed: value for seed, value in found.items() if seed not in diverged}
        chance = records.where(probe="chance", metric=self.guessing).values()[:1]
        if self.capped and chance:
            trained = {seed: min(value, chance[0]) for seed, value in trained.items()}
        return trained | {seed: guess for seed in diverged for guess in chance}

    def _reduced(self, rows: list[Record]) -> float:
        values = [row.value for row in rows]
        if self.over == "last":
            return max(rows, key=lambda row: int(row.fields["epoch"])).value
        if self.over == "one" and self.share_from is None:
            return values[0]
        if not all(map(math.isfinite, values)):  # no least, median or share passes over what is no number
            return math.nan
        if self.share_from is not None:
            return 100.0 * mean(value >= self.share_from for value in values)
        return CHOICES[self.over](values)

    def _invented(self, arm: str, value: float) -> Iterator[Invented]:
        epoch = {"epoch": 1} if self.over == "last" else {}
        values = [value]
        if self.share_from is not None:
            values = [self.share_from - (100 * number >= value * SHARED) for number in range(SHARED)]
        for each in values:
            yield arm, point(self.probe, **self.where, **epoch), self.metric, each


top1_error = Quantity("test/top1_error", "%", "test error")


def computed(
    says: str,
    unit: str,
    function: Callable[[Records], Mapping[int, float]],
    arms: tuple[str, ...],
    invent: Callable[[float], Iterable[Invented]] | None = None,
    exact: bool = False,
) -> Measure:
    """What no expression says: a function of the records, which names its arms.

    invent: records of which a value comes out that lies on the same side of every threshold; for tests.
    """
    name = getattr(getattr(function, "func", function), "__name__", "function")  # also of a partial
    given = [f"{key}={value}" for key, value in getattr(function, "keywords", {}).items() if value not in arms]
    formula = f"{name}({', '.join([*arms, *given])})"
    leaf = Leaf(formula, unit, invent)
    return Measure(formula, says, unit, arms, lambda records: dict(sorted(function(records).items())), (leaf,), exact)


def won(part: Measure) -> Measure:
    """100 where the measure is above 0, 50 where it is 0, 0 below: in a mean, the share that is won in %."""

    def points(value: float) -> float:
        return value if math.isnan(value) else 50.0 + 50.0 * ((value > 0) - (value < 0))

    return replace(part, formula=f"won({part.formula})", says=f"share of wins of {part.says}", unit="%",
                   by_seed=lambda records: _each(points, part.by_seed(records)), quantity=None)  # fmt: skip


def mean_of(*parts: Measure) -> Measure:
    """The mean of several measures of a seed."""
    return several("mean", mean, parts)


def least(*parts: Measure) -> Measure:
    """The least of several measures of a seed; NaN if one of them is."""
    return several("least", lambda values: math.nan if any(map(math.isnan, values)) else min(values), parts)


def greatest(*parts: Measure) -> Measure:
    """The greatest of several measures of a seed; NaN if one of them is."""
    return several("greatest", lambda values: math.nan if any(map(math.isnan, values)) else max(values), parts)


def log2(part: Measure) -> Measure:
    """The binary logarithm; a seed whose value is not above 0 has none."""
    return _mapped("log2", math.log2, part, "")


def log10(part: Measure, unit: str = "") -> Measure:
    """The decimal logarithm; a seed whose value is not above 0 has none. unit: `decades`, say."""
    return _mapped("log10", math.log10, part, unit)


def absolute(part: Measure) -> Measure:
    """The size without its sign."""
    return replace(_mapped("absolute", abs, part, part.unit), by_seed=lambda r: _each(abs, part.by_seed(r)))


def where_at_least(part: Measure, other: Measure, bound: float) -> Measure:
    """The measure of those seeds alone in which another one is so large, or larger."""

    def by_seed(records: Records) -> BySeed:
        large = {seed for seed, value in other.by_seed(records).items() if value >= bound}
        return {seed: value for seed, value in part.by_seed(records).items() if seed in large}

    return replace(
        part, formula=f"({part.formula} where {other.formula} >= {bound:g})", arms=_arms(part, other), by_seed=by_seed,
        says=f"{part.says} where {other.says} is at least {bound:g}", leaves=part.leaves + other.leaves, quantity=None,
    )  # fmt: skip


def counted(part: Measure, choose: Literal["first", "least", "greatest"] = "first") -> Measure:
    """What is counted and not sampled, as one value: that of the first seed, or the least or greatest of all."""

    def once(records: Records) -> BySeed:
        found = [value for value in part.by_seed(records).values() if math.isfinite(value)]
        return {0: CHOICES[choose](found)} if found else {}

    return replace(part, formula=f"{choose}({part.formula})", by_seed=once, exact=True, quantity=None)


def _paired(sign: str, left: Measure | float, right: Measure | float) -> Measure:
    """Two measures seed by seed, or a measure and a number for all seeds."""
    apply: Callable[[float, float], float] = {
        "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    }[sign]  # fmt: skip
    word = {"+": "plus", "-": "minus", "*": "times", "/": "over"}[sign]
    if not isinstance(right, Measure):
        assert isinstance(left, Measure)
        return replace(
            left, formula=f"({left.formula} {sign} {right:g})", says=f"{left.says} {word} {right:g}", quantity=None,
            by_seed=lambda records: _each(lambda value: apply(value, right), left.by_seed(records)),
        )  # fmt: skip
    if not isinstance(left, Measure):
        return replace(
            right, formula=f"({left:g} {sign} {right.formula})", says=f"{left:g} {word} {right.says}", quantity=None,
            by_seed=lambda records: _each(lambda value: apply(left, value), right.by_seed(records)),
        )  # fmt: skip

    def by_seed(records: Records) -> BySeed:
        ours, theirs = left.by_seed(records), right.by_seed(records)
        return {
            seed: apply(ours[seed], theirs[seed])
            for seed in ours
            if seed in theirs and (sign != "/" or not theirs[seed] <= 0)
        }

    says = f"{left.says} {word} {right.says}"
    if left.quantity is not None and left.quantity == right.quantity:
        says = f"{left.quantity.says or left.quantity}, {left.arms[0]} {word} {right.arms[0]}"
    unit = left.unit if left.unit == right.unit else left.unit or right.unit
    if sign == "/":
        unit = ""
    elif sign == "-" and unit == "%":
        unit = "% points"
    return Measure(
        f"({left.formula} {sign} {right.formula})", says, unit, _arms(left, right), by_seed, left.leaves + right.leaves,
        left.exact and right.exact,
    )  # fmt: skip


def several(name: str, choose: Callable[[list[float]], float], parts: tuple[Measure, ...]) -> Measure:
    """A number of several measures of a seed, which are given in their order."""

    def by_seed(records: Records) -> BySeed:
        found = [part.by_seed(records) for part in parts]
        common = [seed for seed in found[0] if all(seed in each for each in found)]
        return {seed: choose([each[seed] for each in found]) for seed in common}

    listed = ", ".join(part.formula for part in parts)
    says = f"{name} of {', '.join(part.says for part in parts)}"
    leaves = tuple(leaf for part in parts for leaf in part.leaves)
    exact = all(part.exact for part in parts)
    return Measure(f"{name}({listed})", says, parts[0].unit, _arms(*parts), by_seed, leaves, exact)


def _mapped(name: str, apply: Callable[[float], float], part: Measure, unit: str) -> Measure:
    def by_seed(records: Records) -> BySeed:
        return {seed: apply(value) for seed, value in part.by_seed(records).items() if not value <= 0}

    formula, says = f"{name}({part.formula})", f"{name} of {part.says}"
    return replace(part, formula=formula, says=says, unit=unit, by_seed=by_seed, quantity=None)


def _each(apply: Callable[[float], float], found: BySeed) -> BySeed:
    return {seed: apply(value) for seed, value in found.items()}


def _arms(*parts: Measure) -> tuple[str, ...]:
    return tuple(dict.fromkeys(arm for part in parts for arm in part.arms))
