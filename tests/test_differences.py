"""docs/differences.md: every difference has its line, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "differences.md").read_text(encoding="utf-8")
#: The cells of each row of a table, without its head.
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not re.match(r"\|(---| \| Lomond| Lomond)", line)
]
NAMES = {
    node.name
    for path in TESTS.rglob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef)
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_names_tests_that_exist_or_says_that_it_is_not_there(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+)`", row[-1])
    assert named or "not offered" in row[-2], "which test shows it?"
    for name in named:
        assert name in NAMES, f"there is no {name}"


def test_every_quirk_has_its_row() -> None:
    numbers = [int(row[0][1:]) for row in ROWS if re.fullmatch(r"Q\d+", row[0])]
    assert numbers == list(range(1, 48))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_is_whole(row: list[str]) -> None:
    assert len(row) == (4 if re.fullmatch(r"Q\d+", row[0]) else 3)
    assert all(row[:-1])
