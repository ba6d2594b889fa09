"""Reading the files of a finished ablation for a page: what is missing or damaged is named, and the rest is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ablations.harness.store.records import Records, records_file
from ablations.harness.store.records import read_records as stored_records
from reports.charts.style import number

Json = dict[str, Any]
Built = TypeVar("Built")

# What ablation.json must hold, and of which type; the page names what is not there.
ABLATION_KEYS: dict[str, type] = {
    "name": str, "title": str, "question": str, "budget": str, "data": str, "evaluation": str, "command": str,
    "seeds": list, "probes": list, "charts": list, "environment": dict, "arms": list, "runs": list, "figures": list,
    "not_done": list,
}  # fmt: skip


def environment() -> Environment:
    """Jinja with escaping of every text, and an error for a name that the template misspells."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, words in (("number", number), ("duration", _duration)):
        found.filters[name] = lambda value, words=words: "\N{EN DASH}" if value is None else words(value)
    return found


def strict_json(content: bytes) -> Any:
    """The content of a JSON file; raises ValueError if it is damaged, or for NaN and infinity, which are not JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(content, parse_constant=refuse)


def read_json(path: Path, kind: type[Built], problems: list[str]) -> Built | None:
    """The content of a JSON file, or None after naming the problem."""
    try:
        content = strict_json(path.read_bytes())
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} is damaged: {error}.")
    else:
        if isinstance(content, kind):
            return content
        problems.append(f"{path.name} is damaged: it holds no {kind.__name__}.")
    return None


def read_ablation(folder: Path, problems: list[str]) -> Json:
    """ablation.json with every key of ABLATION_KEYS, empty where it has none and the problem was named."""
    content = read_json(folder / "ablation.json", dict, problems)
    known: Json = {}
    for key, kind in ABLATION_KEYS.items():
        value = (content or {}).get(key)
        if content is not None and not isinstance(value, kind):
            problems.append(f'ablation.json holds no {kind.__name__} named "{key}".')
        known[key] = value if isinstance(value, kind) else kind()
    searches = (content or {}).get("search")  # absent from the files of earlier versions
    known["search"] = searches if isinstance(searches, list) else []
    foreign = (content or {}).get("foreign")  # of a network that was not trained here alone
    known["foreign"] = [foreign] if foreign is not None else []
    return known


def read_records(folder: Path, problems: list[str]) -> Records | None:
    """The records of an ablation's folder, or None after naming the problem."""
    path = records_file(folder)
    try:
        return stored_records(folder)
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}.")
    except ValueError as error:  # its text begins with the path, which is not the reader's
        problems.append(f"{str(error).replace(str(path), path.name)}. The verdicts cannot be checked against it.")
    return None


def read_each(entries: Iterable[Any], build: Callable[[Any], Built], what: str, problems: list[str]) -> list[Built]:
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


def one_of(word: object, allowed: Sequence[str]) -> str:
    """The word itself; raises ValueError for one that is not allowed."""
    if not isinstance(word, str) or word not in allowed:
        raise ValueError(f"{word!r} is none of {', '.join(allowed)}")
    return word


def _duration(seconds: float) -> str:
    """Seconds in the unit that a reader would choose."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
