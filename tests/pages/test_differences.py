"""docs/differences.md: every difference has its line, and every test that it names exists."""

from __future__ import annotations

import re

import pytest

from ..support.pages import TESTS, named_tests, page, rows

ROWS = rows(page("differences.md"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_names_tests_that_exist_or_says_that_it_is_not_there(row: list[str]) -> None:
    named = named_tests(row[-1])
    assert named or "not offered" in row[-2], "which test shows it?"
    assert named <= TESTS


def test_every_quirk_has_its_row() -> None:
    numbers = [int(row[0][1:]) for row in ROWS if re.fullmatch(r"Q\d+", row[0])]
    assert numbers == list(range(1, 48))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_is_whole(row: list[str]) -> None:
    assert len(row) == (4 if re.fullmatch(r"Q\d+", row[0]) else 3)
    assert all(row[:-1])
