"""Claims about convolutional networks on trial: one file of this folder is one question.

The first import of all looks whether the suite's other packages are its own: a script starts with its own folder first
on the path, `python -m` with the current one, and a folder or file `modules` in them hides the suite's. That would end
in an ImportError, for `reports` after the training.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def _hidden() -> str | None:
    """In one line, what hides one of the suite's packages; None if each is its own."""
    for name in ("datamodules", "modules", "reports"):
        try:
            found = find_spec(name)
        except ValueError:  # something without a spec was put in its place
            found = None
        places = [found.origin, *(found.submodule_search_locations or ())] if found else []
        place = next((Path(each) for each in places if each is not None), _ROOT / name)
        if _ROOT / name not in (place.resolve(), place.resolve().parent):
            hiding = place.parent if place.name == "__init__.py" else place
            return (
                f"{hiding} hides the package `{name}` of cnn-ablations in {_ROOT}; "
                "rename it, or keep the script, the current folder and PYTHONPATH away from it"
            )
    return None


if (_told := _hidden()) is not None:
    # One line for a command, an exception for whoever types or collects imports. `python -m` has no file yet.
    if sys.argv[:1] == ["-m"] or (hasattr(sys.modules.get("__main__"), "__file__") and not hasattr(sys, "ps1")):
        print(f"ablations: {_told}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(_told)
