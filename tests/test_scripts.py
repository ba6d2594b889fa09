"""Every script at --budget smoke: it ends well, leaves every file, and its verdicts follow from records.csv alone."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.harness.declare.ablation import Ablation
from ablations.harness.declare.scripts import scripts
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import read_records

# Figures of what no seed, interval or verdict is needed for, so that a smoke run has them too.
FIGURES = {
    "bird_parts": {"errors.png", "windows.png", "parts.png", "windows.csv", "training_loss.png"},
    "house_numbers": {"errors.png", "lengths.png", "places.png", "looks.png", "costs.csv", "windows.csv"},
}


@pytest.fixture(scope="module", params=scripts(), ids=lambda ablation: ablation.name)
def carried_out(
    request: pytest.FixtureRequest, smoke_of: Callable[..., tuple[Path, str]]
) -> tuple[Ablation, Path, str]:
    """An ablation, its folder after a smoke run, and what was printed."""
    out, printed = smoke_of(request.param.name)
    return request.param, out / "ablations" / request.param.name / "smoke-digits", printed


def test_it_leaves_every_file(carried_out: tuple[Ablation, Path, str]) -> None:
    ablation, folder, printed = carried_out
    names = {"records.csv", "verdicts.json", "ablation.json", "report.html"}
    assert names <= {file.name for file in folder.iterdir()}
    assert f"report: {folder / 'report.html'}" in printed
    figures = json.loads((folder / "ablation.json").read_text())["figures"]
    assert figures
    assert FIGURES.get(ablation.name, set()) <= {Path(figure["file"]).name for figure in figures}
    for figure in figures:
        assert (folder / figure["file"]).is_file()
        assert figure["title"]
        assert figure["caption"]
    page = (folder / "report.html").read_text()
    shown = re.sub(r"<script.*?</script>", "", page.partition('<h2 id="figures"')[2], flags=re.S)
    assert "is missing" not in re.sub(r"<[^>]*>", "", shown)
    assert [claim.id for claim in ablation.claims if claim.id not in page] == []
    runs = list((folder.parents[2] / "trained").iterdir())
    assert all((run / "done").is_file() or (run / "diverged").is_file() for run in runs)


def test_its_verdicts_follow_from_the_records_alone(carried_out: tuple[Ablation, Path, str]) -> None:
    ablation, folder, _ = carried_out
    told = json.loads((folder / "verdicts.json").read_text())
    seeds = json.loads((folder / "ablation.json").read_text())["seeds"]
    records = read_records(folder)
    found = judge(ablation.claims, records, seeds, "smoke", "digits")
    assert json.loads(json.dumps(found)) == [{k: v for k, v in each.items() if k != "rules"} for each in told]
    judged_by_seeds = [verdict for verdict in told if verdict["seeds"] > 1]
    assert {verdict["verdict"] for verdict in judged_by_seeds} <= {"undecided"}, "a smoke run proves nothing"


def test_every_claim_names_its_paper_and_rule(carried_out: tuple[Ablation, Path, str]) -> None:
    for claim in carried_out[0].claims:
        assert claim.rule
        assert re.search(r"arXiv:\d{4}\.\d{4,5}|NIPS|this suite", claim.source), claim.id
