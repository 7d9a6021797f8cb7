"""Tests of docs/differences.md: each row is whole, and tests that exist show what it says."""

from __future__ import annotations

import re

import pytest

from ..support.pages import page, rows, unproved
from .evidence import DIFFERENCES

ROWS = rows(page("differences.md"))
#: What neither library has needs no test.
NOT_OFFERED = {"Q33"}


def test_every_row_has_tests_that_exist() -> None:
    assert not unproved([row[0] for row in ROWS if row[0] not in NOT_OFFERED], DIFFERENCES)


def test_a_row_without_a_test_is_reported() -> None:
    evidence = {"of a test": ("test_a_row_is_whole",), "of none": (), "of a dead one": ("test_gone",)}
    assert set(unproved([*evidence, "new"], evidence)) == {"of none", "of a dead one", "new"}


def test_there_is_no_evidence_without_a_row() -> None:
    assert not set(DIFFERENCES) - {row[0] for row in ROWS}


def test_every_quirk_has_its_row() -> None:
    numbers = [int(row[0][1:]) for row in ROWS if re.fullmatch(r"Q\d+", row[0])]
    assert numbers == list(range(1, 48))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_is_whole(row: list[str]) -> None:
    assert len(row) == (3 if re.fullmatch(r"Q\d+", row[0]) else 2)
    assert all(row)
