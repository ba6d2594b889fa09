"""Published evidence: finished ablations in a form that a repository can keep, all of which share one plotly.js."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from ablations.harness.command.invocation import PUBLISHED
from ablations.harness.store.files import atomic_write_text
from ablations.harness.store.records import PARQUET, read_records, write_parquet
from reports.pages.page_scripts import PLOTLY, plotly

WHOLE = ("verdicts.json", "ablation.json", "figures", "files")  # what is taken as it is; the last may be missing


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
        new.mkdir()
        for name in WHOLE:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, new / name)
            elif name != "files":
                shutil.copy(folder / name, new)
        write_parquet(new / PARQUET, records)
        if not (root / PLOTLY).is_file():
            atomic_write_text(root / PLOTLY, plotly())
        if target.exists():
            target.rename(Path(scratch) / "old")
        new.rename(target)
    return target
