"""Hidden names: a subclass cannot break lochws by the names of its own attributes."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from functools import cached_property, partialmethod
from typing import Any

import pytest

from lochws import Threads, WebSocket, WebSocketApp
from lochws.testing import ScriptedServer

from ..support.apps import running
from ..support.seen import PATIENCE

URL = "ws://example.invalid/"
KINDS = [WebSocket, WebSocketApp]
PRIVATE_ONCE = [
    "_options", "_headers", "_life", "_registry", "_sending", "_traffic", "_endpoint", "_lifecycle",
    "_dialler", "_handler_failed", "_close_events", "_url", "_state", "_lock", "_unavailable",
    "_refuse_in_handler",
]
METHODS = ["start", "stop", "on", "wait_ready", "add_handler", "connect", "send_text", "close", "reconnect"]
PROPERTIES = ["state", "counters", "url", "is_active", "latency", "in_handler", "tls", "close_called"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_attribute_holds_everything_private(kind: type[WebSocket]) -> None:
    assert list(vars(kind(URL))) == ["_lochws"]
    ours = {name for base in kind.__mro__[:-1] for name in vars(base) if not name.startswith("__")}
    assert not [name for name in ours if name.startswith("_")]


def test_a_subclass_uses_any_private_name_without_effect_on_the_connection() -> None:
    class App(WebSocketApp):
        def __init__(self, url: str) -> None:
            for name in PRIVATE_ONCE:
                setattr(self, name, 0)
            super().__init__(url)
            for name in PRIVATE_ONCE:
                setattr(self, name, {})

    with ScriptedServer() as server, running(App(server.url)) as app:
        assert app.wait_ready(PATIENCE)
        assert app.send_text("x")
        app.close()
        assert app.join(PATIENCE)
    assert all(getattr(app, name) == {} for name in PRIVATE_ONCE)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_cannot_be_set_and_the_error_says_what_to_do(name: str) -> None:
    class App(WebSocketApp):
        pass

    said = f"App.{name} is an attribute of WebSocketApp and cannot be set: .* such as self._{name}"
    with pytest.raises(AttributeError, match=said):
        setattr(App(URL), name, {})


@pytest.mark.parametrize("value", [0, None, {}, "text", lambda self: 0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_class_cannot_hide_a_property(kind: type[WebSocket], value: Any) -> None:
    with pytest.raises(TypeError, match=f"Mine.counters hides a property of {kind.__name__}"):
        type("Mine", (kind,), {"counters": value})


@pytest.mark.parametrize(
    "value", [0, None, {}, False, property(lambda self: 0), cached_property(lambda self: 0)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_class_cannot_hide_a_method_by_something_that_cannot_be_called(
    kind: type[WebSocket], value: Any
) -> None:
    with pytest.raises(TypeError, match=f"Mine.send_text hides a method of {kind.__name__}"):
        type("Mine", (kind,), {"send_text": value})


def test_a_mixin_cannot_hide_a_name_either() -> None:
    class Mixin:
        state = "idle"

    with pytest.raises(TypeError, match=r"Mixin.state hides a property of WebSocketApp"):
        type("Mine", (Mixin, WebSocketApp), {})
    type("Mine", (WebSocketApp, Mixin), {})  # here ours is found first


def test_the_one_private_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Mine._lochws: lochws uses this name itself"):
        type("Mine", (WebSocketApp,), {"_lochws": None})


def test_methods_and_properties_may_be_overridden_by_their_like() -> None:
    class App(WebSocketApp):
        close = partialmethod(WebSocketApp.close, 1001)  # type: ignore[assignment]
        wait_closed = staticmethod(lambda: None)  # type: ignore[assignment]
        reconnect = classmethod(lambda cls: None)  # type: ignore[assignment]

        def send_text(self, text: str, compress: bool = True) -> bool:
            return super().send_text(text.upper(), compress)

        @property
        def url(self) -> str:
            return "mine"

        @cached_property
        def latency(self) -> float | None:  # type: ignore[override]
            return 1.0

    app = App(URL)
    assert (app.url, app.latency) == ("mine", 1.0)


@pytest.mark.parametrize("value", [None, False, 0, [], "text"])
@pytest.mark.parametrize("name", METHODS)
def test_an_attribute_that_hides_a_method_is_refused_at_the_start(name: str, value: Any) -> None:
    class App(WebSocketApp):
        pass

    app = App(URL)
    setattr(app, name, value)
    said = re.escape(f"App.{name} was set to {value!r} and hides a method of WebSocketApp")
    with pytest.raises(AttributeError, match=said):
        WebSocketApp.start(app)


def test_it_is_refused_at_once_if_it_is_set_before_super_init() -> None:
    class App(WebSocketApp):
        def __init__(self, url: str) -> None:
            self.stop = False  # type: ignore[assignment,method-assign]
            super().__init__(url)

    with pytest.raises(AttributeError, match=r"App.stop was set to False and hides a method of WebSocketApp"):
        App(URL)


def test_a_method_may_be_replaced_on_an_instance_by_something_that_can_be_called() -> None:
    app = WebSocketApp(URL)
    app.send_text = lambda text, compress=True: True  # type: ignore[method-assign]
    assert app.send_json(x=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_and_pickling_are_refused_with_the_reason(
    kind: type[WebSocket], duplicate: Callable[[object], object]
) -> None:
    said = f"a {kind.__name__} cannot be copied or pickled, since it owns a connection, locks and threads"
    with pytest.raises(TypeError, match=said):
        duplicate(kind(URL))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_and_pickling_shared_threads_is_refused(duplicate: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match=r"Threads cannot be copied or pickled: make others with Threads\(\)"):
        duplicate(Threads())
