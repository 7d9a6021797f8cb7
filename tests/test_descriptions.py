"""Descriptions: `help` shows a class's docstring, and an editor shows the text below an attribute."""

from __future__ import annotations

import ast
import enum
import inspect
import re

import pytest

import lochws
from lochws import Backoff, Counters, Deflate, Rate, State, Status, events
from lochws.app import WebSocketAppOptions
from lochws.options import WebSocketOptions, options_documented
from lochws.sent import ControlFrame
from lochws.transport.stream import TLS

EVENTS = [
    kind for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and not kind.__name__.startswith("_")
    and kind is not events.UnknownMessage
]
OTHERS = [Backoff, ControlFrame, Counters, Deflate, Rate, State, Status, TLS]


def described(kind: type) -> dict[str, str]:
    """Return the section "Attributes" of a class's docstring, by attribute."""
    section = re.search(r"\nAttributes:\n((?:    .*\n?)+)", inspect.getdoc(kind) or "")
    items = re.split(r"\n    (?! )", "\n" + section[1].rstrip())[1:] if section else []
    pairs = (item.split(": ", 1) for item in items)
    return {name: normalized(text) for name, text in pairs}


def normalized(text: str) -> str:
    text = " ".join(text.split())
    return text[0].lower() + text[1:]


@pytest.mark.parametrize("kind", [*EVENTS, *OTHERS], ids=lambda kind: kind.__name__)
def test_an_attribute_is_described_below_itself_as_in_the_docstring_of_its_class(kind: type) -> None:
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    below = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, (ast.AnnAssign, ast.Assign)) and isinstance(following, ast.Expr):
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            below[ast.unparse(target)] = normalized(str(ast.literal_eval(following.value)))
    assert below == described(kind)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_attribute_of_an_event_is_described(kind: type[events.Event]) -> None:
    slots = {name for base in kind.__mro__[:-2] for name in getattr(base, "__slots__", ())}
    if kind is not events.Event:
        slots -= {"received_time"}
    assert {name for name in slots if not name.startswith("_")} <= set(described(kind))


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_every_attribute_of_another_class_is_described(kind: type) -> None:
    names = set(kind.__members__) if issubclass(kind, enum.Enum) else set(kind.__annotations__)
    names = names or {name for name, value in vars(kind).items() if isinstance(value, int)}
    assert {name for name in names if not name.startswith("_")} <= set(described(kind))


@pytest.mark.parametrize(
    ("kind", "declared"),
    [(lochws.WebSocket, [WebSocketOptions]), (lochws.WebSocketApp, [WebSocketOptions, WebSocketAppOptions])],
)
def test_a_class_lists_its_options_where_editors_see_them(kind: type, declared: list[type]) -> None:
    """Editors show the literal docstring; at run time it has more about each option."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    literal = ast.get_docstring(body) or ""
    listed = re.findall(r"^    (\w+): .*Default: (.*)\.$", literal.partition("\nOptions ")[2], re.MULTILINE)
    documented = {name: text for each in declared for name, text in options_documented(each).items()}
    assert [name for name, _ in listed] == list(documented)
    for name, default in listed:
        assert f"Default: {default}" in documented[name]
    shown = inspect.getdoc(kind) or ""
    assert "\nOptions " not in shown
    assert all(shown.count(f"\n    {name}: ") == 1 for name in documented)


def test_dir_shows_only_what_users_import() -> None:
    shown = {name for name in dir(lochws) if not name.startswith("__")}
    modules = shown - set(lochws.__all__)
    assert modules == {"app", "clock", "options", "persist", "response", "sent", "status", "websocket"}
    assert all(inspect.ismodule(getattr(lochws, name)) for name in modules)


def test_dir_of_an_app_shows_one_private_name() -> None:
    shown = [name for name in dir(lochws.WebSocketApp("ws://example.invalid/")) if not name.startswith("__")]
    assert [name for name in shown if name.startswith("_")] == ["_lochws"]
    assert len([name for name in shown if not name.startswith(("_", "on_"))]) <= 46
