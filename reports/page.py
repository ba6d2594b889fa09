"""The pages of finished ablations again, from nothing but the files of their folders."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.harness.command.invocation import PUBLISHED, program


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild the pages of finished ablations from their files, or publish them; 2 if that is not possible."""
    parser = argparse.ArgumentParser(prog=" ".join(program("reports.page")), description=main.__doc__)
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path,
        help="holds its records, verdicts.json, ablation.json and figures/",
    )  # fmt: skip
    where = os.path.relpath(PUBLISHED)
    parser.add_argument("--publish", action="store_true", help=f"copy them to {where} first, in less room")
    given = parser.parse_args(argv)
    from reports.pages.page import write_page
    from reports.pages.published import publish

    for folder in given.folders:
        if not folder.is_dir():
            print(f"{folder} is not a folder", file=sys.stderr)
            return 2
    try:
        for folder in given.folders:
            print(publish(folder) if given.publish else write_page(folder))
    except (ValueError, OSError, ImportError) as error:
        print(f"page: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
