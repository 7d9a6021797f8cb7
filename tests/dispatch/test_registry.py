"""Handlers get their events: methods, decorated functions and objects; wrong ones are refused."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from typing import Any

import pytest

from lochws import WebSocketApp, events, on
from lochws.dispatch import registry
from lochws.dispatch.handler import Handler
from lochws.dispatch.naming import NAMES
from lochws.handlers._parts.recording_lines import _NOT_RECORDED as NO_SOURCE

from ..faults.registry import fault
from ..support.interrupting import call_at
from ..support.peer import TEXT, Link, StartPeer
from ..support.scripts import answer_close
from ..support.seen import PATIENCE

URL = "ws://example.invalid/"
TEXT_EVENT = events.Text("hello")


def deliver(app: WebSocketApp, *them: events.Event) -> None:
    """Pass events to an app's handlers as its reader thread does."""
    for event in them:
        app._lochws.registry.dispatch_all([event])


class Calls(list[Any]):
    """Records calls; `handler(name)` returns a handler that records itself by that name."""

    def handler(self, name: str) -> Any:
        return lambda event: self.append((name, event.name))


class TestMethods:
    """A subclass of WebSocketApp: a method ``on_<event>`` for each event."""

    def test_each_event_goes_to_the_method_of_its_name(self) -> None:
        called = []
        methods = {
            f"on_{name}": lambda self, event, name=name: called.append((name, event))
            for name in NAMES if name not in {"event", "error", "batch"}
        }
        app = type("App", (WebSocketApp,), methods)(URL)
        response: Any = None
        them = [
            events.Connecting(""), events.ConnectFail(""), events.Connected(""),
            events.Rejected(response, ""), events.Ready(response, None, set()), events.Poll(),
            TEXT_EVENT, events.Binary(b""), events.Stream(False, NO_SOURCE),
            events.Ping(b""), events.Pong(b""), events.ProtocolError("", critical=False),
            events.Unresponsive(), events.Stale(90, None), events.Closing(None, ""), events.Closed(None, ""),
            events.Disconnected(), events.BackOff(0),
        ]
        deliver(app, *them)
        assert called == [(event.name, event) for event in them]
        assert len(them) == len(NAMES) - 4

    def test_on_event_comes_first_and_gets_all(self) -> None:
        calls = Calls()

        class App(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                calls.append("text")

            def on_event(self, event: events.Event) -> None:
                calls.append(event.name)

        deliver(App(URL), TEXT_EVENT, events.Poll())
        assert calls == ["text", "text", "poll"]

    def test_an_override_replaces_and_can_call_super(self) -> None:
        calls = []

        class First(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                calls.append("first")

        class Second(First):
            def on_text(self, event: events.Text) -> None:
                calls.append("second")
                super().on_text(event)

        deliver(Second(URL), TEXT_EVENT)
        assert calls == ["second", "first"]

    def test_a_method_may_have_more_parameters_with_defaults(self) -> None:
        class App(WebSocketApp):
            def on_text(self, event: events.Text, *more: Any, extra: int = 1) -> None:
                self.seen = (event, more, extra)

        app = App(URL)
        deliver(app, TEXT_EVENT)
        assert app.seen == (TEXT_EVENT, (), 1)

    def test_static_methods_and_class_methods_are_handlers_too(self) -> None:
        calls = []

        class App(WebSocketApp):
            @staticmethod
            def on_text(event: events.Text) -> None:
                calls.append(event)

            @classmethod
            def on_poll(cls, event: events.Poll) -> None:
                calls.append(cls)

        deliver(App(URL), TEXT_EVENT, events.Poll())
        assert calls == [TEXT_EVENT, App]

    def test_an_app_without_handlers_is_fine(self) -> None:
        deliver(WebSocketApp(URL), TEXT_EVENT)


class TestMarks:
    """`@on(…)` in a class: any method name, one or more events."""

    def test_names_and_classes_one_or_several(self) -> None:
        calls = Calls()

        class App(WebSocketApp):
            @on("text")
            def by_name(self, event: Any) -> None:
                calls.append(("by_name", event.name))

            @on(events.Poll, "closing")
            def several(self, event: Any) -> None:
                calls.append(("several", event.name))

            @on(events.Event)
            def everything(self, event: Any) -> None:
                calls.append(("everything", event.name))

        deliver(App(URL), TEXT_EVENT, events.Poll(), events.Closing(None, ""))
        assert calls == [
            ("everything", "text"), ("by_name", "text"),
            ("everything", "poll"), ("several", "poll"),
            ("everything", "closing"), ("several", "closing"),
        ]

    def test_it_returns_the_function_unchanged_and_can_be_repeated(self) -> None:
        def function(self: Any, event: Any) -> None: ...

        assert on("text")(function) is function
        assert on("poll", "text")(function) is function
        calls = []

        class App(WebSocketApp):
            @on("text")
            @on("poll")
            def mine(self, event: Any) -> None:
                calls.append(event.name)

        deliver(App(URL), TEXT_EVENT, events.Poll())
        assert calls == ["text", "poll"]

    def test_methods_come_first_then_marked_ones_as_they_are_defined(self) -> None:
        calls = Calls()

        class Base(WebSocketApp):
            @on("text")
            def z_of_base(self, event: Any) -> None:
                calls.append("z_of_base")

        class App(Base):
            @on("text")
            def b(self, event: Any) -> None:
                calls.append("b")

            @on("text")
            def a(self, event: Any) -> None:
                calls.append("a")

            def on_text(self, event: events.Text) -> None:
                calls.append("on_text")

        deliver(App(URL), TEXT_EVENT)
        assert calls == ["on_text", "z_of_base", "b", "a"]

    def test_an_override_of_a_marked_method_is_called_once_in_its_place(self) -> None:
        calls = Calls()

        class Base(WebSocketApp):
            @on("text")
            def note(self, event: Any) -> None:
                calls.append("base")

        class App(Base):
            def note(self, event: Any) -> None:
                calls.append("override")

        deliver(App(URL), TEXT_EVENT)
        assert calls == ["override"]

    def test_on_error_can_be_marked(self) -> None:
        class App(WebSocketApp):
            @on("error")
            def oops(self, error: BaseException) -> None:
                self.seen = error

            def on_text(self, event: events.Text) -> None:
                raise ZeroDivisionError

        app = App(URL)
        deliver(app, TEXT_EVENT)
        assert isinstance(app.seen, ZeroDivisionError)


class TestDecorator:
    """`@app.on(…)` on an object."""

    def test_by_name_and_by_class_in_the_order_of_registration(self) -> None:
        app, calls = WebSocketApp(URL), Calls()
        app.on("text")(calls.handler("first"))
        app.on(events.Text, events.Poll)(calls.handler("second"))
        app.on("event")(calls.handler("any"))
        app.on(events.Event)(calls.handler("any too"))
        deliver(app, TEXT_EVENT, events.Poll())
        assert calls == [
            ("any", "text"), ("any too", "text"), ("first", "text"), ("second", "text"),
            ("any", "poll"), ("any too", "poll"), ("second", "poll"),
        ]

    def test_it_returns_the_function_unchanged(self) -> None:
        def show(event: events.Text) -> None: ...

        assert WebSocketApp(URL).on(events.Text)(show) is show

    def test_methods_of_the_class_come_before_it(self) -> None:
        calls = []

        class App(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                calls.append("method")

        app = App(URL)
        app.on("text")(lambda event: calls.append("function"))
        deliver(app, TEXT_EVENT)
        assert calls == ["method", "function"]

    @pytest.mark.parametrize("name", ["text", "on_text"])
    def test_with_or_without_on_in_front(self, name: str) -> None:
        if name == "on_text":
            with pytest.raises(ValueError, match="did you mean 'text'"):
                WebSocketApp(URL).on(name)
        else:
            WebSocketApp(URL).on(name)

    def test_any_callable_of_one_argument_will_do(self) -> None:
        app = WebSocketApp(URL)
        seen: list[Any] = []

        class Callable:
            def __call__(self, event: Any) -> None:
                seen.append(event)

        for handler in (
            seen.append, Callable(), functools.partial(lambda what, event: seen.append(event), 1),
            lambda *args: seen.append(args[0]),
        ):
            app.on("text")(handler)
        deliver(app, TEXT_EVENT)
        assert seen == [TEXT_EVENT] * 4


class TestObjects:
    """`add_handler` and `remove_handler`."""

    def test_all_methods_of_an_object_are_registered(self) -> None:
        class Mine:
            def __init__(self) -> None:
                self.seen: list[str] = []

            def on_text(self, event: Any) -> None:
                self.seen.append("on_text")

            def on_event(self, event: Any) -> None:
                self.seen.append("on_event")

            @on("poll")
            def tick(self, event: Any) -> None:
                self.seen.append("tick")

            def shutdown(self) -> None:
                """Not a handler."""

        app, mine = WebSocketApp(URL), Mine()
        app.add_handler(mine)
        deliver(app, TEXT_EVENT, events.Poll())
        assert mine.seen == ["on_event", "on_text", "on_event", "tick"]

    def test_several_objects_in_the_order_of_registration(self) -> None:
        calls = []

        class Mine(Handler):
            def __init__(self, name: str) -> None:
                self.name = name

            def on_text(self, event: events.Text) -> None:
                calls.append(self.name)

        app = WebSocketApp(URL)
        for name in "cab":
            app.add_handler(Mine(name))
        deliver(app, TEXT_EVENT)
        assert calls == ["c", "a", "b"]

    def test_a_removed_object_gets_nothing_more(self) -> None:
        calls = []

        class Mine:
            def on_text(self, event: Any) -> None:
                calls.append(self)

            on_poll = on_text

        app, one, other = WebSocketApp(URL), Mine(), Mine()
        app.add_handler(one)
        app.add_handler(other)
        app.remove_handler(one)
        deliver(app, TEXT_EVENT, events.Poll())
        assert calls == [other, other]

    def test_a_removed_function_gets_nothing_more(self) -> None:
        calls = Calls()
        app = WebSocketApp(URL)
        first = app.on("text", "poll")(calls.handler("first"))
        app.on("text")(calls.handler("second"))
        app.remove_handler(first)
        deliver(app, TEXT_EVENT, events.Poll())
        assert calls == [("second", "text")]

    def test_a_bound_method_is_removed_by_what_it_is(self) -> None:
        seen: list[Any] = []

        class Mine:
            def show(self, event: Any) -> None:
                seen.append(event)

        app, mine = WebSocketApp(URL), Mine()
        app.on("text")(mine.show)
        app.remove_handler(mine.show)
        deliver(app, TEXT_EVENT)
        assert seen == []

    def test_what_is_not_registered_cannot_be_removed(self) -> None:
        app = WebSocketApp(URL)
        handler = app.on("text")(print)
        app.remove_handler(handler)
        for what in (handler, object()):
            with pytest.raises(ValueError, match="is not registered"):
                app.remove_handler(what)

    def test_handlers_may_add_and_remove_handlers_for_the_next_event(self) -> None:
        app, calls = WebSocketApp(URL), Calls()

        def once(event: Any) -> None:
            calls.append("once")
            app.remove_handler(once)
            app.on("text")(calls.handler("later"))

        app.on("text")(once)
        deliver(app, TEXT_EVENT)
        assert calls == ["once"]
        deliver(app, TEXT_EVENT)
        assert calls == ["once", ("later", "text")]

    def test_an_object_without_handlers_is_refused(self) -> None:
        for nothing in (object(), 5, Handler()):
            with pytest.raises(TypeError, match="has no handlers: expected methods on_<event>"):
                WebSocketApp(URL).add_handler(nothing)


class TestFailures:
    """Exceptions of handlers are always reported and never stop other handlers."""

    def test_it_is_logged_with_traceback_given_to_on_error_and_the_others_run(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls = []

        class App(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                raise LookupError("what {is} this?")

            def on_error(self, error: BaseException) -> None:
                calls.append(error)

        app = App(URL)
        app.on("text")(lambda event: calls.append("other"))
        app.on("error")(lambda error: calls.append("on_error too"))
        with caplog.at_level(logging.ERROR, "lochws"):
            deliver(app, TEXT_EVENT)
        assert isinstance(calls[0], LookupError)
        assert calls[1:] == ["on_error too", "other"]
        assert "App.on_text failed on Text(text='hello')" in caplog.text
        assert "LookupError: what {is} this?" in caplog.text
        assert "Traceback" in caplog.text

    def test_on_error_that_fails_itself_is_logged_and_not_called_for_that(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls = []

        class App(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                raise LookupError("first")

            def on_error(self, error: BaseException) -> None:
                calls.append(error)
                raise ValueError("second")

        with caplog.at_level(logging.ERROR, "lochws"):
            deliver(App(URL), TEXT_EVENT)
        assert len(calls) == 1
        assert "ValueError: second" in caplog.text

    @fault("program", "A handler raises")
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
    def test_not_even_system_exit_gets_out(self, kind: type[BaseException]) -> None:
        class App(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                raise kind

            def on_error(self, error: BaseException) -> None:
                self.seen = error

        app = App(URL)
        deliver(app, TEXT_EVENT)
        assert isinstance(app.seen, kind)


def test_all_handlers_of_a_running_app_run_on_its_reader_thread(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.send_frame(TEXT, b"hello")
        answer_close(link)

    threads: dict[str, list[str]] = {}

    class App(WebSocketApp):
        def on_event(self, event: events.Event) -> None:
            threads.setdefault(threading.current_thread().name, []).append(event.name)

        @on("text")
        def end(self, event: events.Text) -> None:
            self.close()

    last = App(start_peer(script).url).run_forever()
    assert isinstance(last, events.Disconnected)
    (name, seen), = threads.items()
    assert name.startswith("lochws-reader-")
    assert "App" in name
    assert (seen[0], seen[-1]) == ("connecting", "disconnected")


def test_a_handler_registered_while_the_app_runs_is_called(start_peer: StartPeer) -> None:
    asked = threading.Event()

    def script(link: Link) -> None:
        link.accept()
        asked.wait(PATIENCE)
        link.send_frame(TEXT, b"hello")
        answer_close(link)

    with WebSocketApp(start_peer(script).url) as app:
        assert app.wait_ready(PATIENCE)
        called = threading.Event()
        app.on("text")(lambda event: called.set())
        asked.set()
        assert called.wait(PATIENCE)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
def test_a_signal_handler_that_registers_in_the_midst_of_a_registration_loses_neither() -> None:
    point, struck = 0, True
    while struck:
        point += 1
        app = WebSocketApp(URL)
        seen: list[str] = []

        def register(app: WebSocketApp = app, seen: list[str] = seen) -> None:
            app.on("text")(lambda event: seen.append("interrupted"))

        def interrupting(app: WebSocketApp = app, seen: list[str] = seen) -> None:
            app.on("text")(lambda event: seen.append("interrupting"))
            app.on("sent")(print)

        struck = call_at(register, point, {registry.__file__}, interrupting)
        deliver(app, TEXT_EVENT)
        expected = ["interrupted", "interrupting"] if struck else ["interrupted"]
        assert sorted(seen) == expected, point
        assert len(app._lochws.registry.taps) == struck, point
    assert point > 20
