"""Charts as an ablation declares them: what is shown and under which words, in plain values that ablation.json holds.

`reports/charts/declared.py` draws them from the files of a finished ablation. What no chart says is a `Drawing` of the
ablation's own in `reports/drawings/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from ablations.harness.declare.measure import Quantity, top1_error

References = Mapping[str, str | float | Quantity]
"""Name of a horizontal line -> a number, the arm whose mean it is, or another quantity, then the mean over all arms."""
Places = Mapping[str, Mapping[str, float | str]]
"""Name of a line -> arm -> where it stands on the horizontal axis: a number, or the network's argument that says it."""


@dataclass(frozen=True)
class Curves:
    """Curves over the epochs of training, a panel for each metric.

    metrics: metric of the training curves -> its label. arms: those that are shown, all where empty. names: what to
    call an arm, where not as it is called. logarithmic: the vertical axis.
    """

    name: str
    title: str
    metrics: Mapping[str, str]
    arms: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    logarithmic: bool = False


@dataclass(frozen=True)
class LossAndError:
    """Training loss and validation error over the epochs in one panel for each comparison.

    panels: title -> arm -> its label; the first arm of a panel is black.
    """

    name: str
    title: str
    panels: Mapping[str, Mapping[str, str]]
    caption: str = ""


@dataclass(frozen=True)
class Against:
    """A quantity of trained networks against a number that their arms differ in.

    series: name of a line -> arm -> that number. across: a quantity whose mean is that number instead.
    """

    name: str
    title: str
    quantity: Quantity
    label: str
    x_label: str
    series: Places
    references: References = field(default_factory=dict)
    caption: str = ""
    logarithmic: bool = False
    across: Quantity | None = None


@dataclass(frozen=True)
class AgainstField:
    """A quantity against a field of its points, such as an epoch or a layer; a line for each arm.

    over: the field. by: another one, for whose values an arm has a line each. arms: those that are shown, all where
    empty. names: what to call them and those values, where not as they are called.
    """

    name: str
    title: str
    quantity: Quantity
    label: str
    over: str
    x_label: str
    by: str = ""
    arms: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    logarithmic: bool = False
    references: References = field(default_factory=dict)


@dataclass(frozen=True)
class Pairs:
    """A quantity of trained networks in arms side by side, the arms of one seed joined by a line."""

    arms: Sequence[str]
    label: str
    quantity: Quantity = top1_error
    title: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    name: str = "pairs"
    caption: str = ""


@dataclass(frozen=True)
class Strips:
    """A row of seeds for each arm, with the published numbers as crosses.

    rows: name of a row -> arm; every arm with a value where empty. published: name of a row -> numbers in the
    quantity's unit. logarithmic: the axis.
    """

    name: str
    title: str
    quantity: Quantity
    label: str
    rows: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Sequence[float]] = field(default_factory=dict)
    caption: str = ""
    logarithmic: bool = False


@dataclass(frozen=True)
class ArmTable:
    """A table with a row for each arm: means over seeds of quantities, and numbers that were published.

    columns: heading -> quantity, an argument of the networks, or arm -> what is printed there. arms: the rows, all
    where empty. names: what to call them and values of fields, where not as they are called. by: field of the
    quantities' points -> heading; an arm then has a row for each value of these fields. medians: in place of means,
    with the range and how many runs diverged. spread: with the standard deviation. Rows and columns without a value are
    left out.
    """

    name: str
    title: str
    columns: Mapping[str, Quantity | str | Mapping[str, str | float]]
    caption: str = ""
    arms: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    medians: bool = False
    spread: bool = False
    by: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Looks:
    """What spatial transformers take from images and give, of one seed: `looks.npz` of their probe.

    arms: arm -> the label in front of its rows. heading: in front of an image's label, above it; "" for no such line.
    """

    name: str
    title: str
    arms: Mapping[str, str]
    caption: str = ""
    heading: str = ""


@dataclass(frozen=True)
class Animation:
    """What a spatial transformer gives in the course of training, of one seed: `training.npz` of its probe."""

    name: str
    title: str
    arm: str
    label: str


@dataclass(frozen=True)
class Drawing:
    """What `draw(records, folder, **arguments)` of `reports/drawings/<name>.py` draws.

    name: the ablation's own where empty. arguments: plain values.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


Chart = Curves | LossAndError | Against | AgainstField | Pairs | Strips | ArmTable | Looks | Animation | Drawing
KINDS: Mapping[str, type[Chart]] = {each.__name__: each for each in get_args(Chart)}


def written(chart: Chart) -> dict[str, Any]:
    """The chart as ablation.json holds it."""
    return {"kind": type(chart).__name__, **asdict(chart)}


def read(said: Mapping[str, Any]) -> Chart:
    """The chart that `written` wrote; raises ValueError for one of an unknown kind or with wrong fields."""
    given = {key: _quantities(value) for key, value in said.items() if key != "kind"}
    if said.get("kind") not in KINDS:
        raise ValueError(f"a chart of kind {said.get('kind')!r}; known are {', '.join(KINDS)}")
    try:
        return KINDS[said["kind"]](**given)
    except TypeError as error:
        raise ValueError(f"chart {said['kind']}: {error}") from None


def _quantities(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "metric" in value and "over" in value:
        return Quantity(**value)
    return {key: _quantities(each) for key, each in value.items()}
