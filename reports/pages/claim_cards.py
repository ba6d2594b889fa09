"""A claim as pages show it: its texts, its verdict, and each test with its estimate and its strip of seeds."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.style import number, strip
from reports.pages.reading import Json, one_of

VERDICTS = ("reproduced", "contradicted", "undecided")


def counts(verdicts: Sequence[Json]) -> list[tuple[str, int]]:
    """How many of the verdicts are which word, in the order of VERDICTS."""
    return [(word, sum(verdict["verdict"] == word for verdict in verdicts)) for word in VERDICTS]


def claim_card(verdict: Json) -> Json:
    """One claim: its texts as they are, its tests with their strips of seeds."""
    one_of(verdict["verdict"], VERDICTS)
    keys = ("claim", "says", "verdict", "why", "scale", "rule", "published", "notes_value", "source")
    tests = [_test(test) for test in verdict["tests"]]
    if not tests:
        raise ValueError("it has no test")
    p_values = {key: number(verdict[key]) for key in ("p", "p_opposite")}
    return {**{key: verdict[key] for key in keys}, **p_values, "tests": tests}


def _test(test: Json) -> Json:
    """One test of a claim: its estimate in words, its threshold and its strip of seeds."""
    if "side" not in test:
        raise ValueError("an earlier version wrote it; repeat the command, which trains nothing again")
    side, threshold = one_of(test["side"], ("at least", "at most")), float(test["threshold"])
    exact = bool(test["exact"])
    values = {seed: None if value is None else float(value) for seed, value in test["values"].items()}
    unit = str(test["unit"])
    low, high = (None if end is None else float(end) for end in test["interval"])
    if test["estimate"] is None:
        interval = "no estimate"
    elif exact:
        interval = "counted exactly"
    elif low is None or high is None:
        interval = f"no interval from seed {', '.join(values)} alone"
    else:
        interval = f"95 % interval {number(low)} to {number(high)} {unit}".rstrip()
    return {
        **{key: test[key] for key in ("says", "why")},
        "unit": unit,
        "estimate": None if test["estimate"] is None else float(test["estimate"]),
        "outcome": one_of(test["outcome"], VERDICTS),
        "interval": interval,
        "needs": f"{side} {number(threshold)} {unit}".rstrip(),
        # Inside a strip there is no room for a long unit, which the sentence above it names.
        "needs_short": f"{side} {number(threshold)}{' %' if unit.startswith('%') else ''}",
        "lost": [seed for seed, value in values.items() if value is None],
        "strip": strip(
            {s: v for s, v in values.items() if v is not None}, low, high, threshold, side == "at least", exact, unit
        ),
    }
