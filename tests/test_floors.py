"""The house has floors: files import each other in no circle, not even for their types."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for house in ("ablations/harness", "datamodules", "modules")
    for file in (ROOT / house).rglob("*.py")
}


def imported(file: Path) -> set[str]:
    """The files of the house that one imports anywhere in it, for its types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found & set(FILES)


def test_files_import_each_other_in_no_circle() -> None:
    left = {name: imported(file) - {name} for name, file in FILES.items()}
    assert any(left.values()), "imports are found"
    while free := {name for name, needed in left.items() if not needed}:
        left = {name: needed - free for name, needed in left.items() if name not in free}
    assert not left, f"these import each other in a circle, or a circle: {', '.join(sorted(left))}"
