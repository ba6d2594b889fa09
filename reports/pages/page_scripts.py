"""The scripts of a page, and the policy of its head that allows these and no other."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

PLOTLY = "plotly.min.js"  # two folders above the pages that share it


class Scripts(NamedTuple):
    """file: the address of the one that is loaded before the others, "" for none; policy: sources for script-src."""

    inline: tuple[Markup, ...]
    file: str
    policy: str


def chart_scripts(folder: Path) -> Scripts | None:
    """plotly and what draws with it, for the page of a folder; None if plotly is not installed.

    A page holds plotly, unless there is a copy two folders above its own, as there is for all that is published.
    """
    if (folder / ".." / ".." / PLOTLY).is_file():
        return scripts("charts.js", file=f"../../{PLOTLY}")
    try:
        return scripts("charts.js", before=(plotly(),))
    except ImportError:
        return None


def plotly() -> str:
    """The whole of plotly.js; raises ImportError if plotly is not installed."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def scripts(name: str, before: tuple[str, ...] = (), file: str = "") -> Scripts:
    """The script of that name in this folder, after those `before` it."""
    texts = (*before, (Path(__file__).parent / name).read_text(encoding="utf-8"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in texts]
    # A file cannot be allowed by its hash where the page was opened from disk; 'self' is for pages on a server.
    sources = [*(["'self'", "file:"] if file else []), *(f"'sha256-{each}'" for each in hashes)]
    return Scripts(tuple(map(Markup, texts)), file, " ".join(sources))
