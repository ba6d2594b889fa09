"""The index: every claim against the data it was tried on, every ablation and every network, on one page.

    python reports/site.py                    # runs/site.html, from runs/ablations/ and reports/published/
    python reports/site.py --out FOLDER       # FOLDER/site.html, from FOLDER/ablations/ and reports/published/
    python reports/site.py --to FILE          # the page elsewhere

Claims come from the scripts, verdicts from the folders of finished ablations. Published pages are copied to published/
beside the index: its links then hold wherever its folder is copied to, and it is the same, byte for byte, wherever it
is made. Exit codes: 0 done; 2 the command is wrong or there is nothing to show, told in one line.
"""

from __future__ import annotations

import filecmp
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from ablations.harness.command.command_line import Parser, WrongInput
from ablations.harness.command.invocation import ROOT, program
from ablations.harness.declare import scripts as declared
from ablations.harness.declare.ablation import Ablation
from ablations.harness.store.files import PAGE, atomic_write_bytes

if TYPE_CHECKING:
    from modules.listing import Row
    from reports.pages.evidence import Scale, Trial

DONE, WRONG = 0, 2
PUBLISHED = ROOT / "reports" / "published"


def rows(ablations: Sequence[Ablation], trials: Sequence[Trial], scales: Sequence[Scale]) -> list[dict[str, Any]]:
    """One row per claim: those of the scripts, then those that only files know. A row has a cell for each scale.

    A cell holds its evidence in the order of `trials`; same: whether an earlier one gives the same verdict and numbers.
    """
    order = [ablation.name for ablation in ablations]
    known = {
        (ablation.name, claim.id): {"says": claim.says, "source": claim.source}
        for ablation in ablations
        for claim in ablation.claims
    }
    cells: dict[tuple[str, str], dict[Scale, list[dict[str, Any]]]] = {key: {} for key in known}
    for trial in trials:
        order.append(trial.script)
        for verdict in trial.verdicts:
            key, scale = (trial.script, verdict["claim"]), (verdict["budget"], verdict["data"])
            declared = known.setdefault(key, {"says": verdict["says"], "source": verdict["source"]})
            cell = cells.setdefault(key, {}).setdefault(scale, [])
            cell.append({
                "verdict": verdict,
                "trial": trial,
                "same": any(other["verdict"] == verdict for other in cell),
                "reworded": verdict["says"] != declared["says"],
            })  # fmt: skip
    return [
        {"script": key[0], "claim": key[1], **known[key], "cells": [cells[key].get(scale, []) for scale in scales]}
        for key in sorted(known, key=lambda key: order.index(key[0]))
    ]


def about(ablations: Sequence[Ablation], trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One entry per ablation: name, title and question, from the script or else from its files, and its trials."""
    entries: dict[str, dict[str, Any]] = {
        ablation.name: {"name": ablation.name, "title": ablation.title, "question": ablation.question, "trials": []}
        for ablation in ablations
    }
    for trial in trials:
        new = {"name": trial.script, "title": trial.title, "question": trial.question, "trials": []}
        entries.setdefault(trial.script, new)["trials"].append(trial)
    return list(entries.values())


def linked(trial: Trial, start: Path) -> Trial:
    """The trial with the address of its page relative to the folder `start`, to which a published page is copied.

    Raises OSError if that is not possible.
    """
    from reports.pages.page_scripts import PLOTLY

    page = trial.folder / PAGE
    if not page.is_file():
        return trial
    if trial.origin == "published":
        root, copies = trial.folder.parents[1], start / "published"
        for file in filter(Path.is_file, (page, root / PLOTLY)):
            copy = copies / file.relative_to(root)
            if not copy.is_file() or not filecmp.cmp(file, copy, shallow=False):
                copy.parent.mkdir(parents=True, exist_ok=True)
                atomic_write_bytes(copy, file.read_bytes())
        page = copies / page.relative_to(root)
    return replace(trial, link=quote(os.fsencode(os.path.relpath(page, start))))


def write_site(
    to: Path,
    ablations: Sequence[Ablation],
    trials: Sequence[Trial],
    networks: Sequence[Row],
    problems: Sequence[str] = (),
) -> Path:
    """Write the index to `to` and return its path; the same evidence and code give the same bytes.

    trials: the user's own first; networks: the rows of the catalogue; problems: sentences about what is missing.
    Raises OSError if the index, or a copy of a published page, cannot be written.
    """
    from reports.pages import evidence
    from reports.pages.claim_cards import VERDICTS, counts
    from reports.pages.page_scripts import scripts
    from reports.pages.reading import environment

    to.parent.mkdir(parents=True, exist_ok=True)
    trials = [linked(trial, to.parent) for trial in trials]
    scales = evidence.scales(trials)
    table = rows(ablations, trials, scales)
    firsts = [[row["cells"][i][0]["verdict"] for row in table if row["cells"][i]] for i in range(len(scales))]
    names = [evidence.in_words(scale) for scale in scales]
    page = environment().get_template("site.html.j2").render(
        scales=names,
        rows=table,
        summary=list(zip(names, map(counts, firsts), strict=True)),
        tried=sum(any(row["cells"]) for row in table),
        verdicts=VERDICTS,
        ablations=about(ablations, trials),
        count=counts,
        networks=networks,
        problems=problems,
        scripts=scripts("site.js"),
    )  # fmt: skip
    atomic_write_bytes(to, page.encode("utf-8", "backslashreplace"))  # JSON can hold lone surrogates
    return to


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
        from reports.pages.evidence import find

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

        path = write_site(to, declared.scripts(), trials, networks(), problems)
    except (ValueError, OSError) as error:
        print(f"site: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(WRONG) from None
    if problems:
        print(f"missing or damaged, named in the index: {len(problems)}", file=sys.stderr)
    print(f"index: {path}")
    raise SystemExit(DONE)


if __name__ == "__main__":
    main()
