"""Tests of docs/events.md: its tables have every event with all its attributes, and every other method."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from lochws import events
from lochws.dispatch.handler import Handler

from ..support.pages import page, rows

TABLE = {row[0]: row for row in rows(page("events.md")) if row[0].startswith("`on_")}
EVENTS = get_args(events.AnyEvent)


def attributes(kind: type[events.Event]) -> set[str]:
    """Return the attributes of an event class, without those that every event has."""
    own = {name for parent in kind.__mro__ for name in (*vars(parent), *getattr(parent, "__slots__", ()))}
    return {name for name in own if not name.startswith("_")} - {"name", "received_time"}


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.name)
def test_an_event_has_its_row_with_its_attributes(kind: type[events.Event]) -> None:
    _, called, has, when = TABLE[f"`on_{kind.name}`"]
    assert called == f"`{kind.__name__}`"
    assert set(re.findall(r"`(\w+)`", has)) == attributes(kind)
    assert when
    assert ("**final**" in when) == (kind in {events.ConnectFail, events.Disconnected})


def test_the_tables_have_exactly_the_methods_of_a_handler() -> None:
    assert {name.strip("`") for name in TABLE} == {name for name in vars(Handler) if name.startswith("on_")}
