"""Published evidence: finished ablations in a form that a repository can keep, all of which share one plotly.js."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from ablations.harness.command.invocation import PUBLISHED
from ablations.harness.store.files import atomic_write_text
from ablations.harness.store.records import PARQUET, read_records, write_parquet
from reports.pages.page_scripts import PLOTLY, plotly


def publish(folder: Path, root: Path | None = None) -> Path:
    """Put a finished ablation's folder, without its page, at `root`/<script>/<budget>-<data>, which is returned.

    Also for a folder that lies there already. Raises OSError for a file that is missing or cannot be written,
    ValueError for damaged records, ImportError without plotly; what lay there then still does.
    """
    folder, root = folder.resolve(), root or PUBLISHED
    target = root / folder.parent.name / folder.name
    records = read_records(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        (new / "figures").mkdir(parents=True)
        for name in ("ablation.json", "verdicts.json"):
            shutil.copy(folder / name, new)
        for figure in json.loads((new / "ablation.json").read_text())["figures"]:  # others are of earlier drawings
            shutil.copy(folder / figure["file"], new / "figures")
        if (folder / "files").is_dir():
            shutil.copytree(folder / "files", new / "files")
        write_parquet(new / PARQUET, records)
        if not (root / PLOTLY).is_file():
            atomic_write_text(root / PLOTLY, plotly())
        if target.exists():
            target.rename(Path(scratch) / "old")
        new.rename(target)
    return target
