"""Tests of docs/security.md: each line has tests, and each limit is the one that holds."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from lochws import Backoff, WebSocket

from ..support.pages import page, rows, unproved
from .evidence import CONSTANTS, SECURITY

PAGE = page("security.md")
ROWS = rows(PAGE)
POINTS = re.findall(r"^\* (\*\*.*?\*\*)", PAGE, re.MULTILINE)
LIMITS = [row for row in ROWS if len(row) == 3]
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}


def test_every_row_and_every_point_has_tests_that_exist() -> None:
    assert not unproved([*(row[0] for row in ROWS), *POINTS], SECURITY)


def test_there_is_no_evidence_without_a_row_or_point() -> None:
    assert not set(SECURITY) - {row[0] for row in ROWS} - set(POINTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_is_whole(row: list[str]) -> None:
    assert len(row) in {2, 3}
    assert all(row[:2])


def test_every_list_item_is_a_point() -> None:
    assert len(re.findall(r"^\* ", PAGE, re.MULTILINE)) == len(POINTS) > 3


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0][:40])
def test_a_limit_is_the_one_that_holds(row: list[str]) -> None:
    what, limit, option = row
    number, _, unit = limit.partition(" ")
    held = default_of(option) if option else value_of(CONSTANTS[what])
    assert held == int(number) * UNITS[unit]


def value_of(constant: str) -> object:
    """Return the value of a constant, given by its full name."""
    module, _, name = constant.rpartition(".")
    return getattr(importlib.import_module(module), name)


def default_of(option: str) -> object:
    """Return the default of an option, given as the page has it."""
    name = re.findall(r"`(\w+)`", option)[0]
    functions = (Backoff,) if option.endswith("`Backoff`") else (WebSocket, WebSocket.connect)
    return next(
        parameters[name].default
        for parameters in (inspect.signature(function).parameters for function in functions)
        if name in parameters
    )


def test_there_are_limits() -> None:
    assert len(LIMITS) > 10
