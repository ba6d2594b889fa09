"""The index in a real browser, where one is installed: sorts, filters, fits a phone, can be read, fetches nothing."""

import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from browser import DARK, browse, in_a_browser, visit
from invented_site import build, make_roots

pytestmark = [pytest.mark.slow, in_a_browser]

# Uses the controls and the headers of both tables, and measures the contrast of every text with what lies behind it.
STEPS = """
  const matrix = document.querySelector("#matrix");
  const networks = document.querySelector("#networks-table");
  const [form, other] = document.querySelectorAll("form.controls");
  const visible = (elements) => [...elements].filter((element) => element.checkVisibility());
  const shown = (table) => visible(table.tBodies[0].rows).map((row) => row.cells[0].innerText.trim());
  const set = (name, value) => {
    form.elements[name].value = value;
    form.elements[name].dispatchEvent(new Event("input", { bubbles: true }));
    return { rows: shown(matrix), says: form.querySelector("output").value };
  };
  const press = (table, column) => {
    const header = table.tHead.rows[0].cells[column];
    const button = header.querySelector("button");
    button.focus();
    told.focused = document.activeElement === button && button.matches(":focus-visible");
    button.click();
    return { rows: shown(table), direction: header.ariaSort };
  };
  told.all = shown(matrix);
  told.searched = set("words", "Shuffled remove_LAYERS");
  told.lost_search = set("words", "no such words");
  set("words", "");
  told.contradicted = set("verdict", "contradicted");
  told.untried = set("verdict", "none");
  set("verdict", "");
  told.on_second = set("scale", "2");
  form.elements[form.elements.length - 2].click();
  await pause(50);
  told.reset = shown(matrix);
  told.sorted = press(matrix, 2);
  told.backwards = press(matrix, 2);
  told.networks = [press(networks, 2), press(networks, 2)];
  told.labels = [...document.querySelectorAll("input, select")].every((field) => field.labels.length === 1);
  told.links = [...document.links].map((a) => a.href).filter((address) => !address.includes("#"));
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = numbers(colour).slice(0, 3).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? ground(element.parentElement) : colour;
  };
  const holdsText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  told.contrasts = visible(document.body.querySelectorAll("*"))
    .filter(holdsText)
    .map((element) => [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((a, b) => a - b))
    .map(([dark, light]) => (light + 0.05) / (dark + 0.05));
  told.page = getComputedStyle(document.body).backgroundColor;
  told.outside = [...document.querySelectorAll("main *")]
    .filter((element) => !element.closest("#networks-table") && element.getBoundingClientRect().right > innerWidth + 1)
    .map((element) => element.tagName);
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory, finished):
    """The index of two roots, with a damaged file so that the notice is there too."""
    out, published = make_roots(tmp_path_factory.mktemp("site"), finished)
    (published / "remove_layers" / "laptop-digits" / "records.parquet").unlink()
    path, problems = build(out, published)
    assert len(problems) == 1
    return path


def fails(console):
    return [line for line in console if re.search("Uncaught|Refused|violates|ERR_|Failed", line)]


def test_sorts_filters_and_leads_to_pages(index):
    told, console = browse(index.parent, index.read_text(encoding="utf-8"), STEPS)
    assert told["errors"] == []
    assert fails(console) == []
    assert told["fetched"] == []
    assert told["lost"] == 0
    assert told["searched"] == {"rows": ["RL3"], "says": f"1 of {len(told['all'])} shown"}
    assert told["lost_search"]["rows"] == []
    assert told["contradicted"]["rows"] == ["RL5"]
    assert {"RL2", "RL3", "PL1"} <= set(told["untried"]["rows"])
    assert {"RL1", "RL5", "X<1>"}.isdisjoint(told["untried"]["rows"])
    assert told["on_second"]["rows"] == ["X<1>"]
    assert told["reset"] == told["all"]
    assert told["sorted"]["direction"] == "ascending"
    assert told["sorted"]["rows"][:4] == ["RL1", "RL6", "RL5", "RL4"], "reproduced, contradicted, undecided"
    assert told["backwards"]["direction"] == "descending"
    assert told["backwards"]["rows"][-4:] == ["RL4", "RL5", "RL1", "RL6"]
    assert [each["rows"] for each in told["networks"]] == [["small<b>", "large"], ["large", "small<b>"]]
    assert told["focused"]
    assert told["labels"]
    assert told["links"]
    for address in told["links"]:
        assert Path(unquote(urlparse(address).path)).is_file(), address
    document, console = visit(next(address for address in told["links"] if "odd" in address), index.parent / "profile")
    assert fails(console) == []
    assert "<title>Removing layers from trained networks</title>" in document


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_fits_and_can_be_read(index, width, dark):
    told, _ = browse(index.parent, index.read_text(encoding="utf-8"), STEPS, *[DARK] * dark, width=width)
    assert told["errors"] == []
    assert told["page"] == ("rgb(19, 20, 23)" if dark else "rgb(251, 251, 250)")
    assert told["wide"] <= 0
    if width == 390:  # on a phone only the table of networks is scrolled sideways
        assert told["outside"] == []
    assert len(told["contrasts"]) > 100
    assert min(told["contrasts"]) >= 4.5


def test_without_scripts_every_row_is_there_and_no_dead_control(index):
    page = index.read_text(encoding="utf-8")
    steps = """
      const visible = (what) => [...document.querySelectorAll(what)].filter((each) => each.checkVisibility()).length;
      told.rows = visible("#matrix tbody tr");
      told.controls = visible("input, select, button");
    """
    told, _ = browse(index.parent, re.sub(r"<script>// Sorts.*?</script>", "", page, flags=re.S), steps)
    assert told["errors"] == []
    assert told["controls"] == 0
    assert told["rows"] == page.count('<th scope="row" role="rowheader"') > 30
