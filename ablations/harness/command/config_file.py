"""A YAML file of options: what is wrong with it is told in one line, by name, before the parser takes its values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

LARGEST = 1 << 20  # bytes; a file of options has some hundred
DEEPEST = 20  # lists and mappings in one another; what a file of options holds has two
GROUPS = ("trainer", "probe")  # their options stand indented below them
NO_OPTIONS = ("help", "config", "print_config", "version")  # of the command alone


def read(file: str) -> dict[str, Any]:
    """The options that a YAML file sets by their names (`seeds`, `trainer.devices`).

    Raises ValueError for a file that is none, unreadable, no YAML or no mapping, and for an option that stands there
    twice.
    """
    import yaml

    text = _text(Path(file))
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{file}: *aliases are not taken; write values out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:  # yaml takes half a minute for 5,000 brackets
                raise RecursionError
        tree = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{file}{where}: no YAML ({getattr(error, 'problem', None) or error})") from None
    except RecursionError:
        raise ValueError(f"{file}: nested too deeply; give lines such as `seeds: 3`") from None
    if not isinstance(content, dict):
        what = {type(None): "empty", list: "a list"}.get(type(content), "one value")
        raise ValueError(f"{file} is {what}; give lines such as `seeds: 3`")
    twice = next(_repeated(tree), None)
    if twice is not None:
        raise ValueError(f"{file}: {twice} stands there twice")
    return dict(_flat(content, file))


def check(file: str, options: Mapping[str, Any], parser: ArgumentParser, refused: Mapping[str, str]) -> None:
    """Raises ValueError for an option that the parser does not have, a null that means nothing, and a list or single
    value that is none; the parser itself looks at the types of the others."""
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    known = [name for name in actions if name not in NO_OPTIONS]
    for name, value in options.items():
        if name in refused:
            raise ValueError(f"{file}: {name}: {refused[name]}")
        if name.startswith("probe."):  # which settings a script has is known with its plan
            if value is None or isinstance(value, list | dict):
                raise ValueError(f"{file}: {name}: give a number, a word, or yes or no")
            continue
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; names are those of the flags, such as data_root"
            raise ValueError(f"{file}: unknown option {name}{hint}")
        if value is None and parser.get_default(name) is not None:
            raise ValueError(f"{file}: {name} is empty; give a value, or leave the line out")
        listed = isinstance(value, list) and all(isinstance(each, str | int | float) for each in value)
        if actions[name].nargs == "+" and not listed:
            example = "A, B" if isinstance(value, list | dict) else value
            raise ValueError(f"{file}: {name}: give a list, such as [{example}]")
        if isinstance(value, dict):
            raise ValueError(f"{file}: {name}: give one value")


def _text(file: Path) -> str:
    try:
        if not file.is_file():  # a pipe or device could be waited for without end
            raise ValueError(f"{file}: " + ("not a file" if file.exists() else "no such file"))
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file}: {file.stat().st_size >> 20} MiB are too much for a list of options")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: no UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None


def _repeated(node: Any) -> Iterator[str]:
    """The keys that one mapping of a YAML tree holds more than once."""
    if isinstance(node.value, list) and node.id == "mapping":
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        yield from (key for number, key in enumerate(keys) if key in keys[:number])
        for _, value in node.value:
            yield from _repeated(value)


def _flat(content: Mapping[Any, Any], file: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if key not in GROUPS:
            yield str(key), value
            continue
        if not isinstance(value, dict) or not value:
            raise ValueError(f"{file}: {key}: give its options indented below it, one a line")
        yield from ((f"{key}.{name}", each) for name, each in value.items())
