"""How this process was started, in words that start it again from the same folder, and which version it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "reports" / "published"
CONSOLE = "ablations"  # the console script of an installation


def program(module: str) -> list[str]:
    """The words that start a module of the suite, such as `ablations.remove_layers`, as this process was started.

    A file that was started as such is named as it lies below here, or as it was named; else there is `python -m`, which
    needs no file.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    started = Path(sys.argv[0])
    package, _, name = module.partition(".")
    if spec is None and started.suffix == ".py" and started.stem != "__main__":
        below = os.path.relpath(started)
        return ["python", str(started) if below.startswith(os.pardir) else below]
    if package == "ablations" and (spec is None or spec.name != module):
        console = spec is None and started.stem == CONSOLE
        return [*([CONSOLE] if console else ["python", "-m", package]), *filter(None, [name])]
    return ["python", "-m", module]


def version() -> str:
    """The version of this code: a checkout's own, else that of the installation."""
    from importlib.metadata import version as installed

    checkout = ROOT / "pyproject.toml"
    if checkout.is_file():
        import tomllib

        project = tomllib.loads(checkout.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "cnn-ablations":
            return str(project["version"])
    return installed("cnn-ablations")
