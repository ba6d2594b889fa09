"""A root of own runs and a root of published evidence, invented, for the tests of the index."""

import json
import shutil

from ablations.harness.declare.scripts import scripts
from ablations.harness.store.files import write_json
from reports.pages.evidence import find
from reports.pages.page import write_page
from reports.pages.published import publish
from reports.pages.site import write_site

HOSTILE = 'odd "<i>#?%41&:'  # a folder's name that every layer of an address could stumble over
_KEYS = ("name", "paper", "parameters", "multiply_adds", "input", "blocks", "recipe")
NETWORKS = [
    dict(zip(_KEYS, row, strict=True))
    for row in (
        ("small<b>", "A 2016", 9, 80, [1, 8, 8], 2, "short"),
        ("large", "B 2015", 1000, 7000, [3, 32, 32], 10, "long"),
    )
]


def edit_json(path, change):
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def _copy(finished, folder, change=lambda verdicts: None):
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("report.html"))
    edit_json(folder / "verdicts.json", change)
    write_page(folder)


def _rescaled(verdicts):
    for verdict in verdicts:
        verdict.update(data="cifar10", budget="paper")


def _hostile(verdicts):
    del verdicts[1:]
    verdicts[0].update(claim="X<1>", says="<script>alert('says')</script>", source="<img src=x>", data="<b>data</b>")


def make_roots(root, finished):
    """`root`/runs with two ablations, one of which no script knows, and `root`/published with two; the roots."""
    out, published = root / "runs", root / "published"
    _copy(finished, out / "ablations" / "remove_layers" / "laptop-digits")
    _copy(finished, out / "ablations" / HOSTILE / "laptop-<b>data<", _hostile)
    write_page(publish(out / "ablations" / "remove_layers" / "laptop-digits", published))
    _copy(finished, root / "remove_layers" / "paper-cifar10", _rescaled)
    write_page(publish(root / "remove_layers" / "paper-cifar10", published))
    return out, published


def build(out, published, to=None):
    """The index of both roots and the problems it names."""
    problems = []
    trials = find(out / "ablations", "own run", problems) + find(published, "published", problems)
    return write_site(to or out / "site.html", scripts(), trials, NETWORKS, problems), problems
