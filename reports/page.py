"""Figures and pages of finished ablations again, from nothing but the files of their folders."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.harness.command.invocation import PUBLISHED, program


def main(argv: Sequence[str] | None = None) -> int:
    """Redraw finished ablations, figures and pages, from their files, or publish them.

    1 if one is damaged: its figures stay as they are, and it is not published; 2 if one does not exist.
    """
    parser = argparse.ArgumentParser(prog=" ".join(program("reports.page")), description=main.__doc__)
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path,
        help="holds its records, verdicts.json, ablation.json and figures/",
    )  # fmt: skip
    where = os.path.relpath(PUBLISHED)
    parser.add_argument("--publish", action="store_true", help=f"copy them to {where} first, in less room")
    given = parser.parse_args(argv)
    from reports.charts.declared import redraw
    from reports.pages.page import write_page
    from reports.pages.published import publish

    for folder in given.folders:
        if not folder.is_dir():
            print(f"{folder} is not a folder", file=sys.stderr)
            return 2
    failed = False
    for folder in given.folders:
        try:
            redraw(folder)
            if given.publish:
                folder = publish(folder)
        except (ValueError, OSError, KeyError, ImportError) as error:  # of files that are damaged, as the page says too
            kept = "it is not published" if given.publish else "the figures stay as they are"
            print(f"{folder}: {kept} ({' '.join(str(error).split())})", file=sys.stderr)
            failed = True
        print(write_page(folder))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
