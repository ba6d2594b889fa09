"""The house has floors: a file imports only from floors below its own, in no circle, and one door leads to reports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a folder stands for all files in it that no longer name has. Files of one floor may import each
# other, in no circle.
FLOORS = (
    ("modules",),
    ("datamodules",),
    ("ablations.harness.store", "ablations.harness.runtime", "ablations.harness.command.invocation"),
    ("ablations.harness.declare", "ablations.harness.explain"),
    ("ablations.probes", "ablations.harness.stopwatch"),
    ("ablations.harness",),
    ("reports.charts", "reports.drawings", "reports.pages", "reports.filters_page"),
    ("ablations.harness.launch",),
    ("ablations",),
    ("reports",),
)
DOOR = "ablations.harness.launch"
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("ablations", "modules", "datamodules", "reports")
    for file in (ROOT / package).rglob("*.py")
}
FOLDERS = ("modules", "datamodules", "reports", "ablations.probes", "ablations.harness")
MOST_FILES, MOST_LINES = 15, 400


def imported(name: str) -> set[str]:
    """The files that one imports anywhere in it, for its types too; a package only where nothing in it is named."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{each.name}" for each in node.names}
            found |= inside if inside <= set(FILES) else inside | {node.module}
    return (found & set(FILES)) - {name}


IMPORTS = {name: imported(name) for name in FILES}


def floor(name: str) -> int:
    """The floor of a file, counted from the ground: that of the longest name which it begins with."""
    of = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    return of[max((part for part in of if name == part or name.startswith(f"{part}.")), key=len)]


def test_files_import_each_other_in_no_circle() -> None:
    left = dict(IMPORTS)
    assert sum(map(len, left.values())) > 300, "imports are found"
    while free := {name for name, needed in left.items() if not needed & set(left)}:
        left = {name: needed for name, needed in left.items() if name not in free}
    assert not left, f"these import each other in a circle, or a circle: {', '.join(sorted(left))}"


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_from_its_own_floor_and_those_below(name: str) -> None:
    assert [other for other in sorted(IMPORTS[name]) if floor(other) > floor(name)] == []


def test_one_door_leads_from_ablations_to_reports() -> None:
    through = {name for name, needed in IMPORTS.items() for each in needed if each.startswith("reports.")}
    assert {name for name in through if not name.startswith("reports")} == {DOOR}


def test_reports_know_no_script() -> None:
    scripts = {f"ablations.{file.stem}" for file in (ROOT / "ablations").glob("[!_]*.py")}
    assert [name for name, needed in IMPORTS.items() if name.startswith("reports") and needed & scripts] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_read_at_a_glance(folder: str) -> None:
    inside = {file.parent for file in (ROOT / folder.replace(".", "/")).rglob("*.py")}
    assert [f"{each}: {n}" for each in inside if (n := len(list(each.glob("[!_]*.py")))) > MOST_FILES] == []


def test_no_file_is_long() -> None:
    assert [name for name, file in FILES.items() if len(file.read_text().splitlines()) > MOST_LINES] == []
