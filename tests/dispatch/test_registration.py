"""Wrong handlers are refused when they are registered, with an error that says what would be right."""

from __future__ import annotations

import functools
import gc
import sys
from typing import Any

import pytest

from lochws import WebSocketApp, errors, events, on
from lochws.dispatch.handler import Handler
from lochws.dispatch.registry import Registry

from ..support.seen import PATIENCE

URL = "ws://example.invalid/"
TEXT_EVENT = events.Text("hello")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("txt", "text"), ("message", "text"), ("open", "ready"), ("close", "disconnected"), ("on_open", "ready"),
     ("connect", "ready"), ("on_connect", "ready"),
     ("Text", "text"), ("disconnect", "disconnected"), ("backoff", "back_off"), ("pings", "ping"),
     ("connectfail", "connect_fail"), ("errors", "error"), ("protocol-error", "protocol_error")],
)
def test_an_unknown_name_is_refused_naming_the_nearest(name: str, nearest: str) -> None:
    for decorator in (on, WebSocketApp(URL).on):
        with pytest.raises(ValueError, match=f"no event '{name}': did you mean '{nearest}'"):
            decorator(name)


def test_a_name_that_resembles_none_is_refused_with_a_list_of_all() -> None:
    with pytest.raises(ValueError, match=r"no event 'xyzzy': expected one of connecting, .*event, error"):
        on("xyzzy")


def test_connect_is_refused_with_a_word_on_connected() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'ready'\? \(connected comes before the upgrade\)"):
        on("connect")
    with pytest.raises(TypeError, match=r"did you mean on_ready\? \(on_connected comes before the upgrade\)"):
        type("App", (WebSocketApp,), {"on_connect": lambda self, event: None})


def test_an_event_that_is_never_made_is_refused() -> None:
    with pytest.raises(ValueError, match="no event 'unknown'"):
        on(events.UnknownMessage)


@pytest.mark.parametrize("what", [5, None, str, events, print, [], b"text"])
def test_anything_but_a_name_or_an_event_class_is_refused(what: Any) -> None:
    for decorator in (on, WebSocketApp(URL).on):
        with pytest.raises(TypeError, match="expected an event name such as 'text' or a class") as caught:
            decorator(what)
        assert str(caught.value).endswith(repr(what))


def test_naming_no_event_is_refused_with_an_example() -> None:
    for decorator, name in ((on, "@on"), (WebSocketApp(URL).on, "@app.on")):
        with pytest.raises(TypeError, match=rf"{name}\(\) needs an event: write {name}\('text'\)"):
            decorator()


def test_a_method_that_a_class_gets_later_is_found_in_later_instances() -> None:
    class Late:
        def on_text(self, event: events.Text) -> None:
            seen.append("text")

    def also(self: object, event: events.Text) -> None:
        seen.append("also")

    seen: list[str] = []
    registry = Registry(lambda _: None)
    registry.add_object(Late())
    Late.also = on("text")(also)  # type: ignore[attr-defined]
    registry.add_object(Late())
    registry.dispatch_all([events.Text("x")])
    assert seen == ["text", "text", "also"]
    Late.on_txet = lambda self, event: None  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="did you mean on_text"):
        registry.add_object(Late())


def test_a_decorator_without_parentheses_is_refused_with_an_example() -> None:
    def function(event: Any) -> None: ...

    def on_binary(event: Any) -> None: ...

    for decorator, name in ((on, "@on"), (WebSocketApp(URL).on, "@app.on")):
        with pytest.raises(TypeError, match=rf"write {name}\('text'\)"):
            decorator(function)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"write {name}\('binary'\)"):
            decorator(on_binary)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function", [lambda: None, lambda a, b: None, lambda *, event: None, lambda event, *, must: None]
)
def test_a_function_that_cannot_take_the_event_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"<lambda>\(.*\) cannot be called with one argument, the event"):
        WebSocketApp(URL).on("text")(function)


@pytest.mark.parametrize("function", [5, None, "text"])
def test_a_handler_that_cannot_be_called_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a function of one argument, got {function!r}"):
        WebSocketApp(URL).on("text")(function)


def test_a_coroutine_function_is_refused() -> None:
    async def on_text(event: Any) -> None: ...

    class Awaitable:
        async def __call__(self, event: Any) -> None: ...

    for function in (on_text, functools.partial(on_text), Awaitable()):
        with pytest.raises(TypeError, match="coroutine function"):
            WebSocketApp(URL).on("text")(function)


def test_a_generator_function_is_refused() -> None:
    def on_text(event: Any) -> Any:
        yield event

    with pytest.raises(TypeError, match="generator function, whose body would never run"):
        WebSocketApp(URL).on("text")(on_text)


def test_a_method_that_cannot_take_the_event_is_refused() -> None:
    class Few(WebSocketApp):
        def on_text(self) -> None:  # type: ignore[override]
            ...

    class Marked(WebSocketApp):
        @on("text")
        def show(self, event: Any, more: Any) -> None: ...

    class Coroutine(WebSocketApp):
        async def on_text(self, event: events.Text) -> None:  # type: ignore[override]
            ...

    for kind in (Few, Marked, Coroutine):
        with pytest.raises(TypeError, match=r"(on_text|show).*(one argument|coroutine)"):
            kind(URL)


def test_a_refused_object_is_not_registered_in_part() -> None:
    calls = []

    class Half:
        def on_text(self, event: Any) -> None:
            calls.append(event)

        def on_poll(self) -> None: ...

    app = WebSocketApp(URL)
    with pytest.raises(TypeError, match="on_poll"):
        app.add_handler(Half())
    app._lochws.registry.dispatch_all([TEXT_EVENT])
    assert calls == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("on_txet", "on_text"), ("on_message", "on_text"), ("on_open", "on_ready"),
     ("on_close", "on_disconnected"), ("on_disconnect", "on_disconnected"), ("on_redy", "on_ready"),
     ("on_backoff", "on_back_off"), ("on_errors", "on_error"), ("on_Text", "on_text")],
)
def test_a_misspelt_method_is_refused_when_the_class_is_made(name: str, nearest: str) -> None:
    with pytest.raises(TypeError, match=f"App.{name} would never be called.*did you mean {nearest}"):
        type("App", (WebSocketApp,), {name: lambda self, event: None})


def test_a_misspelt_method_of_another_object_is_refused_when_it_is_added() -> None:
    class Mine:
        def on_text(self, event: Any) -> None: ...

        def on_conected(self, event: Any) -> None: ...

    with pytest.raises(TypeError, match=r"Mine.on_conected would never be called.*on_connected"):
        WebSocketApp(URL).add_handler(Mine())


def test_other_methods_may_begin_with_on() -> None:
    class App(WebSocketApp):
        on_call = True

        def on_behalf_of(self, who: str) -> None: ...

        def on_price_change(self, price: float, time: float) -> None: ...

    App(URL)


@pytest.mark.parametrize("name", ["on_text", "on_event", "on_error", "on_message", "on_open", "on_close"])
def test_a_handler_that_was_assigned_is_refused_at_the_start_with_the_way_to_do_it(name: str) -> None:
    app = WebSocketApp(URL)
    setattr(app, name, print)
    with pytest.raises(AttributeError, match=rf"{name} was assigned.*app\.on\('"):
        app.start()


def test_none_cannot_be_assigned_as_a_handler_either() -> None:
    app = WebSocketApp(URL)
    app.on_text = None  # type: ignore[assignment,method-assign]
    with pytest.raises(AttributeError, match="on_text was assigned"):
        app.start()


def test_other_attributes_can_be_assigned() -> None:
    app = WebSocketApp(URL)
    app.on_duty = True  # type: ignore[attr-defined]
    app.price = 5  # type: ignore[attr-defined]
    app.close()  # so that the start connects to nothing
    app.start()
    assert app.join(PATIENCE)


def test_a_callable_dictionary_that_was_assigned_as_a_handler_is_refused() -> None:
    class Handlers(dict[str, Any]):
        def __call__(self, event: Any) -> None: ...

    # The objects of a new class have their attributes without a dictionary.
    app = type("App", (WebSocketApp,), {})(URL)
    app.on_message = Handlers()
    with pytest.raises(AttributeError, match="on_message was assigned"):
        app.start()


def test_methods_of_a_dictionary_in_an_attribute_are_not_called_by_a_start() -> None:
    class Strange(dict[str, int]):
        def keys(self) -> Any:
            raise AssertionError("keys was called")

        __iter__ = __len__ = __contains__ = __getitem__ = keys  # type: ignore[assignment]

    app = type("App", (WebSocketApp,), {})(URL)
    app.prices = Strange(a=1)
    app.close()  # so that the start connects to nothing
    app.start()
    assert app.join(PATIENCE)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="every object has a dictionary before Python 3.11")
def test_a_start_leaves_the_attributes_as_fast_as_they_were() -> None:
    class App(WebSocketApp):
        count = 0

        def on_event(self, event: Any) -> None:
            self.count += 1

    app = App(URL)
    app.count = 1
    app.close()
    app.start()
    assert app.join(PATIENCE)
    assert not [value for value in gc.get_referents(app) if isinstance(value, dict) and "count" in value]


@pytest.mark.parametrize(
    "use",
    [
        lambda app: app.start(), lambda app: app.run_forever(), lambda app: app.close(),
        lambda app: app.send_text("x"), lambda app: app.state, lambda app: app.is_active,
        lambda app: app.on("text")(print), lambda app: app.add_handler(Handler()), lambda app: app.url,
        repr, lambda app: app.stop(), lambda app: app.counters, lambda app: app.join(),
        lambda app: app.wait_ready(1), lambda app: app.add_header("a", "b"), lambda app: app.__enter__(),
        lambda app: app.reconnect(), lambda app: app.force_disconnect(), lambda app: app.is_secure,
    ],
)
def test_a_forgotten_super_init_is_named(use: Any) -> None:
    class Forgetful(WebSocketApp):
        def __init__(self, url: str) -> None:
            self.mine = url

    app = Forgetful(URL)
    with pytest.raises(errors.WebSocketError, match=r"Forgetful.__init__ must call super\(\).__init__"):
        use(app)


def test_own_attributes_can_be_set_before_super_init() -> None:
    class Careful(WebSocketApp):
        def __init__(self, url: str) -> None:
            assert getattr(self, "_mine", None) is None
            assert not hasattr(self, "mine")
            self._mine = 1
            super().__init__(url)

    with pytest.raises(AttributeError, match="'Careful' object has no attribute 'yours'"):
        _ = Careful(URL).yours  # type: ignore[attr-defined]


def test_a_mixin_is_made_from_the_same_arguments() -> None:
    class Mixin:
        def __new__(cls, url: str, **options: object) -> Any:
            self = super().__new__(cls)
            self.__dict__["given"] = url, options
            return self

    class App(WebSocketApp, Mixin):
        pass

    assert vars(App(URL, agent="me"))["given"] == (URL, {"agent": "me"})


def test_own_setattr_is_not_called_before_init() -> None:
    class Watchful(WebSocketApp):
        def __init__(self, url: str) -> None:
            object.__setattr__(self, "names", [])
            super().__init__(url)

        def __setattr__(self, name: str, value: object) -> None:
            self.names.append(name)
            super().__setattr__(name, value)

        names: list[str]

    assert Watchful(URL).names == ["_lochws"]


def test_handles_tells_whether_an_event_has_a_handler_of_its_own() -> None:
    class Own(WebSocketApp):
        def on_text(self, event: events.Text) -> None:
            pass

    app = Own(URL)
    app.on("event")(print)
    assert app.hooks.handles("text")
    assert app.hooks.handles(events.Binary, events.Text)
    assert not app.hooks.handles("batch")
    app.on("batch")(print)
    assert app.hooks.handles("batch")
    app.remove_handler(print)
    assert not app.hooks.handles("batch")
    with pytest.raises(ValueError, match="did you mean 'text'"):
        app.hooks.handles("txt")
