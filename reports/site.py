"""The index: every claim against the data it was tried on, every ablation and every network, on one page.

    python reports/site.py                    # runs/site.html, from runs/ablations/ and reports/published/
    python reports/site.py --out FOLDER       # FOLDER/site.html, from FOLDER/ablations/ and reports/published/
    python reports/site.py --to FILE          # the page elsewhere

Claims come from the scripts, verdicts from the folders of finished ablations. Published pages are copied to published/
beside the index: its links then hold wherever its folder is copied to, and it is the same, byte for byte, wherever it
is made. Exit codes: 0 done; 2 the command is wrong or there is nothing to show, told in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ablations.harness.command.command_line import Parser, WrongInput
from ablations.harness.command.invocation import PUBLISHED, program

DONE, WRONG = 0, 2


def parse(argv: Sequence[str]) -> tuple[Path, Path]:
    """Where the evidence lies and where the index goes; prints help and exits 0 where asked to. Raises WrongInput."""
    parser = Parser(
        prog=" ".join(program("reports.site")), description="An index over all claims, ablations and networks."
    )
    parser.add_argument("--out", type=str, default="runs", help="root of everything that scripts wrote")
    parser.add_argument("--to", type=str, default=None, metavar="FILE",
        help="the index (default: site.html in --out); published pages are copied to published/ beside it")  # fmt: skip
    parser.words = argv
    found = parser.parse_args(list(argv))
    out = Path(found.out)
    to = Path(found.to) if found.to is not None else out / "site.html"
    if out.exists() and not out.is_dir():
        raise WrongInput(f"--out {out} is no folder")
    if to.is_dir():
        raise WrongInput(f"--to {to} is a folder; give a file in it, such as {to / 'site.html'}")
    return out, to


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Makes the index that the command line asks for, says where it lies, and exits."""
    try:
        out, to = parse(sys.argv[1:] if argv is None else argv)
        from ablations.harness.declare.scripts import scripts
        from reports.pages.evidence import find
        from reports.pages.site import write_site

        problems: list[str] = []
        trials = find(out / "ablations", "own run", problems) + find(PUBLISHED, "published", problems)
        if not trials:
            raise WrongInput(
                f"nothing to show: neither {out / 'ablations'} nor {PUBLISHED} holds a folder SCRIPT/BUDGET-DATA; "
                "make one with python -m ablations remove_layers"
            )
        to.parent.mkdir(parents=True, exist_ok=True)  # before the wait, because it may fail
        print("counting the networks of the catalogue (about ten seconds)", file=sys.stderr, flush=True)
        from modules.listing import networks

        path = write_site(to, scripts(), trials, networks(), problems)
    except (ValueError, OSError) as error:
        print(f"site: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(WRONG) from None
    if problems:
        print(f"missing or damaged, named in the index: {len(problems)}", file=sys.stderr)
    print(f"index: {path}")
    raise SystemExit(DONE)


if __name__ == "__main__":
    main()
