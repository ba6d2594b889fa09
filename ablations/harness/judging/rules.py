"""When the rules of a script were fixed: the commit that last changed its file, and whether its runs came later."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any


def fixed(file: Path, trained_at: Collection[str]) -> dict[str, Any]:
    """Commit and date (ISO) of the rules in a script's file, whether they were changed since, and before all runs.

    trained_at: the commits at which the runs were trained. `before_runs` is None where that cannot be known. Empty
    where the file is in no git checkout.
    """
    said = _git(file, "log", "-1", "--format=%H %cI", "--", file.name)
    if not said:
        return {}
    commit, _, date = said.partition(" ")
    changed = bool(_git(file, "status", "--porcelain", "--", file.name))
    known = [_git(file, "rev-parse", "--verify", "--quiet", f"{each}^{{commit}}") for each in trained_at]
    before = None
    if known and all(known):
        before = not changed and all(_git(file, "merge-base", commit, str(each)) == commit for each in known)
    return {"commit": commit[:12], "date": date, "uncommitted_changes": changed, "before_runs": before}


def _git(file: Path, *words: str) -> str | None:
    """What git prints in the file's folder; None where there is no git, no checkout, or it fails."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, timeout=10, check=True
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
