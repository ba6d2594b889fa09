"""A claim as pages show it: its texts, its verdict, and each test with its estimate and its strip of seeds."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.style import number, strip
from reports.pages.reading import Json, one_of

VERDICTS = ("reproduced", "contradicted", "undecided", "out of reach")
KINDS = ("experiment", "check")
AGREES = {
    "both": "paper and notes",
    "paper": "the paper, not the notes",
    "notes": "the notes, not the paper",
    "neither": "neither",
}


def counts(verdicts: Sequence[Json]) -> list[tuple[str, int]]:
    """How many of the experiments are which word, in the order of VERDICTS; checks do not count."""
    words = [verdict["verdict"] for verdict in verdicts if verdict["kind"] == "experiment"]
    return [(word, words.count(word)) for word in VERDICTS]


def claim_card(verdict: Json) -> Json:
    """One claim: its texts as they are, its needs, its tests with their strips of seeds."""
    one_of(verdict["verdict"], VERDICTS)
    if "needs" not in verdict:
        raise ValueError("an earlier version wrote it; repeat the command, which trains nothing again")
    one_of(verdict["kind"], KINDS)
    keys = ("claim", "says", "kind", "verdict", "why", "scale", "rule", "published", "notes_value", "source")
    tests = [_test(test) for test in verdict["tests"]]
    if not tests:
        raise ValueError("it has no test")
    again = verdict["without_stuck"]
    agrees = verdict["agrees_with"]
    return {
        **{key: verdict[key] for key in (*keys, "amended", "out_of_sight")},
        **{key: number(verdict[key]) for key in ("p", "p_opposite")},
        "needs": [{**_bound(need), "met": bool(need["met"]), "met_by": need["met_by"]} for need in verdict["needs"]],
        "agrees": AGREES[one_of(agrees, tuple(AGREES))] if agrees and verdict["notes_value"] else "",
        "stuck": [f"{run['arm']} seed {run['seed']}" for run in verdict["stuck"]],
        "without_stuck": again and {**again, "verdict": one_of(again["verdict"], VERDICTS)},
        "fixed": _fixed(verdict.get("rules") or {}),
        "tests": tests,
    }


def _fixed(rules: Json) -> str:
    """When the rule was fixed, in a sentence; "" where that is not known."""
    if not rules:
        return ""
    before = {True: ", before every run that it judges", False: ", after some of the runs that it judges", None: ""}
    changed = "; the script has changes that are in no commit" if rules["uncommitted_changes"] else ""
    return (
        f"Last changed in commit {rules['commit']} of {str(rules['date'])[:10]}{before[rules['before_runs']]}{changed}."
    )


def _test(test: Json) -> Json:
    """One test of a claim, with its outcome."""
    return {**_bound(test), "why": test["why"], "outcome": one_of(test["outcome"], VERDICTS)}


def _bound(test: Json) -> Json:
    """A test or a need: its estimate in words, its threshold and its strip of seeds."""
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
        "says": test["says"],
        "unit": unit,
        "estimate": None if test["estimate"] is None else float(test["estimate"]),
        "interval": interval,
        "needs": f"{side} {number(threshold)} {unit}".rstrip(),
        # Inside a strip there is no room for a long unit, which the sentence above it names.
        "needs_short": f"{side} {number(threshold)}{' %' if unit.startswith('%') else ''}",
        "lost": [seed for seed, value in values.items() if value is None],
        "strip": strip(
            {s: v for s, v in values.items() if v is not None}, low, high, threshold, side == "at least", exact, unit
        ),
    }
