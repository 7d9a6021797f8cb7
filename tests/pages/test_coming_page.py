"""Tests of docs/coming-from-websocket-client.md: every old parameter has a row, and every new name exists."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import websocket

from lochws import Backoff, WebSocketApp, events
from lochws.dispatch.handler import Handler

from ..support.pages import page, rows

PAGE = page("coming-from-websocket-client.md")
ROWS = [row for row in rows(PAGE) if len(row) == 2]


def parameters(*functions: Callable[..., object]) -> set[str]:
    """Return the names of the parameters of functions."""
    return {name for function in functions for name in inspect.signature(function).parameters} - {"self"}


OURS = parameters(WebSocketApp, WebSocketApp.start, Backoff)
METHODS = {name for name in vars(Handler) if name.startswith("on_")}
ATTRIBUTES = {name for kind in vars(events).values() if isinstance(kind, type) for name in dir(kind)}


@pytest.mark.parametrize("name", sorted(
    parameters(websocket.WebSocketApp.__init__, websocket.WebSocketApp.run_forever) - {"url", "keep_running"}
))
def test_every_parameter_of_their_app_has_a_row(name: str) -> None:
    _, _, last = name.rpartition("_")
    named = " ".join(row[0] for row in ROWS)
    assert re.search(rf"`{name}\b|`_{last}`", named), f"no row says what replaces {name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_names_that_replace_them_exist(row: list[str]) -> None:
    code = " ".join(re.findall(r"`([^`]+)`", row[1]))
    assert set(re.findall(r"\b(\w+)=", code)) <= OURS
    assert set(re.findall(r"\bon_\w+", code)) <= METHODS
    assert set(re.findall(r"\bevent\.(\w+)", code)) <= ATTRIBUTES
    assert all(hasattr(WebSocketApp, name) for name in re.findall(r"\bsend_\w+", code))
