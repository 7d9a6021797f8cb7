"""Wrapped handlers: which handlers are called through which wrappers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.testing import ScriptedServer, accept, send

from ..support.apps import opened
from ..support.seen import Noting, eventually

URL = "ws://example.invalid/"


class Wrapping:
    """A wrapper that records what it wraps, and what is called through it."""

    def __init__(self, mark: str = "") -> None:
        self.asked: list[str] = []
        self.called: list[str] = []
        self.mark = mark

    def __call__(self, name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        self.asked.append(name)

        def wrapped(argument: Any) -> None:
            self.called.append(f"{self.mark}{name}")
            handler(argument)

        return wrapped


def test_handlers_added_before_and_after_it_are_called_through_the_wrapper() -> None:
    wrapping = Wrapping()
    seen: list[Any] = []
    with ScriptedServer([accept(), send("x")]) as server:
        app = Noting(server.url)  # has on_event
        app.hooks.wrap_handlers(wrapping)
        app.on("text")(seen.append)
        app.on("error")(seen.append)
        app.on("text")(lambda _: 1 / 0)
        with opened(app):
            eventually(lambda: len(seen) == 2)
    assert [type(one) for one in seen] == [events.Text, ZeroDivisionError]
    assert {"event", "text", "error"} == set(wrapping.called)


def test_messages_in_batches_are_wrapped_too() -> None:
    wrapping = Wrapping()
    app = WebSocketApp(URL)
    batches: list[Any] = []
    app.on("batch")(batches.append)
    app.hooks.wrap_handlers(wrapping)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert wrapping.called == ["batch"]
    assert len(batches) == 1


def test_of_two_wrappers_the_last_is_outermost() -> None:
    app = WebSocketApp(URL)
    app.on("text")(lambda _: None)
    calls: list[str] = []
    for mark in ("inner ", "outer "):
        wrapping = Wrapping(mark)
        wrapping.called = calls
        app.hooks.wrap_handlers(wrapping)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert calls == ["outer text", "inner text"]


def test_removing_a_wrapper_leaves_the_others() -> None:
    app = WebSocketApp(URL)
    seen: list[Any] = []
    app.on("text")(seen.append)
    gone, stays = Wrapping(), Wrapping()
    for wrapper in (gone, stays, gone):
        app.hooks.wrap_handlers(wrapper)
    app.hooks.unwrap_handlers(gone)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert (gone.called, stays.called) == (["text"], ["text"])
    app.hooks.unwrap_handlers(gone)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert (gone.called, stays.called, len(seen)) == (["text"], ["text", "text"], 2)


def test_of_equal_wrappers_the_identical_one_is_removed() -> None:
    class Equal(Wrapping):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 0

    app = WebSocketApp(URL)
    app.on("text")(lambda _: None)
    gone, stays = Equal(), Equal()
    app.hooks.wrap_handlers(gone)
    app.hooks.wrap_handlers(stays)
    app.hooks.unwrap_handlers(gone)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert (gone.called, stays.called) == ([], ["text"])
    app.hooks.unwrap_handlers(Equal())  # and who gives another gets one that equals it
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert stays.called == ["text"]


def test_an_unknown_wrapper_cannot_be_removed() -> None:
    app = WebSocketApp(URL)
    app.hooks.wrap_handlers(Wrapping())
    with pytest.raises(ValueError, match="is not a wrapper of these handlers"):
        app.hooks.unwrap_handlers(Wrapping())


def test_a_handler_can_be_removed_though_it_is_wrapped() -> None:
    app = WebSocketApp(URL)
    seen: list[Any] = []
    app.on("text")(seen.append)
    app.hooks.wrap_handlers(Wrapping())
    app.remove_handler(seen.append)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert seen == []


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [(5, "wrapper=5: expected a function"), (lambda name, handler: None, "returned None for a handler")],
    ids=["not a function", "returns none"],
)
def test_a_wrapper_without_anything_to_call_is_refused_and_changes_nothing(wrapper: Any, said: str) -> None:
    app = WebSocketApp(URL)
    seen: list[Any] = []
    app.on("text")(seen.append)
    with pytest.raises(TypeError, match=said):
        app.hooks.wrap_handlers(wrapper)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert len(seen) == 1


def test_a_wrapper_may_register_handlers_for_it_is_called_without_a_lock() -> None:
    app = WebSocketApp(URL)
    seen: list[Any] = []
    app.on("text")(seen.append)

    def wrapper(name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        if len(added) < 1:
            added.append(name)
            app.on("text")(seen.append)
        return handler

    added: list[str] = []
    app.hooks.wrap_handlers(wrapper)
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert len(seen) == 2


def test_handlers_that_many_threads_register_are_all_there(restless: None) -> None:
    app = WebSocketApp(URL)
    app.hooks.wrap_handlers(Wrapping())
    seen: list[int] = []

    def register() -> None:
        for number in range(25):
            app.on("text")(lambda _, number=number: seen.append(number))

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    app._lochws.registry.dispatch_all([events.Text("x")])
    assert sorted(seen) == sorted([*range(25)] * 4)
