"""`--explain`: what a script claims, trains, asks and decides, as text from the declaration alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Need, Plan
from ablations.harness.declare.chart import Drawing
from ablations.harness.declare.precision import Wish
from ablations.harness.declare.probe import Probe
from ablations.harness.declare.scale import BUDGETS, Scale, View

KNOWN = {
    "digits": (16, 1_211, 450, 1),
    "mnist": (28, 54_000, 10_000, 1),
    "fashion_mnist": (28, 54_000, 10_000, 1),
    "cifar10": (32, 45_000, 10_000, 3),
    "cifar100": (32, 45_000, 10_000, 3),
    "svhn": (32, 65_931, 26_032, 3),
}
"""Data set -> pixels, training images, test images and channels, so that nothing is loaded to explain a plan on it."""
WIDTH = 110


def explanation(ablation: Ablation, data: str, image_size: int | None = None, train_images: int | None = None) -> str:
    """Claims with their rules, and for every budget on the data its arms, seeds and probes.

    data: one of KNOWN. image_size: in pixels, where images are resized. train_images: where not all are trained
    on. Raises KeyError for other data.
    """
    given = View(image_size, train_images and min(train_images, KNOWN[data][1]))
    return "\n".join(_lines(ablation, data, given)) + "\n"


def _lines(ablation: Ablation, data: str, given: View) -> Iterator[str]:
    yield from (ablation.title, ablation.question, "")
    for claim in ablation.claims:
        yield from _claim(claim)
    before: tuple[str, ...] = ()
    pixels, num_train, num_test, channels = KNOWN[data]
    for budget in BUDGETS:
        view = given.or_else(ablation.views.get(budget, View()), pixels, num_train)
        at = Scale(budget, data, view.image_size or pixels, view.train_images or num_train, num_test, channels)
        try:
            plan = ablation.plan(at)
        except ValueError as error:
            yield from ("", f"{budget} budget on {data}: refused, {error}")
            continue
        yield from ("", f"{budget} budget on {data}: {plan.seeds} seeds, {len(plan.arms)} arms")
        yield from _wrapped("  data: ", seen) if (seen := view.in_words(num_train)) else ()
        yield from _arms(plan)
        asked = tuple(line for probe in plan.probes for line in _probe(probe))
        yield from asked if asked != before else ("  asked as above",) if asked else ()
        before = asked
    drawn = [chart.name or ablation.name for chart in ablation.charts if isinstance(chart, Drawing)]
    titles = [chart.title or chart.name for chart in ablation.charts if not isinstance(chart, Drawing)]
    yield from ("", *_wrapped("charts: ", "; ".join([*titles, *(f"drawings of {name}" for name in drawn)])))


def _claim(claim: Claim) -> Iterator[str]:
    yield from _wrapped(f"{claim.id:<5} ", claim.says + (" (a check)" if claim.kind == "check" else ""))
    told = {"source": claim.source, "published": claim.published, "notes": claim.notes_value}
    for word, text in told.items():
        if text:
            yield from _wrapped(f"      {word}: ", text)
    for bound in (*claim.needs, *claim.tests):
        word = "needs " if isinstance(bound, Need) else ""
        yield from _wrapped(f"      {word}{bound.name}: ", bound.rule)
        yield from _wrapped("        = ", bound.measure.formula)
    for change in claim.amended:
        yield from _wrapped("      amended: ", f"{change.date}, from {change.was} to {change.now}: {change.why}")


def _arms(plan: Plan) -> Iterator[str]:
    """The arms with what they differ in; what all have in common stands once."""
    recipes = [_plain(arm.recipe) for arm in plan.arms]
    common = {key: value for key, value in recipes[0].items() if all(each.get(key) == value for each in recipes)}
    if common:
        yield from _wrapped("  recipe of all: ", _in_words(common))
    for arm, recipe in zip(plan.arms, recipes, strict=True):
        own = {key: value for key, value in recipe.items() if key not in common}
        yield from _wrapped(f"  {arm.name}: ", _arm(arm, own), indent=6)


def _arm(arm: Arm, recipe: Mapping[str, str]) -> str:
    parts = [f"{arm.network}({_in_words(_plain(arm.arguments))})", _in_words(recipe)]
    parts += [f"data {_in_words(_plain(arm.data))}" if arm.data else "", arm.note]
    return "; ".join(part for part in parts if part)


def _probe(probe: Probe) -> Iterator[str]:
    says = " ".join((type(probe).__doc__ or "").partition("\n\n")[0].split())
    of = ", ".join(probe.of) or ("every arm" if probe.asks("") else "foreign networks")
    yield from _wrapped(f"  asked of {of}: ", f"{probe.name}: {says}", indent=6)
    if probe.settings:
        yield from _wrapped("      settings: ", _in_words(_plain(probe.settings)), indent=8)
    units = {metric: unit or "a number" for metric, unit in probe.units.items()}
    yield from _wrapped("      measures: ", ", ".join(f"{metric} ({unit})" for metric, unit in units.items()), indent=8)


def _plain(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _word(value) for key, value in values.items() if key != "source"}


def _word(value: Any) -> str:
    if isinstance(value, Wish):
        return f"{value.wanted} where that is fast, else {value.otherwise}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_word, value)) + "]"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _in_words(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _wrapped(head: str, text: str, indent: int = 8) -> list[str]:
    return textwrap.wrap(f"{head}{text}", WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
