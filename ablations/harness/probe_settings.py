"""Settings of probes that the command line sets: `--probe.SETTING VALUE`, `--probe.NAME.SETTING VALUE`."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ablations.harness.command.command_line import WrongInput
from ablations.harness.declare.probe import Probe

WORDS = {"yes": True, "true": True, "no": False, "false": False}
KINDS = {bool: "yes or no", int: "a whole number", float: "a number", str: "words"}


def with_settings(probes: Sequence[Probe], given: Mapping[str, str], ablation: str) -> tuple[Probe, ...]:
    """The probes with the values that were given; a setting without a probe's name is set in all that have it.

    All of a probe are set at once, because some go with others only.
    Raises WrongInput for a setting that none has and for a value of another type, ValueError as the probes do.
    """
    changes: list[dict[str, Any]] = [{} for _ in probes]
    for name, text in given.items():
        *of, setting = name.split(".")
        having = [
            place
            for place, probe in enumerate(probes)
            if _kind(probe, setting) is not None and (not of or of == [probe.name])
        ]
        if not having:
            known = dict.fromkeys(key for probe in probes for key in probe.settings if _kind(probe, key) is not None)
            raise WrongInput(f"--probe.{name}: {ablation} has the settings {', '.join(known) or 'none'}")
        for place in having:
            changes[place][setting] = _value(probes[place], setting, name, text)
    return tuple(replace(probe, **changed) for probe, changed in zip(probes, changes, strict=True))


def _kind(probe: Probe, setting: str) -> tuple[type, bool] | None:
    """The plain type of a setting, and whether it may be none; None for one that the probe has not, or not so plain."""
    if setting not in probe.settings:
        return None
    hint = get_type_hints(type(probe))[setting]
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    plain = [part for part in parts if part is not type(None)]
    if get_origin(plain[0]) is Literal:
        plain[0] = str
    return (plain[0], len(parts) > 1) if len(plain) == 1 and plain[0] in KINDS else None


def _value(probe: Probe, setting: str, name: str, text: str) -> Any:
    kind, optional = _kind(probe, setting) or (str, False)
    if optional and text.lower() == "none":
        return None
    try:
        return WORDS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        example = getattr(probe, setting)
        such = "" if example is None else f", such as {example}"
        raise WrongInput(f"--probe.{name} {text}: give {KINDS[kind]}{' or none' if optional else ''}{such}") from None
