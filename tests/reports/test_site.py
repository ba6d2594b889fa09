"""The index: every claim and its evidence are on it, links lead to pages, and what is missing or damaged is named."""

import json
import re
import shutil
from html import escape
from urllib.parse import unquote

import pytest
from invented_site import HOSTILE, build, edit_json, make_roots
from page_reader import Page, assert_well_formed

from ablations.harness.declare.scripts import scripts
from modules import ARCHITECTURES
from modules import listing as catalogue
from reports import page as report
from reports import site
from reports.charts.style import number
from reports.pages.claim_cards import claim_card


@pytest.fixture(scope="module")
def roots(tmp_path_factory, finished):
    """Both roots, read only, with the index made."""
    out, published = make_roots(tmp_path_factory.mktemp("roots"), finished)
    build(out, published)
    return out, published


@pytest.fixture
def copied(tmp_path, roots):
    """Copies of both roots to damage, without the index."""
    out, published = tmp_path / "elsewhere" / "runs", tmp_path / "published"
    shutil.copytree(roots[0], out, ignore=lambda folder, names: {"site.html", "published"} & set(names))
    shutil.copytree(roots[1], published)
    return out, published


def cells(page, claim):
    """The cells of a claim's row, as markup."""
    row = re.search(rf'<tr role="row">\n<th [^>]*>{claim}</th>.*?</tr>', page, re.S)
    assert row, claim
    return re.findall(r"<td.*?</td>", row[0], re.S)[1:]


def test_every_claim_of_every_script_and_file_has_a_row(roots):
    page = Page(roots[0] / "site.html")
    claims = [claim for ablation in scripts() for claim in ablation.claims]
    for claim in claims:
        assert claim.says in page.text
        assert escape(claim.source) in page.source or claim.source in page.text
    shown = [row["data-sort"] for row in page.all("th", role="rowheader")]
    assert [claim for claim in shown if claim not in ("RL5", "RL6")] == [*(claim.id for claim in claims), "X<1>"]
    assert shown[shown.index("RL4") :][1:3] == ["RL5", "RL6"], "which files alone know, after their script's"
    for ablation in scripts():
        assert ablation.question in page.text
        assert (f"not tried yet: python -m ablations {ablation.name}" in page.text) == (
            ablation.name != "remove_layers"
        )
    assert "python ablations/remove_layers.py --budget laptop --data digits --seeds 8" in page.text
    assert "at commit 0a1b2c3" in page.text
    assert "incomplete" not in page.text


def test_a_cell_holds_word_estimate_interval_and_seeds_and_own_evidence_first(roots):
    page = (roots[0] / "site.html").read_text(encoding="utf-8")
    digits, _, cifar = cells(page, "RL1")
    own, published = digits.split('<div class="evidence">')[1:]
    verdicts = json.loads((roots[0] / "ablations/remove_layers/laptop-digits/verdicts.json").read_text())
    test = claim_card(verdicts[0])["tests"][0]
    assert ">own run<" in own.replace("</span>", "<")
    assert "reproduced" in own
    assert f"<strong>{number(test['estimate'])} {test['unit']}</strong>, {test['interval']}, 8 seeds" in own
    assert f"needs {test['needs']}" in own
    assert "published, the same numbers" in published
    assert "<strong>" not in published
    assert cifar.count('class="evidence"') == 1
    assert "<strong>" in cifar
    assert 'data-verdicts="reproduced|reproduced"' in digits
    assert all("not tried yet" in cell and 'data-verdicts=""' in cell for cell in cells(page, "PL1"))
    assert "counted exactly; needs" in cells(page, "RL6")[0]
    counted = Page(roots[0] / "site.html").text
    assert "digits, laptop budget 2 reproduced 1 contradicted 1 undecided" in counted


def test_own_evidence_that_differs_from_published_is_shown_in_full(copied):
    out, published = copied
    edit_json(published / "remove_layers/laptop-digits/verdicts.json", lambda v: v[0].update(seeds=5, says="Else."))
    path, _ = build(out, published)
    digits = cells(path.read_text(encoding="utf-8"), "RL1")[0]
    own, other = digits.split('<div class="evidence">')[1:]
    assert "8 seeds" in own
    assert "5 seeds" in other
    assert "Judged in other words: Else." in other


def test_links_lead_to_pages_and_nothing_is_fetched(roots):
    page = Page(roots[0] / "site.html")
    assert_well_formed(page, files=True)
    addresses = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert len(addresses) == 4 * 3 + 1 + 4  # cells, and one for each trial
    assert [address for address in addresses if not (roots[0] / unquote(address)).is_file()] == []
    assert (roots[0] / "published" / "plotly.min.js").is_file(), "which the published pages share"


def test_texts_are_escaped(roots):
    page = Page(roots[0] / "site.html")
    assert page.all("img") == page.all("i") == page.all("b") == []
    assert len(page.all("script")) == 1
    assert "<script>alert('says')</script>" in page.text
    assert HOSTILE in page.text
    assert "small<b>" in page.text


def test_the_same_page_wherever_it_is_made(roots, copied, monkeypatch, tmp_path):
    first = (roots[0] / "site.html").read_bytes()
    monkeypatch.chdir(tmp_path)
    path, problems = build(*copied)
    assert problems == []
    assert path.read_bytes() == first
    assert str(roots[0]).encode() not in first
    for page in sorted(roots[0].glob("ablations/*/*/report.html")):
        copy = copied[0] / page.relative_to(roots[0])
        copy.unlink()
        assert report.main([str(copy.parent)]) == 0
        assert copy.read_bytes() == page.read_bytes()


def test_an_index_elsewhere_has_links_that_hold(roots, tmp_path):
    path, _ = build(*roots, to=tmp_path / "deep" / "index.html")
    addresses = [a["href"] for a in Page(path).all("a") if not a["href"].startswith("#")]
    assert any(address.startswith("../") for address in addresses)
    assert all((path.parent / unquote(address)).is_file() for address in addresses)
    beside, _ = build(*roots, to=roots[1].parent / "index.html")
    assert 'href="published/remove_layers/laptop-digits/report.html"' in beside.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["verdicts.json", "ablation.json", "records.csv", "report.html"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff\x00", b"null", b"[[[[", b'{"a": NaN}'])
def test_what_is_missing_or_damaged_is_named_and_the_rest_shown(copied, name, damage):
    out, published = copied
    file = out / "ablations" / "remove_layers" / "laptop-digits" / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    path, problems = build(out, published)
    page = Page(path)
    damaged = damage is None or name != "report.html"  # what a page holds is not the index's concern
    assert ("This index is incomplete" in page.text) == bool(problems) == damaged
    assert (f"remove_layers/laptop-digits (own run): {name}" in page.text) == damaged
    assert "Deleting one block of a trained ResNet barely moves" in page.text
    assert len(page.all("div", **{"class": "evidence"})) == (9 if name == "verdicts.json" else 13)
    assert ("no page" in page.text) == (name == "report.html" and damage is None)
    assert str(out) not in page.source


@pytest.mark.parametrize(("change", "notice"), [
    (lambda v: v[1].update(verdict="proved"), "'proved' is none of reproduced"),
    (lambda v: v[1].update(budget="huge"), "'huge' is none of smoke"),
    (lambda v: v[1].update(data=["digits"]), "its data is ['digits'], which is no text"),
    (lambda v: v[1].update(seeds="many"), "claim 2 is damaged and left out"),
    (lambda v: v[1].update(verdict="contradicted"), "none of its tests is contradicted"),
    (lambda v: v.__setitem__(1, 7), "claim 2 is damaged and left out"),
])  # fmt: skip
def test_a_damaged_verdict_is_named_and_the_others_shown(copied, change, notice):
    out, published = copied
    edit_json(out / "ablations" / "remove_layers" / "laptop-digits" / "verdicts.json", change)
    path, problems = build(out, published)
    assert len(problems) == 1
    assert notice in Page(path).text
    assert len(Page(path).all("div", **{"class": "evidence"})) == 12


def run(capsys, *words):
    """Exit code, output and errors of the command."""
    with pytest.raises(SystemExit) as left:
        site.main([str(word) for word in words])
    return left.value.code, *capsys.readouterr()


def test_command_line(copied, capsys, monkeypatch):
    out, published = copied
    monkeypatch.setattr(site, "PUBLISHED", published)
    monkeypatch.setattr(catalogue, "ARCHITECTURES", {name: ARCHITECTURES[name] for name in ("lenet5", "resnet20")})
    code, told, progress = run(capsys, "--out", out)
    assert (code, told) == (0, f"index: {out / 'site.html'}\n")
    assert progress == "counting the networks of the catalogue (about ten seconds)\n"
    page = Page(out / "site.html").text
    assert all(text in page for text in ("lenet5", "61,706", "3 x 32 x 32", "269,722", "He et al. 2015"))
    (out / "ablations" / "remove_layers" / "laptop-digits" / "records.csv").unlink()
    code, _, progress = run(capsys, "--out", out, "--to", out / "other.html")
    assert code == 0
    assert "missing or damaged, named in the index: 1" in progress
    shutil.rmtree(out)
    code, _, _ = run(capsys, "--out", out)
    assert code == 0
    assert "own run" not in re.sub("Own runs", "", Page(out / "site.html").text)


@pytest.mark.parametrize(("words", "notice"), [
    (["--out", "nowhere"], "nothing to show: neither nowhere/ablations nor"),
    (["--out", "file"], "--out file is no folder"),
    (["--to", "folder"], "--to folder is a folder; give a file in it, such as folder/site.html"),
    (["--two", "folder"], "unknown flag --two; did you mean --to?"),
])  # fmt: skip
def test_wrong_commands_end_in_one_line(capsys, monkeypatch, tmp_path, words, notice):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(site, "PUBLISHED", tmp_path / "published")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    code, told, errors = run(capsys, *words)
    assert (code, told) == (2, "")
    assert errors.startswith(f"site: {notice}")
    assert errors.count("\n") == 1
    assert not (tmp_path / "nowhere").exists()
