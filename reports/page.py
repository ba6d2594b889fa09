"""The report page: one self-contained report.html from nothing but the files of a finished ablation's folder."""

from __future__ import annotations

import argparse
import base64
import csv
import json
import math
import re
import statistics
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ablations.harness.files import atomic_write_bytes
from ablations.harness.records import Records, as_text, read_csv
from reports.figures import number, strip

Json = dict[str, Any]
Built = TypeVar("Built")

VERDICTS = ("reproduced", "contradicted", "undecided")
STATES = ("done", "diverged", "missing")
# What ablation.json must hold, and of which type; the page names what is not there.
ABLATION_KEYS: dict[str, type] = {
    "name": str, "title": str, "question": str, "budget": str, "data": str, "evaluation": str, "command": str,
    "seeds": list, "settings": dict, "environment": dict, "arms": list, "runs": list, "figures": list, "not_done": list,
}  # fmt: skip
# As `Test.rule` words it; greedy, because the words before it are the author's own.
THRESHOLD = re.compile(r".*(?: over paired seeds lies (?P<side>above|below)| is at (?P<bound>least|most)) (\S+)", re.S)
PNG_HEADER = struct.Struct(">8s4x4sII")  # signature, length of the chunk, its name, width and height in pixels


def write_page(folder: str | Path) -> Path:
    """Write `folder`/report.html from the folder's files and return its path; the same files give the same bytes.

    What is missing or damaged is named on the page. Raises OSError if the page cannot be written.
    """
    folder = Path(folder)
    problems: list[str] = []
    ablation = _read_ablation(folder, problems)
    verdicts = _read_json(folder / "verdicts.json", list, problems)
    cards = _each(verdicts or [], _card, "verdicts.json, claim", problems)
    arms = _each(ablation["arms"], _arm, "ablation.json, arm", problems)
    runs = _each(ablation["runs"], _run, "ablation.json, run", problems)
    figures = _each(ablation["figures"], lambda entry: _figure(folder, entry), "figure", problems)
    records = _read_records(folder / "records.csv", problems)
    page = _environment().get_template("page.html.j2").render(
        **{key: ablation[key] for key in ("title", "question", "budget", "data", "evaluation", "command")},
        name=ablation["name"] or folder.resolve().name,
        seeds=len(ablation["seeds"]),
        settings={key: _plain(value) for key, value in ablation["settings"].items()},
        environment={key: _plain(value) for key, value in ablation["environment"].items()},
        cards=cards,
        counts=[(word, sum(card["verdict"] == word for card in cards)) for word in VERDICTS],
        figures=figures,
        arms=arms,
        differences=_differences(arms),
        searches=_each(ablation["search"], _search, "ablation.json, search", problems),
        runs=runs,
        summaries=_summaries(runs),
        records=records,
        broken=sum(not math.isfinite(row.value) for row in records or ()),
        not_done=_not_done(ablation, arms, runs, records),
        problems=problems,
    )  # fmt: skip
    path = folder / "report.html"
    atomic_write_bytes(path, page.encode("utf-8", "backslashreplace"))  # JSON can hold lone surrogates
    return path


def _environment() -> Environment:
    """Jinja with escaping of every text, and an error for a name that the template misspells."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, duration=_duration)
    return environment


def _read_json(path: Path, kind: type[Built], problems: list[str]) -> Built | None:
    """The content of a JSON file, or None after naming the problem."""
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    except ValueError as error:
        problems.append(f"{path.name} is damaged: {error}.")
    else:
        if isinstance(content, kind):
            return content
        problems.append(f"{path.name} is damaged: it holds no {kind.__name__}.")
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_ablation(folder: Path, problems: list[str]) -> Json:
    """ablation.json with every key of ABLATION_KEYS, empty where it has none and the problem was named."""
    content = _read_json(folder / "ablation.json", dict, problems)
    known: Json = {}
    for key, kind in ABLATION_KEYS.items():
        value = (content or {}).get(key)
        if content is not None and not isinstance(value, kind):
            problems.append(f'ablation.json holds no {kind.__name__} named "{key}".')
        known[key] = value if isinstance(value, kind) else kind()
    searches = (content or {}).get("search")  # absent from the files of earlier versions
    known["search"] = searches if isinstance(searches, list) else []
    return known


def _read_records(path: Path, problems: list[str]) -> Records | None:
    """The records, or None after naming the problem."""
    try:
        return read_csv(path)
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    except ValueError as error:  # its text begins with the path, which is not the reader's
        problems.append(f"{str(error).replace(str(path), path.name)}. The verdicts cannot be checked against it.")
    return None


def _each(entries: Iterable[Any], build: Callable[[Any], Built], what: str, problems: list[str]) -> list[Built]:
    """`build` of every entry; one that is damaged is named as a problem and left out."""
    built = []
    for count, entry in enumerate(entries, start=1):
        try:
            built.append(build(entry))
        except KeyError as error:
            problems.append(f"{what} {count} is damaged and left out: it has no {error}.")
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            problems.append(f"{what} {count} is damaged and left out: {error}.")
    return built


def _card(verdict: Json) -> Json:
    """One claim: its texts as they are, its tests with their strips of seeds."""
    _one_of(verdict["verdict"], VERDICTS)
    keys = ("claim", "says", "verdict", "why", "scale", "rule", "published", "notes_value", "source")
    tests = [_test(test) for test in verdict["tests"]]
    if not tests:
        raise ValueError("it has no test")
    p_values = {key: number(verdict[key]) for key in ("p", "p_opposite")}
    return {**{key: verdict[key] for key in keys}, **p_values, "tests": tests}


def _test(test: Json) -> Json:
    """One test of a claim: its estimate in words, its threshold and its strip of seeds."""
    match = THRESHOLD.match(test["rule"])
    if match is None:
        raise ValueError(f"the rule of test {test['name']!r} names no threshold")
    upward = match["side"] == "above" or match["bound"] == "least"
    threshold = float(match[3].rstrip(","))
    values = {seed: None if value is None else float(value) for seed, value in test["values"].items()}
    exact, unit = match["bound"] is not None, str(test["unit"])
    low, high = map(_optional, test["interval"])
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
        "estimate": _optional(test["estimate"]),
        "outcome": _one_of(test["outcome"], VERDICTS),
        "interval": interval,
        "needs": f"at {'least' if upward else 'most'} {number(threshold)} {unit}".rstrip(),
        # Inside a strip there is no room for a long unit, which the sentence above it names.
        "needs_short": f"at {'least' if upward else 'most'} {number(threshold)}{' %' if unit.startswith('%') else ''}",
        "lost": [seed for seed, value in values.items() if value is None],
        "strip": strip({s: v for s, v in values.items() if v is not None}, low, high, threshold, upward, exact, unit),
    }


def _arm(arm: Json) -> Json:
    """One arm with the texts of its arguments and recipe fields, keyed by (group, name)."""
    fields = {("", "network"): _plain(arm["network"])}
    for group in ("arguments", "recipe"):
        fields |= {(group, key): _plain(value) for key, value in arm[group].items()}
    counts = {key: int(arm[key]) for key in ("parameters", "multiply_adds", "blocks")}
    return {"name": _plain(arm["name"]), "note": _plain(arm["note"]), "fields": fields, **counts}


def _search(search: Json) -> Json:
    """What `--search` tried for one arm, the candidates from the best to those that diverged."""
    candidates = [
        {"values": _plain(each["values"]), "run": _plain(each["run"]), "loss": _optional(each["train_loss"])}
        for each in search["candidates"]
    ]
    ranges = {
        name: (" or " if any(isinstance(end, str) for end in ends) else " to ").join(map(_plain, ends))
        for name, ends in search["ranges"].items()
    }
    return {
        "arm": _plain(search["arm"]),
        "criterion": _plain(search["criterion"]),
        "ranges": _plain(ranges),
        "chosen": None if search["chosen"] is None else _plain(search["chosen"]),
        "loss": _optional(search["train_loss"]),
        "candidates": sorted(candidates, key=lambda each: math.inf if each["loss"] is None else each["loss"]),
        "diverged": sum(each["loss"] is None for each in candidates),
    }


def _differences(arms: Sequence[Json]) -> list[tuple[str, str]]:
    """The (group, name) of the fields in which the arms differ; not to set a field is a difference too."""
    keys = sorted(dict.fromkeys(key for arm in arms for key in arm["fields"]), key=lambda key: key[0])  # by group
    return [key for key in keys if len({arm["fields"].get(key) for arm in arms}) > 1]


def _run(run: Json) -> Json:
    """One run, its state and numbers checked."""
    _one_of(run["state"], STATES)
    numbers = {key: _optional(run[key]) for key in ("train_seconds", "images_per_second", "test_top1_error")}
    texts = {key: _plain(run[key]) for key in ("arm", "run", "state", "why")}
    return {**texts, "seed": int(run["seed"]), **numbers}


def _summaries(runs: Sequence[Json]) -> list[Json]:
    """Per arm: how many of its runs are done, and mean and sample deviation of their numbers over seeds."""
    summaries = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        done = [run for run in mine if run["state"] == "done"]
        summary: Json = {"arm": arm, "runs": len(mine), "done": len(done)}
        for key in ("test_top1_error", "train_seconds", "images_per_second"):
            values = [run[key] for run in done if run[key] is not None]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            summary[key] = (statistics.fmean(values), deviation) if values else None
        summaries.append(summary)
    return summaries


def _not_done(ablation: Json, arms: Sequence[Json], runs: Sequence[Json], records: Records | None) -> list[str]:
    """What a reader might believe was done but was not, one sentence each."""
    entries = []
    for run in runs:
        if run["state"] != "done":
            why = f": {run['why']}" if run["why"] else ""
            entries.append(f"Arm {run['arm']}, seed {run['seed']} is {run['state']}{why}.")
    explained = [(run["arm"], run["seed"]) for run in runs if run["state"] != "done"]
    for arm in arms:
        present = ablation["seeds"] if records is None else records.seeds(arm["name"])
        absent = [s for s in ablation["seeds"] if s not in present and (arm["name"], s) not in explained]
        if absent:
            entries.append(f"Arm {arm['name']} has no records of seed {', '.join(map(_plain, absent))}.")
    return entries + [_plain(entry) for entry in ablation["not_done"]]


def _figure(folder: Path, entry: Json) -> Json:
    """One figure as a data URI with its size in pixels, or the cells of a table (.csv).

    Raises ValueError saying what is wrong with the file.
    """
    file, title, caption = entry["file"], entry["title"], entry["caption"]
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} lies outside the folder")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} ({title}) cannot be read, {error.strerror}") from error
    if path.suffix == ".csv":
        try:
            columns, *rows = csv.reader(content.decode().splitlines())
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file} ({title}) is no table") from error
        return {"columns": columns, "rows": rows, "title": title, "caption": caption}
    header = PNG_HEADER.unpack(content[: PNG_HEADER.size].ljust(PNG_HEADER.size))
    if header[:2] != (b"\x89PNG\r\n\x1a\n", b"IHDR") or not content.endswith(b"IEND\xaeB\x60\x82"):
        raise ValueError(f"{file} ({title}) is no complete PNG")
    data = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return {"data": data, "title": title, "caption": caption, "width": header[2], "height": header[3]}


def _one_of(word: object, allowed: Sequence[str]) -> str:
    if not isinstance(word, str) or word not in allowed:
        raise ValueError(f"{word!r} is none of {', '.join(allowed)}")
    return word


def _optional(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]


def _duration(seconds: float) -> str:
    """Seconds in the unit that a reader would choose."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _plain(value: object) -> str:
    """A setting in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return "none" if value is None else as_text(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild the page of a finished ablation; 2 if its folder does not exist."""
    parser = argparse.ArgumentParser(prog="python -m reports.page", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="holds records.csv, verdicts.json, ablation.json and figures/")
    folder = parser.parse_args(argv).folder
    if not folder.is_dir():
        print(f"{folder} is not a folder", file=sys.stderr)
        return 2
    print(write_page(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
