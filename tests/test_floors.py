"""The house has floors: files of the harness import each other in no circle, not even for their types."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
HARNESS = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts): file
    for file in (ROOT / "ablations" / "harness").glob("*.py")
    if file.stem != "__init__"
}


def imported(file: Path) -> set[str]:
    """The files of the harness that one imports anywhere in it, for its types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found & set(HARNESS)


def test_the_harness_imports_itself_in_no_circle() -> None:
    left = {name: imported(file) - {name} for name, file in HARNESS.items()}
    assert any(left.values()), "imports are found"
    while free := {name for name, needed in left.items() if not needed}:
        left = {name: needed - free for name, needed in left.items() if name not in free}
    assert not left, f"these import each other in a circle, or a circle: {', '.join(sorted(left))}"
