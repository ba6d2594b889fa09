"""The index page: claims against the data that they were tried on, from the scripts and the folders of evidence."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ablations.harness.declare.ablation import Ablation
from ablations.harness.store.files import PAGE, atomic_write_bytes
from reports.pages.claim_cards import VERDICTS, counts
from reports.pages.evidence import Finished, Scale, in_words, scales_of
from reports.pages.page_scripts import PLOTLY, scripts
from reports.pages.reading import environment


def rows(ablations: Sequence[Ablation], trials: Sequence[Finished], scales: Sequence[Scale]) -> list[dict[str, Any]]:
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


def about(ablations: Sequence[Ablation], trials: Sequence[Finished]) -> list[dict[str, Any]]:
    """One entry per ablation: name, title and question, from the script or else from its files, and its trials."""
    entries: dict[str, dict[str, Any]] = {
        ablation.name: {"name": ablation.name, "title": ablation.title, "question": ablation.question, "trials": []}
        for ablation in ablations
    }
    for trial in trials:
        new = {"name": trial.script, **{key: trial.ablation[key] for key in ("title", "question")}, "trials": []}
        entries.setdefault(trial.script, new)["trials"].append(trial)
    return list(entries.values())


def linked(trial: Finished, start: Path) -> Finished:
    """The trial with the address of its page relative to the folder `start`, to which a published page is copied.

    Raises OSError if that is not possible.
    """
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
    trials: Sequence[Finished],
    networks: Sequence[Any],
    problems: Sequence[str] = (),
) -> Path:
    """Write the index to `to` and return its path; the same evidence and code give the same bytes.

    trials: the user's own first; networks: the rows of the catalogue; problems: sentences about what is missing.
    Raises OSError if the index, or a copy of a published page, cannot be written.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    trials = [linked(trial, to.parent) for trial in trials]
    scales = scales_of(trials)
    table = rows(ablations, trials, scales)
    firsts = [[row["cells"][i][0]["verdict"] for row in table if row["cells"][i]] for i in range(len(scales))]
    names = [in_words(scale) for scale in scales]
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
