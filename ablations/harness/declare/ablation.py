"""Declarations: an ablation is data - claims, arms, tests and rules - fixed before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from ablations.harness.declare.chart import Chart
from ablations.harness.declare.measure import Measure
from ablations.harness.declare.probe import Probe
from ablations.harness.declare.scale import Scale, View
from ablations.harness.store.records import Records

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # what a Holm-adjusted p must stay below
SIDES = ("both", "paper", "notes", "neither")  # with whom a verdict may agree
MAX_SEEDS = 40  # the exact sign-flip test enumerates two halves of 2^20 sums each


@dataclass(frozen=True)
class Arm:
    """What is trained: an architecture's name, its arguments, and what differs from its default recipe.

    note: one remark for the report, "" for none.
    search: what `--search` may vary: a recipe field or an argument -> the ends of a range of one sign, or words.
    data: what is made from the data set for this arm, as `datamodules.make` takes it, `name` included; empty for the
    data set itself.
    Raises ValueError for a range that cannot be drawn from log-uniformly.
    """

    name: str
    network: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    note: str = ""
    search: Mapping[str, tuple[float, float] | tuple[str, ...]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in self.search.items():
            words = [each for each in allowed if isinstance(each, str)]
            ends = [each for each in allowed if not isinstance(each, str)]
            if words and not ends:
                continue
            if words or len(ends) != 2 or not ends[0] < ends[1] or not ends[0] * ends[1] > 0:
                wanted = "words, or two numbers of one sign that rise"
                raise ValueError(f"arm {self.name!r}: search of {name} takes {wanted}; got {allowed}")


@dataclass(frozen=True)
class Bound:
    """A measure, and the side of a threshold on which it must lie.

    It sees complete seeds of the measure's arms only.
    Raises ValueError unless exactly one of `at_least` and `at_most` is given, and finite.
    """

    name: str
    measure: Measure
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"test {self.name!r}: give exactly one of at_least and at_most")
        if not math.isfinite(self.threshold):
            raise ValueError(f"test {self.name!r}: the threshold is {self.threshold}, but must be finite")

    @property
    def side(self) -> str:
        """Where the measure must lie: `at least` or `at most` the threshold."""
        return "at most" if self.at_least is None else "at least"

    @property
    def threshold(self) -> float:
        """The one of `at_least` and `at_most` that was given."""
        threshold = self.at_most if self.at_least is None else self.at_least
        assert threshold is not None
        return threshold

    @property
    def rule(self) -> str:
        """The rule in one sentence of words."""
        if self.measure.exact:
            return f"{self.measure.says} is {self.side} {self._worded(self.threshold)}, counted exactly"
        side = "below" if self.at_least is None else "above"
        interval = f"{100 * LEVEL:g} % t interval of {self.measure.says} over paired seeds"
        return f"{interval} lies {side} {self._worded(self.threshold)}"

    def _worded(self, value: float) -> str:
        return f"{value:g} {self.measure.unit}".rstrip()


@dataclass(frozen=True)
class Test(Bound):
    """What a claim says of a measure; a missing arm makes it undecided.

    margin: 0 or more, the smallest effect that matters: only a measure that lies beyond the threshold by more than it
    contradicts. Raises ValueError as `Bound` does, and for a margin below 0.
    """

    __test__: ClassVar[bool] = False  # the name is ours; pytest must not collect the class

    margin: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"test {self.name!r}: margin is {self.margin}; allowed: 0 or more, finite")

    @property
    def refuted_from(self) -> float:
        """The value beyond which the measure must lie to contradict the claim."""
        return self.threshold + (self.margin if self.at_least is None else -self.margin)

    @property
    def rule(self) -> str:
        """The rule in one sentence of words."""
        if self.measure.exact:
            return super().rule
        side = "above" if self.at_least is None else "below"
        margin = f"; contradicted only {side} {self._worded(self.refuted_from)}" if self.margin else ""
        return f"{super().rule}, and Holm-adjusted exact sign-flip p < {ALPHA:g}{margin}"


@dataclass(frozen=True)
class Need(Bound):
    """What must hold before a claim may be decided either way; where it does not the claim is out of reach.

    met_by: the budget, data or command that would do.
    """

    met_by: str = ""


class Amendment(NamedTuple):
    """A rule or protocol that was changed after data were seen: when (ISO date), from what, to what, and why."""

    date: str
    was: str
    now: str
    why: str


@dataclass(frozen=True)
class Claim:
    """A sentence on trial: reproduced if all its tests are, contradicted if any is, undecided otherwise.

    source: paper, section or figure; published: the paper's value in words, "" if only a figure is printed.
    notes_value: the value in the lecture notes where it differs, "" otherwise. The first test gives the headline.
    needs: without which it is out of reach. kind: a check follows from mathematics or from counting; it is shown apart
    and does not count among the experiments. agrees: `reproduced` and `contradicted` -> with whom that agrees, one of
    SIDES; by itself with both and neither. amended: every change of a rule after data were seen.
    Raises ValueError without a test, with which such a claim could never be judged, and for unknown words.
    """

    id: str
    says: str
    source: str
    published: str
    notes_value: str = ""
    tests: tuple[Test, ...] = ()
    needs: tuple[Need, ...] = ()
    kind: Literal["experiment", "check"] = "experiment"
    agrees: Mapping[str, str] = field(default_factory=lambda: {"reproduced": "both", "contradicted": "neither"})
    amended: tuple[Amendment, ...] = ()

    def __post_init__(self) -> None:
        if not self.tests:
            raise ValueError(f"claim {self.id!r} has no test")
        if self.kind not in ("experiment", "check"):
            raise ValueError(f"claim {self.id!r}: kind {self.kind!r}; allowed: experiment, check")
        if set(self.agrees) != {"reproduced", "contradicted"} or not set(self.agrees.values()) <= set(SIDES):
            allowed = f"reproduced and contradicted -> {', '.join(SIDES)}"
            raise ValueError(f"claim {self.id!r}: agrees is {dict(self.agrees)}; allowed: {allowed}")

    @property
    def rule(self) -> str:
        """The rules of all tests in words."""
        return "; and ".join(test.rule for test in self.tests)


@dataclass(frozen=True)
class Plan:
    """What a budget means on given data: arms, so many seeds of each from the first on, and what networks are asked."""

    arms: Sequence[Arm]
    seeds: int
    probes: Sequence[Probe] = ()
    first_seed: int = 0


@dataclass(frozen=True)
class Ablation:
    """One question: its claims, the plan for a budget and data, and the charts that show what came out.

    plan: imports what is heavy inside, so that the declaration loads at once. baseline: the arm others are compared
    with, "" for none. summary: what the records of a foreign network say, in sentences. refuses_foreign: why no foreign
    network can be asked, "" if it can. trains_only: nothing is asked, judged or reported; runs are told by their
    training loss. views: budget -> what it takes of data that have more, unless the command says otherwise.
    """

    name: str
    title: str
    question: str
    claims: Sequence[Claim]
    plan: Callable[[Scale], Plan]
    charts: Sequence[Chart] = ()
    baseline: str = ""
    summary: Callable[[Records], Sequence[str]] = lambda records: ()
    refuses_foreign: str = ""
    trains_only: bool = False
    views: Mapping[str, View] = field(default_factory=dict)


def check(ablation: Ablation, plan: Plan) -> None:
    """Raise ValueError naming the offender if names repeat, refer to no arm of the plan, or the seeds are out of range.

    Not done on construction, because arms exist only once budget and data are known.
    """
    arms = [arm.name for arm in plan.arms]
    _refuse_repeated(f"ablation {ablation.name!r}: arm", arms)
    _refuse_repeated(f"ablation {ablation.name!r}: claim", [claim.id for claim in ablation.claims])
    if ablation.baseline and ablation.baseline not in arms:
        raise ValueError(f"ablation {ablation.name!r}: baseline {ablation.baseline!r} is not among the arms {arms}")
    for claim in ablation.claims:
        bounds = (*claim.tests, *claim.needs)
        _refuse_repeated(f"claim {claim.id!r}: test", [bound.name for bound in bounds])
        for test in bounds:
            for name in test.measure.arms:
                if name not in arms:
                    raise ValueError(
                        f"claim {claim.id!r}, test {test.name!r}: arm {name!r} is not among the arms {arms}"
                    )
    for probe in plan.probes:
        for name in probe.of:
            if name not in arms:
                raise ValueError(f"ablation {ablation.name!r}: probe {probe.name} asks {name!r}, no arm of {arms}")
    if not 1 <= plan.seeds <= MAX_SEEDS:
        raise ValueError(f"ablation {ablation.name!r}: {plan.seeds} seeds; allowed are 1 to {MAX_SEEDS}")


def _refuse_repeated(what: str, names: list[str]) -> None:
    """Raise ValueError for the first name that occurs twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} {name!r} is declared twice")
