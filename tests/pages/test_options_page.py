"""Tests of docs/options.md: every option and property on it exists, with the default that it says."""

from __future__ import annotations

import inspect
import re

import pytest

from lochws import WebSocketApp

from ..support.pages import page, rows

OPTIONS = [row for row in rows(page("options.md")) if len(row) == 3]
PROPERTIES = [row for row in rows(page("options.md")) if len(row) == 2]
PARAMETERS = {
    **inspect.signature(WebSocketApp).parameters, **inspect.signature(WebSocketApp.start).parameters
}
UNITS = {"s": 1, "MiB": 1024 * 1024}


def names(cell: str) -> list[str]:
    """Return what stands in backticks in a cell."""
    return re.findall(r"`(\w+)`", cell)


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row[0])
def test_the_options_of_a_row_exist(row: list[str]) -> None:
    assert names(row[0])
    assert set(names(row[0])) <= set(PARAMETERS)


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row[0])
def test_a_default_in_numbers_or_code_is_the_one_that_holds(row: list[str]) -> None:
    defaults = [part.strip() for part in row[1].split(",")]
    if len(defaults) == len(names(row[0])):
        for name, default in zip(names(row[0]), defaults, strict=True):
            value = PARAMETERS[name].default
            if measured := re.fullmatch(r"(\d+) (s|MiB)", default):
                assert value == int(measured[1]) * UNITS[measured[2]]
            elif default == "none":
                assert value is None
            elif re.fullmatch(r"`(True|False|\"\w+\")`", default):
                assert repr(value).replace("'", '"') == default.strip("`")


@pytest.mark.parametrize("row", PROPERTIES, ids=lambda row: row[0])
def test_the_properties_of_a_row_exist(row: list[str]) -> None:
    assert names(row[0])
    assert all(hasattr(WebSocketApp, name) for name in names(row[0]))


def test_there_are_rows() -> None:
    assert len(OPTIONS) > 15
    assert len(PROPERTIES) > 6
