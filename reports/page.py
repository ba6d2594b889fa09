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

    1 if a folder is damaged and its figures stay as they are, 2 if what is asked cannot be done.
    """
    parser = argparse.ArgumentParser(prog=" ".join(program("reports.page")), description=main.__doc__)
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path,
        help="holds its records, verdicts.json, ablation.json and figures/",
    )  # fmt: skip
    where = os.path.relpath(PUBLISHED)
    parser.add_argument("--publish", action="store_true", help=f"copy them to {where} first, in less room")
    given = parser.parse_args(argv)
    from reports.pages.figures import redraw
    from reports.pages.page import write_page
    from reports.pages.published import publish

    for folder in given.folders:
        if not folder.is_dir():
            print(f"{folder} is not a folder", file=sys.stderr)
            return 2
    damaged = False
    try:
        for folder in given.folders:
            try:
                redraw(folder)
            except (ValueError, OSError, KeyError) as error:  # of files that are damaged, as the page says too
                print(f"{folder}: the figures stay as they are ({' '.join(str(error).split())})", file=sys.stderr)
                damaged = True
            print(publish(folder) if given.publish else write_page(folder))
    except (ValueError, OSError, ImportError) as error:
        print(f"page: {error}", file=sys.stderr)
        return 2
    return int(damaged)


if __name__ == "__main__":
    sys.exit(main())
