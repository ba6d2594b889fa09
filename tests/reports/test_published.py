"""Published evidence: the same records and verdicts in less room, and pages that share one plotly.js."""

import html
import shutil
from pathlib import Path

import pytest
from browser import browse, in_a_browser

from ablations.harness.store.records import as_csv, read_records
from reports.page import main
from reports.pages import published
from reports.pages.page import write_page
from reports.pages.page_scripts import PLOTLY


@pytest.fixture
def run(tmp_path, finished):
    """A finished ablation where a command would have left it, with what belongs to its user alone."""
    folder = tmp_path / "runs" / "ablations" / "remove_layers" / "laptop-digits"
    shutil.copytree(finished, folder)
    write_page(folder)
    (folder / "wandb_report.json").touch()
    (folder / "figures" / "of_an_earlier_version.png").touch()
    (folder / "files" / "vgg-s0").mkdir(parents=True)
    (folder / "files" / "vgg-s0" / "poses.npz").write_bytes(b"kept")
    return folder


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_published_tells_the_same_in_less_room(run, tmp_path, monkeypatch, capsys):
    root = tmp_path / "published"
    monkeypatch.setattr(published, "PUBLISHED", root)
    before = contents(run)
    assert main([str(run), "--publish"]) == 0
    target = root / "remove_layers" / "laptop-digits"
    assert capsys.readouterr().out == f"{target / 'report.html'}\n"
    assert contents(run) == before
    found = contents(target)
    assert {str(name) for name in before.keys() - found.keys()} == {
        "records.csv", "wandb_report.json", "figures/of_an_earlier_version.png",
    }  # fmt: skip
    assert {str(name) for name in found.keys() - before.keys()} == {"records.parquet"}
    assert {str(name) for name in found.keys() & before.keys() if found[name] != before[name]} == {"report.html"}
    assert as_csv(read_records(target)) == (run / "records.csv").read_text()
    page, own = (html.unescape((folder / "report.html").read_text()) for folder in (target, run))
    assert len(page) < len(own) - 4e6
    policy = "script-src 'self' file: 'sha256-"
    assert (page.count('<script src="../../plotly.min.js"></script>'), page.count(policy)) == (1, 1)
    assert (own.count("<script src"), own.count(policy)) == (0, 0)
    assert "<code>records.parquet</code>: " in page
    assert write_page(target).read_bytes() == found[Path("report.html")], "also of what lies there already"
    assert main([str(target), "--publish"]) == 0
    assert contents(target) == found
    assert sorted(file.name for file in target.parent.iterdir()) == ["laptop-digits"]
    (run / "records.csv").unlink()
    capsys.readouterr()
    assert main([str(run), "--publish"]) == 1
    assert capsys.readouterr().err.startswith(f"{run}: it is not published (")
    assert contents(target) == found


@pytest.mark.parametrize(
    ("name", "content"), [("records.csv", b"null"), ("records.csv", None), ("verdicts.json", None)]
)
def test_what_cannot_be_published_leaves_what_was(run, tmp_path, name, content):
    root = tmp_path / "published"
    published.publish(run, root)
    before = contents(root)
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=name):
        published.publish(run, root)
    assert contents(root) == before


@pytest.mark.slow
@in_a_browser
def test_its_page_opens_from_disk_and_says_what_is_damaged_or_missing(run, tmp_path):
    page = write_page(published.publish(run, tmp_path / "published"))
    steps = """
      const charts = [...document.querySelectorAll(".chart")];
      for (let i = 0; i < 100 && !charts.every((each) => each.innerText); i++) await pause(100);
      told.drawn = charts.map((each) => each.querySelectorAll(".main-svg").length > 0);
      told.text = charts[0].innerText;
    """
    source = page.read_text(encoding="utf-8")
    told, _ = browse(
        page.parent, source.replace('"data":[{"type":"scatter"', '"data":[null,{"type":"scatter"', 1), steps
    )
    assert (told["errors"], told["drawn"]) == ([], [False, True])
    assert told["text"].startswith("This chart could not be drawn: ")
    (tmp_path / "published" / PLOTLY).unlink()
    told, _ = browse(page.parent, source, steps)
    assert told["drawn"] == [False, False]
    assert told["text"].startswith("This chart could not be drawn: plotly.min.js is missing")
