"""A finished folder for the tests of the page, and a copy of it to damage."""

import json
import shutil
import sys

import pytest
from invented_ablation import make_folder

from reports.charts.style import Drawn, style


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished folder that is read only; it is made once because drawing takes seconds."""
    return make_folder(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def edit(tmp_path, finished):
    """A copy of the finished folder, and a function that edits its ablation.json in place."""
    shutil.copytree(finished, tmp_path, ignore=shutil.ignore_patterns("report.html"), dirs_exist_ok=True)

    def change(name, function):
        content = json.loads((tmp_path / name).read_text())
        function(content)
        (tmp_path / name).write_text(json.dumps(content))

    return tmp_path, change


@pytest.fixture
def figures(monkeypatch):
    """What a test draws in the house style, by name: it is looked at instead of being written."""
    made = {}

    def keep(figure, folder, name, title, caption):
        made[name] = figure
        return Drawn(f"figures/{name}.png", title, caption)

    for name, module in list(sys.modules.items()):
        if name.startswith("reports.") and hasattr(module, "save"):
            monkeypatch.setattr(module, "save", keep)
    with style():
        yield made
