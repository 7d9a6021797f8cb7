"""docs/security.md: each line names a test that exists, and each limit is the one that holds."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from lochws import Backoff, WebSocket

from ..support.pages import TESTS, named_tests, page, rows

PAGE = page("security.md")
ROWS = rows(PAGE)
LIMITS = [row for row in ROWS if len(row) == 4]
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_is_whole_and_names_tests_that_exist(row: list[str]) -> None:
    assert all(row)
    assert len(row) in {2, 4}
    named = named_tests(row[-1])
    assert named, "which test shows it?"
    assert named <= TESTS


def test_what_stands_outside_of_the_tables_names_tests_that_exist() -> None:
    assert named_tests(PAGE) <= TESTS
    for item in re.findall(r"^\* .*?(?=^\* |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        assert named_tests(item) or item.startswith("* **`ssl_verify"), item


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0][:40])
def test_a_limit_is_the_one_that_holds(row: list[str]) -> None:
    number, _, unit = row[1].partition(" ")
    assert default_of(row[2]) == int(number) * UNITS[unit]


def default_of(where: str) -> object:
    """The value of a constant, or of an option's default."""
    name = re.findall(r"`([\w.]+)`", where)[0]
    if name.startswith("lochws."):
        module, _, constant = name.rpartition(".")
        return getattr(importlib.import_module(module), constant)
    functions = (Backoff,) if where.endswith("`Backoff`") else (WebSocket, WebSocket.connect)
    return next(
        parameters[name].default
        for parameters in (inspect.signature(function).parameters for function in functions)
        if name in parameters
    )


def test_there_are_limits() -> None:
    assert len(LIMITS) > 10
