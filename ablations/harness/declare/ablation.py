"""Declarations: an ablation is data - claims, arms, tests and rules - fixed before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ablations.harness.declare.chart import Chart
from ablations.harness.declare.measure import Measure
from ablations.harness.declare.probe import Probe
from ablations.harness.declare.scale import Scale
from ablations.harness.store.records import Records

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # what a Holm-adjusted p must stay below
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
class Test:
    """A measure, and the side of a threshold on which it must lie.

    It sees complete seeds of the measure's arms only; a missing arm makes the test undecided.
    Raises ValueError unless exactly one of `at_least` and `at_most` is given, and finite.
    """

    __test__: ClassVar[bool] = False  # the name is ours; pytest must not collect the class

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
        says, threshold = self.measure.says, f"{self.threshold:g} {self.measure.unit}".rstrip()
        if self.measure.exact:
            return f"{says} is {self.side} {threshold}, counted exactly"
        side = "below" if self.at_least is None else "above"
        return (
            f"{100 * LEVEL:g} % t interval of {says} over paired seeds lies {side} {threshold}, "
            f"and Holm-adjusted exact sign-flip p < {ALPHA:g}"
        )


@dataclass(frozen=True)
class Claim:
    """A sentence on trial: reproduced if all its tests are, contradicted if any is, undecided otherwise.

    source: paper, section or figure; published: the paper's value in words, "" if only a figure is printed.
    notes_value: the value in the lecture notes where it differs, "" otherwise. The first test gives the headline.
    Raises ValueError without a test: such a claim could never be judged.
    """

    id: str
    says: str
    source: str
    published: str
    notes_value: str = ""
    tests: tuple[Test, ...] = ()

    def __post_init__(self) -> None:
        if not self.tests:
            raise ValueError(f"claim {self.id!r} has no test")

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
    training loss.
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
        _refuse_repeated(f"claim {claim.id!r}: test", [test.name for test in claim.tests])
        for test in claim.tests:
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
