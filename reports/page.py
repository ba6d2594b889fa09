"""Figures and pages of finished ablations again, from nothing but the files of their folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.harness.command.invocation import program
from reports.pages.figures import redraw
from reports.pages.page import write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Redraw figures and pages of finished ablations from their files; 2 without a folder, 1 if one is damaged."""
    parser = argparse.ArgumentParser(prog=" ".join(program("reports.page")), description=main.__doc__)
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path,
        help="holds its records, verdicts.json, ablation.json and figures/",
    )  # fmt: skip
    folders = parser.parse_args(argv).folders
    for folder in folders:
        if not folder.is_dir():
            print(f"{folder} is not a folder", file=sys.stderr)
            return 2
    failed = False
    for folder in folders:
        try:
            redraw(folder)
        except (ValueError, OSError, KeyError) as error:  # damaged files, which the page names
            print(f"{folder}: the figures stay as they are ({' '.join(str(error).split())})", file=sys.stderr)
            failed = True
        print(write_page(folder))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
