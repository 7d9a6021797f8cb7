"""The pages of docs/ and their tables, and a check that a line has tests."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

_TESTS = Path(__file__).parents[1]
#: The names of all tests.
TESTS = {
    node.name
    for path in _TESTS.rglob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


def page(name: str) -> str:
    """Return the text of a page."""
    return (_TESTS.parent / "docs" / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of each table, without the tables' heads."""
    lines = text.splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|---") and not after.startswith("|---")
    ]


def unproved(keys: Iterable[str], evidence: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the lines of a page that no test shows, each with what is wrong.

    Args:
        keys: what each line begins with.
        evidence: for each key the names of tests.
    """
    wrong = {}
    for key in keys:
        named = evidence.get(key, ())
        missing = [name for name in named if name not in TESTS]
        if not named:
            wrong[key] = "tests/pages/evidence.py names no test"
        elif missing:
            wrong[key] = f"there is no test called {', '.join(missing)}"
    return wrong
