"""Every script of ablations/: a file directly in that folder, which declares ABLATION."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ablations.harness.declare.ablation import Ablation


def names() -> list[str]:
    """The names of the files that may be scripts, sorted."""
    return sorted(file.stem for file in Path(__file__).parents[2].glob("[!_]*.py"))


def declared(name: str) -> Ablation | None:
    """The ablation of the file of that name; None if it declares none, or there is no such file."""
    found = getattr(import_module(f"ablations.{name}"), "ABLATION", None) if name in names() else None
    return found if isinstance(found, Ablation) else None


def scripts() -> list[Ablation]:
    """The ablations of the package, by name; files that declare none are passed over."""
    return [ablation for name in names() if (ablation := declared(name)) is not None]
