"""The pages of finished ablations again, from nothing but the files of their folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.harness.command.invocation import program
from reports.pages.page import write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild the pages of finished ablations from their files; 2 if one of the folders does not exist."""
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
    for folder in folders:
        print(write_page(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
