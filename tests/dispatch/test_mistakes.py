"""Mistakes, such as names from other libraries, get errors that show the right way."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest

from lochws import (
    Backoff,
    Deflate,
    Feed,
    Rate,
    Threads,
    WebSocket,
    WebSocketApp,
    events,
    not_a_handler,
    on,
)
from lochws.dispatch.foreign import _FIELDS, _INSTEAD, _RENAMED, CALLBACKS
from lochws.dispatch.handler import Handler
from lochws.dispatch.naming import NAMES, check_attributes
from lochws.dispatch.registry import MAX_LIMITS, Registry
from lochws.errors import WebSocketError
from lochws.options import KNOWN, POSITIONAL, Timing
from lochws.persist import persist

URL = "ws://example.invalid/"
OWN = "For a method of your own, use @lochws.not_a_handler"
PLAIN = (
    "is a coroutine function, but lochws calls plain functions on its own threads: from a plain function, "
    "call asyncio.run_coroutine_threadsafe(coroutine, loop)"
)
SSLOPT = "use ssl_cafile, ssl_verify, ssl_certfile, ssl_keyfile or ssl_context in the constructor"
MESSAGE = "override on_text in a subclass, or register a function: @app.on('text', 'binary')"
NO_HANDLERS = "a WebSocket has no handlers: iterate it to get its events, or use a WebSocketApp"
RECONNECT = (
    "lochws reconnects by default; persist=Backoff(min_wait=5, max_wait=5) waits 5 seconds each time, "
    "persist=False turns it off"
)


def message(error: type[BaseException], function: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        function()
    assert type(caught.value) is error
    return str(caught.value)


def app_with(**methods: Any) -> Callable[[], object]:
    return lambda: type("App", (WebSocketApp,), methods)(URL)


def plain(self: object, event: events.Event) -> None: ...


class TestNamesOfOptions:
    """Keywords of other libraries, and of other functions of lochws."""

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("hedaers", "did you mean 'headers'?"),
            ("header", "did you mean 'headers'?"),
            ("extra_headers", "did you mean 'headers'?"),
            ("additional_headers", "did you mean 'headers'?"),
            ("deflate", "did you mean 'compress'?"),
            ("timeout", "did you mean 'open_timeout'?"),
            ("max_size", "did you mean 'max_message_size'?"),
            ("threds", "did you mean 'threads'?"),
            ("cookie", 'pass headers={"Cookie": "…"}, or a cookie jar as cookies, to the constructor'),
            ("sslopt", SSLOPT),
            ("http_proxy_host", 'pass proxies="http://user:password@host:port" to the constructor'),
            ("ping_rate", "pass ping_rate to start() or run_forever()"),
            ("ping_interval", "pass ping_rate to start() or run_forever()"),
            ("heartbeat", "pass ping_rate to start() or run_forever()"),
            ("persist", "pass persist to start() or run_forever()"),
            ("reconnect", f"{RECONNECT} (pass persist to start() or run_forever())"),
            ("on_message", MESSAGE),
            ("on_open", "override on_ready in a subclass, or register a function: @app.on('ready')"),
            ("on_text", "override on_text in a subclass, or register a function: @app.on('text')"),
            ("on_txt", "override on_text in a subclass, or register a function: @app.on('text')"),
            ("pingInterval", "pass ping_rate to start() or run_forever()"),
            ("handshakeTimeout", "did you mean 'open_timeout'?"),
            ("rejectUnauthorized", "pass ssl_verify=False to the constructor to accept any certificate"),
            ("on_handler_eror", "did you mean 'on_handler_error'?"),
            ("read_timeout", "pass ping_timeout: any byte from the server counts as a sign of life"),
            ("bearer", 'pass headers={"Authorization": "…"}, or a function that returns the token as auth'),
            ("path", "put it in the URL"),
            ("rate_limit", "did you mean 'rate'?"),
            ("zzz", "see the documentation of WebSocketApp"),
        ],
    )
    def test_of_an_app(self, name: str, hint: str) -> None:
        wrong: dict[str, Any] = {name: 1}
        assert message(TypeError, lambda: WebSocketApp(URL, **wrong)) == (
            f"WebSocketApp: {name!r} is not an option: {hint}"
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("header", "did you mean 'headers'?"),
            ("ping_interval", "pass ping_rate to connect()"),
            ("poll", "pass poll to connect()"),
            ("threads", "threads is an option of WebSocketApp"),
            ("reconnect", "iterate lochws.persist.persist(websocket), which reconnects"),
            ("on_message", NO_HANDLERS),
        ],
    )
    def test_of_a_websocket(self, name: str, hint: str) -> None:
        wrong: dict[str, Any] = {name: 1}
        assert message(TypeError, lambda: WebSocket(URL, **wrong)) == (
            f"WebSocket: {name!r} is not an option: {hint}"
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("ping_interval", "did you mean 'ping_rate'?"),
            ("ping_rte", "did you mean 'ping_rate'?"),
            ("reconnect", RECONNECT),
            ("max_retries", "pass persist=Backoff(max_attempts=…)"),
            ("headers", "pass headers to the constructor of WebSocketApp"),
            ("header", "pass headers to the constructor of WebSocketApp"),
            ("threads", "pass threads to the constructor of WebSocketApp"),
            ("sslopt", SSLOPT),
            ("dispatcher", "apps share their threads with threads=Threads()"),
            ("on_message", MESSAGE),
            ("on_stal", "did you mean 'on_stale'?"),
            ("poll_interval", "did you mean 'poll'?"),
            ("block", "start() returns immediately; run_forever() blocks"),
            ("zzz", "see the documentation of {}()"),
        ],
    )
    @pytest.mark.parametrize("method", ["start", "run_forever"])
    def test_of_a_start(self, method: str, name: str, hint: str) -> None:
        app = WebSocketApp(URL)
        assert message(TypeError, lambda: getattr(app, method)(**{name: 1})) == (
            f"{method}(): {name!r} is not an argument: {hint.format(method)}"
        )
        assert app.state.value == "new"

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("ping_interval", "did you mean 'ping_rate'?"),
            ("headers", "pass headers to the constructor of WebSocket"),
            ("persist", "pass persist to lochws.persist.persist(websocket)"),
        ],
    )
    def test_of_an_iteration(self, name: str, hint: str) -> None:
        wrong: dict[str, Any] = {name: 1}
        assert message(TypeError, lambda: WebSocket(URL).connect(**wrong)) == (
            f"connect(): {name!r} is not an argument: {hint}"
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("ping_interval", "did you mean 'ping_rate'?"),
            ("origin", "pass origin to the constructor of WebSocket"),
            ("max_attempts", "pass backoff=Backoff(max_attempts=…)"),
            ("persist", "persist() always reconnects; backoff=Backoff(…) sets the waits"),
            ("jitter", "the waits always have full jitter"),
            ("reconnect", RECONNECT.partition(", persist=False")[0].replace("lochws", "persist()")
             .replace("persist=", "backoff=")),
        ],
    )
    def test_of_persist(self, name: str, hint: str) -> None:
        wrong: dict[str, Any] = {name: 1}
        assert message(TypeError, lambda: persist(WebSocket(URL), **wrong)) == (
            f"persist(): {name!r} is not an argument: {hint}"
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("jitter", "the waits always have full jitter"),
            ("max_delay", "did you mean 'max_wait'?"),
            ("max_retries", "did you mean 'max_attempts'?"),
            ("multiplier", "did you mean 'factor'?"),
            ("min_wiat", "did you mean 'min_wait'?"),
            ("reset_after", "did you mean 'stable_after'?"),
            ("max", "did you mean 'max_wait'?"),
            ("zzz", "see the documentation of Backoff"),
        ],
    )
    def test_of_a_back_off(self, name: str, hint: str) -> None:
        wrong: dict[str, Any] = {name: 1}
        assert message(TypeError, lambda: Backoff(**wrong)) == f"Backoff: {name!r} is not a field: {hint}"
        assert set(_FIELDS.values()) <= set(inspect.signature(Backoff).parameters)

    @pytest.mark.parametrize(
        ("kind", "name", "hint"),
        [
            (Rate, "period", "did you mean 'per'?"),
            (Rate, "margins", "did you mean 'margin'?"),
            (Rate, "zzz", "expected limit, per, counts, scope or margin"),
            (Deflate, "levle", "did you mean 'level'?"),
            (Deflate, "min_size", "did you mean 'threshold'?"),
            (Threads, "max_workers", "did you mean 'supervisors'?"),
            (Threads, "daemon", "expected supervisors, attempts, name or clock"),
        ],
    )
    def test_of_other_classes(self, kind: Any, name: str, hint: str) -> None:
        assert message(TypeError, lambda: kind(**{name: 1})) == (
            f"{kind.__name__}: {name!r} is not an argument: {hint}"
        )
        assert name not in inspect.signature(kind).parameters

    def test_the_advice_names_options_that_exist(self) -> None:
        ours = {*KNOWN, *POSITIONAL, *vars(Timing()), "persist", "threads"}
        assert set(_RENAMED.values()) <= ours
        for text in _INSTEAD.values():
            assert set(re.findall(r"\b(\w+)=", text)) <= ours | set(vars(Backoff()))
        assert not ours & {*_RENAMED, *_INSTEAD}

    def test_the_signatures_show_nothing_of_the_check(self) -> None:
        parameters = inspect.signature(WebSocketApp.run_forever).parameters
        assert list(parameters) == ["self", *vars(Timing()), "persist"]
        assert WebSocketApp.run_forever.__doc__ is not None


class TestMethodsOfOtherLibraries:
    """Methods that look like handlers, and would never be called."""

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("message", "did you mean on_text or on_binary?"),
            ("data", "did you mean on_text or on_binary? (messages arrive whole)"),
            ("cont_message",
             "did you mean on_text or on_binary? (fragments are joined, so messages arrive whole)"),
            ("open", "did you mean on_ready?"),
            ("connect", "did you mean on_ready? (on_connected comes before the upgrade)"),
            ("reconnect", "did you mean on_ready? (it is called for every connection)"),
            ("close", "did you mean on_disconnected?"),
            ("disconnect", "did you mean on_disconnected?"),
            ("connection_lost", "did you mean on_disconnected?"),
            ("connect_error", "did you mean on_connect_fail?"),
            ("txt", "did you mean on_text?"),
            ("mesage", "did you mean on_text or on_binary?"),
            ("messages", "did you mean on_text or on_binary?"),
            ("reconect", "did you mean on_ready? (it is called for every connection)"),
        ],
    )
    def test_are_refused_when_the_class_is_made(self, name: str, hint: str) -> None:
        assert message(TypeError, app_with(**{f"on_{name}": plain})) == (
            f"App.on_{name} would never be called: there is no event {name!r}; {hint} {OWN}"
        )

    @pytest.mark.parametrize("name", CALLBACKS)
    def test_are_refused_in_other_objects_too(self, name: str) -> None:
        handler = type("Mine", (), {f"on_{name}": plain, "on_text": plain})()
        said = message(TypeError, lambda: WebSocketApp(URL).add_handler(handler))
        assert said.startswith(f"Mine.on_{name} would never be called: there is no event {name!r}; did you")

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("onMessage", "on_text or on_binary"), ("onopen", "on_ready"), ("onText", "on_text"),
         ("onClose", "on_disconnected"), ("onConnectFail", "on_connect_fail")],
    )
    def test_are_refused_in_the_style_of_javascript(self, name: str, hint: str) -> None:
        assert message(TypeError, app_with(**{name: plain})) == (
            f"App.{name} would never be called: did you mean {hint}? {OWN}"
        )

    def test_names_that_resemble_none_are_the_user_s(self) -> None:
        app_with(
            on_price=plain, once=plain, only=plain, online=plain, on_json=plain, on_order=plain,
            on_database=plain, on_openai=plain, on_message_box=plain, on_date=plain, on_subscribed=plain,
        )()

    def test_a_mixin_after_our_class_is_refused_because_ours_would_win(self) -> None:
        class Mixin:
            def on_text(self, event: events.Text) -> None: ...

        said = message(TypeError, lambda: type("App", (WebSocketApp, Mixin), {}))
        assert said == (
            "Mixin.on_text would never be called, because WebSocketApp.on_text comes first: write class "
            "App(Mixin, WebSocketApp)"
        )
        type("App", (Mixin, WebSocketApp), {})
        type("App", (WebSocketApp, Mixin), {"on_text": plain})


class TestNotAHandler:
    """A way out for methods of the user's own."""

    def test_a_marked_method_is_the_user_s_and_so_are_its_overrides(self) -> None:
        class Mine(WebSocketApp):
            @not_a_handler
            def on_message(self, topic: str, text: str) -> str:
                return topic + text

            @staticmethod
            @not_a_handler
            def on_open() -> str:
                return "open"

            @not_a_handler
            @classmethod
            def on_connect(cls) -> str:
                return cls.__name__

            @not_a_handler
            def onclose(self) -> None: ...

        class Derived(Mine):
            def on_message(self, topic: str, text: str) -> str:
                return "derived " + super().on_message(topic, text)

        app = Derived(URL)
        app.onclose = lambda: None  # type: ignore[method-assign]  # an attribute is the user's too
        check_attributes(app)
        assert app.on_message("a", "b") == "derived ab"
        assert (app.on_open(), app.on_connect()) == ("open", "Derived")

    def test_a_marked_method_named_after_an_event_is_not_registered(self) -> None:
        class Mine(WebSocketApp):
            @not_a_handler
            def on_text(self, one: int, two: int) -> int:  # type: ignore[override]
                return one + two

        app = Mine(URL)
        assert not app.hooks.handles("text")
        assert app.on_text(1, 2) == 3

    def test_a_method_that_is_registered_by_a_mark_may_have_any_name(self) -> None:
        class Mine(WebSocketApp):
            @on("text")
            def on_message(self, event: events.Text) -> None: ...

        assert Mine(URL).hooks.handles("text")

    @pytest.mark.parametrize("wrong", [5, None, "on_message", WebSocketApp, print])
    def test_anything_but_a_method_is_refused(self, wrong: Any) -> None:
        assert message(TypeError, lambda: not_a_handler(wrong)) == (
            f"@not_a_handler: expected a method, got {wrong!r}"
        )


class TestRegistering:
    """Wrong uses of `on`, of `@app.on` and of `add_handler`."""

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (
                ("text", print),
                "takes only events: write {0}('text')(print), or decorate the function with @{0}('text')",
            ),
            ((["text"],), "write @{0}('text'): events are separate arguments, got ['text']"),
            ((("ping", "pong"),),
             "write @{0}('ping', 'pong'): events are separate arguments, got ('ping', 'pong')"),
            ((events.Text("x"),), "write @{0}('text'): expected the name or the class, got Text(text='x')"),
        ],
    )
    def test_of_events_in_another_form(self, given: Any, said: str) -> None:
        app: Any = WebSocketApp(URL)
        mark: Any = on
        for register, name in ((app.on, "app.on"), (mark, "on")):
            text = message(TypeError, lambda register=register: register(*given))  # type: ignore[misc]
            assert text.removeprefix(f"@{name} ") == said.format(name)

    def test_of_a_class_derived_from_an_event(self) -> None:
        kind = type("Mine", (events.Text,), {})
        assert message(TypeError, lambda: WebSocketApp(URL).on(kind)) == (
            "lochws never creates a Mine event: write @app.on(events.Text)"
        )

    def test_of_the_class_in_place_of_an_app(self) -> None:
        assert message(TypeError, lambda: WebSocketApp.on("text")) == (
            "WebSocketApp.on needs an app: write @app.on('text'), or @lochws.on('text') in a class"
        )

    @pytest.mark.parametrize("wrong", [5, None, print, property(plain)])
    def test_of_a_mark_on_what_is_not_a_method(self, wrong: Any) -> None:
        assert message(TypeError, lambda: on("text")(wrong)) == f"@on: expected a method, got {wrong!r}"

    def test_of_a_mark_that_repeats_the_name_is_harmless(self) -> None:
        app = type("App", (WebSocketApp,), {"on_text": on("text", "binary")(plain)})(URL)
        assert [name for name, _, _ in app._lochws.registry._setup.entries] == ["text", "binary"]

    def test_of_a_class_or_a_function_in_place_of_an_object(self) -> None:
        app = WebSocketApp(URL)
        assert message(TypeError, lambda: app.add_handler(TestMocks.Mine)) == (
            "add_handler(Mine) got a class, not an object: write add_handler(Mine())"
        )
        assert message(TypeError, lambda: app.add_handler(plain)) == (
            "add_handler(plain): expected an object with methods on_<event>; register a function with "
            "@app.on('text')"
        )

    def test_of_an_object_with_callbacks_of_another_library_alone(self) -> None:
        app = WebSocketApp(URL)
        assert message(TypeError, lambda: app.add_handler(SimpleNamespace(on_message=print))).startswith(
            "SimpleNamespace.on_message would never be called: there is no event 'message'; did you mean"
        )
        app.add_handler(SimpleNamespace(on_text=print, on_message=print))  # its own callback

    def test_of_a_value_in_place_of_a_method(self) -> None:
        assert message(TypeError, app_with(on_text=5)) == (
            "App.on_text: expected a function of one argument, got 5"
        )


class TestHandlerMethodsCalledLikeDecorators:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_error_shows_the_decorator(self, name: str) -> None:
        def show(event: object) -> None: ...

        app, feed = WebSocketApp(URL), Feed(WebSocketApp, [URL])
        functions = {show.__qualname__: show, "print": print, "functools.partial(": partial(print)}
        for owner, place in (app, "app"), (feed, "feed"):
            for shown, function in functions.items():
                text = message(TypeError, partial(getattr(owner, f"on_{name}"), function))
                assert text.startswith(f"on_{name}({shown}")
                assert text.endswith(f") does not register a function: write @{place}.on({name!r})")

    @pytest.mark.parametrize("name", NAMES)
    def test_a_handler_that_is_no_app_expects_an_event(self, name: str) -> None:
        text = message(TypeError, partial(getattr(Handler(), f"on_{name}"), print))
        assert text == f"on_{name}(print) does not register a function: expected an event"

    @pytest.mark.parametrize("stand_in", [Mock(), MagicMock(spec=events.Text), SimpleNamespace(text="x")])
    def test_events_and_their_stand_ins_are_accepted(self, stand_in: Any) -> None:
        class App(WebSocketApp):
            def on_event(self, event: events.Event) -> None:
                super().on_event(event)  # type: ignore[arg-type]

        app = App(URL)
        for event in stand_in, events.Text("x"):
            app.on_event(event)
            app.on_text(event)
        app.on_error(ValueError())
        app.on_batch([events.Text("x")])
        app.on_sent(("x",))


class TestAssignedHandlers:
    """Functions assigned to attributes, which would not be called."""

    @pytest.mark.parametrize(
        ("name", "event"),
        [("on_text", "text"), ("on_txt", "text"), ("on_texxt", "text"), ("on_message", "text"),
         ("on_data", "text"), ("on_open", "ready"), ("on_reconnect", "ready"), ("on_close", "disconnected"),
         ("on_disconected", "disconnected"), ("on_conect_fail", "connect_fail"), ("onmessage", "text"),
         ("onOpen", "ready"), ("on_error", "error"), ("on_mesage", "text"), ("on_messages", "text"),
         ("on_Text", "text"), ("on_reconect", "ready")],
    )
    def test_are_refused_at_the_start(self, name: str, event: str) -> None:
        app = WebSocketApp(URL)
        setattr(app, name, print)
        for start in (app.start, app.run_forever):
            assert message(AttributeError, start) == (
                f"{name} was assigned but would never be called: override on_{event} in a subclass, or use "
                f"app.on({event!r})"
            )

    def test_every_name_with_one_letter_missing_is_found(self) -> None:
        for name in NAMES:
            app = WebSocketApp(URL)
            setattr(app, f"on_{name[:1]}{name[2:]}", print)
            message(AttributeError, app.start)

    @pytest.mark.parametrize("name", ["on_text", "on_message", "onopen"])
    @pytest.mark.parametrize("kind", ["attribute", "in a dict", "slot", "dynamic"])
    def test_are_found_wherever_the_object_keeps_them(self, kind: str, name: str) -> None:
        class Mine(WebSocketApp):
            __slots__ = (name,) if kind == "slot" else ()

        class Dynamic(WebSocketApp):
            def __getattr__(self, attribute: str) -> object:
                return print if attribute == name else object.__getattribute__(self, attribute)

        app = (Dynamic if kind == "dynamic" else Mine)(URL)
        if kind == "in a dict":
            app.__dict__["other"] = {}
        if kind == "dynamic" and name == "on_text":
            check_attributes(app)  # the method comes first
            return
        if kind != "dynamic":
            setattr(app, name, print)
        assert message(AttributeError, app.start).startswith(f"{name} was assigned but would never be called")

    @pytest.mark.parametrize("value", [None, 5, ""])
    def test_are_refused_in_place_of_a_method_whatever_they_are(self, value: object) -> None:
        app = WebSocketApp(URL)
        app.on_text = value  # type: ignore[assignment,method-assign]
        message(AttributeError, app.start)

    def test_other_functions_and_values_with_such_names_are_the_user_s(self) -> None:
        app = WebSocketApp(URL)
        values = app.__dict__
        values |= {"on_open": None, "on_message": {}, "callback": print, "names": {"on_text": print}}
        check_attributes(app)


class TestOverrides:
    """Methods that hide ours and cannot be called in their place."""

    @pytest.mark.parametrize(
        ("name", "override", "its", "ours"),
        [
            (
                "send_text", lambda self, ws, message: None, "(ws, message)",
                "(text, compress=True, *, receipt=False)",
            ),
            ("close", lambda self, ws: None, "(ws)", "(code=1000, reason='goodbye')"),
            ("stop", lambda self, *, now: None, "(*, now)", "(timeout=None, *, check=False)"),
            ("add_handler", lambda self: None, "()", "(handler)"),
            ("on", lambda self: None, "()", "(*names, loop=None)"),
        ],
    )
    def test_with_other_arguments_are_refused_at_construction(
        self, name: str, override: Any, its: str, ours: str
    ) -> None:
        assert message(TypeError, app_with(**{name: override})) == (
            f"App.{name}{its} cannot be called like WebSocketApp.{name}{ours}, which it overrides: accept "
            f"the same arguments, or choose another name for your own, such as _{name}"
        )

    def test_an_iteration_s_too(self) -> None:
        kind = type("Mine", (WebSocket,), {"connect": lambda self, host: None})
        assert message(TypeError, lambda: kind(URL)).startswith(
            "Mine.connect(host) cannot be called like WebSocket.connect(poll=5.0, "
        )

    def test_coroutine_functions_are_refused(self) -> None:
        async def close(self: object) -> None: ...

        assert message(TypeError, app_with(close=close)) == (
            "App.close is a coroutine function, but WebSocketApp.close is a plain function"
        )

    def test_assigned_ones_are_refused_at_the_start(self) -> None:
        app = WebSocketApp(URL)
        app.close = lambda code: None  # type: ignore[assignment,misc,method-assign]
        assert message(TypeError, app.start).startswith("WebSocketApp.close(code) cannot be called like")

    def test_with_fewer_arguments_or_defaults_are_accepted(self) -> None:
        app_with(
            stop=lambda self: None, close=lambda self: None, send_text=lambda self, text: None,
            start=lambda self, *args, **kwargs: None, join=create_autospec(WebSocketApp.join),
        )()


class TestCoroutines:
    """Functions whose bodies would never run."""

    def test_coroutine_functions_are_refused_with_the_way_to_run_one(self) -> None:
        async def on_text(self: object, event: events.Text) -> None: ...

        async def later() -> None: ...

        on_text.__qualname__ = "App.on_text"
        assert message(TypeError, app_with(on_text=on_text)) == f"App.on_text {PLAIN}"
        app = WebSocketApp(URL)
        later.__qualname__ = "later"
        wrong: Any = later
        assert message(TypeError, lambda: app.call_later(1, wrong)) == f"call_later: later {PLAIN}"
        assert message(TypeError, lambda: WebSocketApp(URL, headers=wrong)) == f"headers: later {PLAIN}"
        assert message(TypeError, lambda: WebSocketApp(wrong)) == f"url: later {PLAIN}"
        assert message(TypeError, lambda: WebSocket(URL, auth=wrong)) == f"auth: later {PLAIN}"
        assert message(TypeError, lambda: Backoff(retry=wrong)) == f"retry: later {PLAIN}"


class TestScheduledCalls:
    """Functions that could not be called when they are due."""

    @pytest.mark.parametrize("wrong", [plain, lambda event: None, lambda *, event: None])
    def test_of_functions_with_arguments_are_refused(self, wrong: Any) -> None:
        assert message(TypeError, lambda: WebSocketApp(URL).call_later(1, wrong)) == (
            f"call_later: function={wrong!r}: expected a function without arguments"
        )

    @pytest.mark.parametrize("right", [print, lambda event=1: None, lambda *args: None, Mock(), dict])
    def test_of_other_functions_are_accepted(self, right: Any) -> None:
        with pytest.raises(WebSocketError, match="has not been started"):
            WebSocketApp(URL).call_later(1, right)

    def test_an_app_is_not_iterated_by_persist(self) -> None:
        app = WebSocketApp(URL)
        assert message(TypeError, lambda: persist(app)) == (
            f"websocket={app!r}: a WebSocketApp reconnects by itself: call run_forever()"
        )


class TestReturnedCoroutines:
    """Plain functions whose result would have to be awaited: they are reported once each."""

    def registry(self) -> tuple[Registry, list[BaseException], list[BaseException]]:
        errors: list[BaseException] = []
        failed: list[BaseException] = []
        registry = Registry(failed.append)
        registry.add_function(errors.append, ["error"])
        return registry, errors, failed

    @pytest.mark.parametrize("name", ["text", "event", "batch"])
    @pytest.mark.parametrize("others", [0, 1])
    def test_of_handlers(self, name: str, others: int, caplog: pytest.LogCaptureFixture) -> None:
        async def body() -> None: ...

        def lazy(event: object) -> object:
            made.append(body())
            return made[-1]

        made: list[Any] = []
        lazy.__qualname__ = "lazy"
        registry, errors, failed = self.registry()
        registry.add_function(lazy, [name])
        for _ in range(others):
            registry.add_function(lambda event: None, [name])
        for _ in range(3):
            registry.dispatch_all([events.Text("x")])
        assert [inspect.getcoroutinestate(each) for each in made] == [inspect.CORO_CLOSED] * 3
        said = (
            "lazy returned a coroutine, which nothing will run: from a plain function, call "
            "asyncio.run_coroutine_threadsafe(coroutine, loop)"
        )
        assert [(type(error), str(error)) for error in errors] == [(TypeError, said)]
        assert failed == errors
        assert [record.getMessage() for record in caplog.records] == ["handler lazy failed on Text(text='x')"]

    def test_of_scheduled_calls_and_handlers_of_errors(self) -> None:
        async def body() -> None: ...

        registry, errors, failed = self.registry()
        registry.add_function(lambda error: body(), ["error"])
        for _ in range(3):
            registry.call(body)
        assert len(errors) == len(failed) == 1

    def test_of_observers_of_what_is_sent(self) -> None:
        async def body() -> None: ...

        registry, _, _ = self.registry()
        registry.add_function(lambda sent: body(), ["sent"])
        with pytest.raises(TypeError, match="returned a coroutine, which nothing will run"):
            registry.taps[0](("x",))
        assert registry.taps[0](("x",)) is None

    def test_generators_are_reported_too_but_only_new_ones(self) -> None:
        def body() -> Iterator[int]:
            yield 1
            yield 2

        running = body()
        next(running)
        registry, errors, _ = self.registry()
        registry.add_function(lambda event: running, ["text"])
        registry.dispatch_all([events.Text("x")])
        assert errors == []
        registry.add_function(lambda event: body(), ["binary"])
        registry.dispatch_all([events.Binary(b"x"), events.Binary(b"x")])
        assert [str(error).partition(" returned ")[2] for error in errors] == [
            "a generator, which nothing will iterate: run its loop in the handler itself"
        ]
        assert next(running) == 2

    @pytest.mark.parametrize("result", [None, 0, "text", [1], Future(), object()])
    def test_other_results_are_ignored(self, result: object) -> None:
        registry, errors, _ = self.registry()
        registry.add_function(lambda event: result, ["text"])
        registry.dispatch_all([events.Text("x")])
        assert errors == []

    def test_more_misled_handlers_than_are_remembered_are_reported(self) -> None:
        async def body() -> None: ...

        registry, errors, _ = self.registry()
        for number in range(MAX_LIMITS + 1):
            def lazy(event: object) -> object:
                return body()

            lazy.__qualname__ = f"lazy{number}"
            registry.add_function(lazy, ["text"])
        registry.dispatch_all([events.Text("x")])
        assert len(errors) == MAX_LIMITS + 1


class TestMocks:
    """Mocks of handlers are accepted, unless they are asynchronous."""

    class Mine:
        def on_text(self, event: events.Text) -> None: ...

    def test_objects(self) -> None:
        app = WebSocketApp(URL)
        for handler in (
            create_autospec(self.Mine, instance=True), create_autospec(self.Mine)(), Mock(spec=self.Mine),
            Mock(spec_set=["on_text"]),
        ):
            app.add_handler(handler)
            app._lochws.registry.dispatch_all([events.Text("x")])
            handler.on_text.assert_called_once()
            app.remove_handler(handler)
        app.add_handler(create_autospec(WebSocketApp, instance=True))

    def test_functions(self) -> None:
        def function(event: events.Text) -> None: ...

        app = WebSocketApp(URL)
        mocks: list[Any] = [
            create_autospec(function), Mock(spec=function), Mock(wraps=function), MagicMock(), Mock(),
            create_autospec(self.Mine, instance=True).on_text,
        ]
        for mock in mocks:
            app.on("text")(mock)
        app._lochws.registry.dispatch_all([events.Text("x")])
        for mock in mocks:
            assert mock.call_count == 1

    def test_an_asynchronous_mock_is_refused(self) -> None:
        with pytest.raises(TypeError, match="is a coroutine function"):
            WebSocketApp(URL).on("text")(AsyncMock())
