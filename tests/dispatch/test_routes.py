"""Routes: which messages they match, what they cost, and where their errors go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lochws
from lochws import Codec, WebSocketApp, events
from lochws.dispatch.registry import Registry
from lochws.dispatch.routes import Match, Route, Router, has_fields
from lochws.handlers.worker import Worker

from ..support.apps import running
from ..support.peer import BINARY, TEXT, Link, StartPeer
from ..support.scripts import answer_close
from ..support.seen import PATIENCE, Noting

URL = "ws://localhost"


class Ticker(msgspec.Struct, tag="ticker"):
    product: str


class Counted:
    """Decodes JSON, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, message: str) -> Any:
        self.count += 1
        return json.loads(message)


class Table:
    """A registry on which events are dispatched as the reader does it, and what happened."""

    def __init__(self, codec: Codec | None = None) -> None:
        self.failures: list[BaseException] = []
        self.codec = codec
        self.registry = Registry(self.failures.append, codec) if codec else Registry(self.failures.append)
        self.called: list[str] = []

    def note(self, name: str) -> Callable[[Any], None]:
        return lambda _: self.called.append(name)

    def route(self, name: str, match: Any = None, **fields: Any) -> Callable[[Any], None]:
        function = self.note(name)
        self.registry.add_route(function, Match(match, fields))
        return function

    def dispatch(self, *messages: Any) -> list[str]:
        received: list[events.Event] = [
            message if isinstance(message, events.Event)
            else events.Text(message if isinstance(message, str) else json.dumps(message))
            for message in messages
        ]
        if self.codec:
            events.use_codec(received, self.codec)
        self.called.clear()
        self.registry.dispatch_all(received)
        return self.called.copy()


@pytest.fixture
def table() -> Table:
    return Table()


MATCHES: list[tuple[Any, dict[str, Any], Any, bool]] = [
    (None, {"type": "ticker"}, {"type": "ticker", "price": 1}, True),
    (None, {"type": "ticker"}, {"type": "trade"}, False),
    (None, {"type": "ticker"}, {"price": 1}, False),
    (None, {"type": "ticker"}, {"type": None}, False),
    (None, {"type": None}, {"type": None}, True),
    (None, {"type": None}, {}, False),
    (None, {"type": "ticker"}, {"type": ["ticker"]}, False),
    (None, {"type": ["a", 1]}, {"type": ["a", 1]}, True),
    (None, {"type": "a", "channel": 1}, {"type": "a", "channel": 1}, True),
    (None, {"type": "a", "channel": 1}, {"type": "a", "channel": 2}, False),
    (None, {"data": {"side": "buy"}}, {"data": {"side": "buy", "price": 1}}, True),
    (None, {"data": {"side": "buy"}}, {"data": {"side": "sell"}}, False),
    (None, {"data": {"side": "buy"}}, {"data": "buy"}, False),
    (None, {"data": {"order": {"id": 5}}}, {"data": {"order": {"id": 5}}}, True),
    (None, {"data": {}}, {"data": {"any": "object"}}, True),
    (None, {"data": {}}, {"data": 5}, False),
    (None, {"self": 1, "match": 2}, {"self": 1, "match": 2}, True),
    (None, {"title": "a"}, "a text with the method title", False),
    (None, {"type": "ticker"}, ["type", "ticker"], False),
    (None, {"type": "ticker"}, 5, False),
    (None, {"type": "ticker"}, None, False),
    ({"event-type": "x"}, {}, {"event-type": "x"}, True),
    ({"event-type": "x"}, {"id": 1}, {"event-type": "x", "id": 1}, True),
    ({"event-type": "x"}, {"id": 1}, {"event-type": "x"}, False),
    (lambda message: message["price"] > 100, {"type": "t"}, {"type": "t", "price": 101}, True),
    (lambda message: message["price"] > 100, {"type": "t"}, {"type": "t", "price": 100}, False),
    (lambda message: message["price"] > 100, {"type": "t"}, {"type": "u"}, False),
    (lambda message: isinstance(message, list), {}, [1], True),
    (list, {}, [1], True),
    (list, {}, {"a": 1}, False),
    (dict, {"a": 1}, {"a": 1}, True),
]


@pytest.mark.parametrize(("match", "fields", "message", "expected"), MATCHES)
def test_a_route_gets_the_messages_that_have_its_fields(
    table: Table, match: Any, fields: dict[str, Any], message: Any, expected: bool
) -> None:
    table.registry.add_route(table.note("route"), Match(match, fields))
    assert table.dispatch(message) == ["route"] * expected
    assert not table.failures


@pytest.mark.parametrize("text", ["", "pong", "{", "[1,", "NaN,", "\ufeff{}"])
def test_a_text_that_is_not_json_matches_no_route_and_is_no_error(table: Table, text: str) -> None:
    table.route("any", lambda _: True)
    table.registry.add_function(table.note("text"), ["text"])
    assert table.dispatch(text) == ["text"]
    assert not table.failures


def test_binary_messages_match_no_route_of_a_codec_of_texts(table: Table) -> None:
    table.route("any", lambda _: True)
    assert table.dispatch(events.Binary(b"{}"), events.Ping(b"{}")) == []


def test_all_routes_that_match_run_in_order_after_the_handlers_of_the_message(table: Table) -> None:
    table.route("first", type="a")
    table.route("predicate", lambda message: "type" in message)
    table.registry.add_function(table.note("text"), ["text"])
    table.route("second", type="a")
    table.route("other", type="b")
    table.registry.add_function(table.note("event"), ["event"])
    assert table.dispatch({"type": "a"}) == ["event", "text", "first", "predicate", "second"]
    assert table.dispatch({"type": "b"}) == ["event", "text", "predicate", "other"]
    assert table.dispatch({"type": "c"}) == ["event", "text", "predicate"]


def test_a_message_is_decoded_once_for_all_routes_and_for_json() -> None:
    loads = Counted()
    table = Table(Codec(loads, str))
    for number in range(50):
        table.route("x", type=number % 5)
        table.route("y", lambda message: True)
    table.registry.add_function(lambda event: event.json, ["text"])
    assert len(table.dispatch({"type": 1})) == 60
    assert loads.count == 1


def test_a_message_that_no_route_wants_is_decoded_once_and_one_without_routes_never() -> None:
    loads = Counted()
    table = Table(Codec(loads, str))
    table.registry.add_function(table.note("text"), ["text"])
    table.dispatch({"type": 1})
    assert loads.count == 0
    for number in range(50):
        table.route("x", type=number)
    assert table.dispatch({"kind": 1}) == ["text"]
    assert loads.count == 1


def test_routes_get_messages_that_a_handler_of_batches_takes(table: Table) -> None:
    table.registry.add_function(table.note("batch"), ["batch"])
    table.registry.add_function(table.note("text"), ["text"])
    table.route("a", type="a")
    assert table.dispatch({"type": "a"}, {"type": "b"}, events.Binary(b""), {"type": "a"}) == [
        "batch", "a", "a",
    ]


class TestErrors:
    def test_those_of_a_predicate_go_where_a_handlers_go_and_others_are_tried(
        self, table: Table, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_message: object) -> bool:
            raise SystemExit("no")

        errors: list[BaseException] = []
        table.registry.add_function(errors.append, ["error"])
        table.route("before", type="a")
        table.route("never", fail)
        table.route("after", type="a")
        assert table.dispatch({"type": "a"}) == ["before", "after"]
        assert [str(error) for error in errors] == ["no"]
        assert table.failures == errors
        assert ["fail failed on Text(" in record.getMessage() for record in caplog.records] == [True]

    def test_those_of_a_handler_name_it_and_the_next_one_runs(
        self, table: Table, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_event: object) -> None:
            raise LookupError("in the handler")

        table.registry.add_route(broken, Match(None, {"type": "a"}))
        table.route("after", type="a")
        assert table.dispatch({"type": "a"}) == ["after"]
        assert ["broken failed on Text(" in record.getMessage() for record in caplog.records] == [True]
        assert [type(error) for error in table.failures] == [LookupError]

    def test_those_of_the_decoder_are_reported_once_however_many_routes_there_are(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def decode(_message: str) -> object:
            raise OverflowError("in the decoder")

        table = Table(Codec(decode, str))
        for _ in range(10):
            table.route("never", lambda _: True)
        table.registry.add_function(table.note("text"), ["text"])
        assert table.dispatch({}) == ["text"]
        assert [type(error) for error in table.failures] == [OverflowError]
        assert ["decode failed on Text(" in record.getMessage() for record in caplog.records] == [True]

    def test_a_typed_message_that_does_not_fit_is_one(self) -> None:
        table = Table(Codec(msgspec.json.Decoder(Ticker).decode, msgspec.json.encode))
        table.route("ticker", Ticker)
        assert table.dispatch({"type": "ticker", "product": 5}) == []
        assert [type(error) for error in table.failures] == [msgspec.ValidationError]

    def test_a_message_nested_too_deeply_is_one(self, table: Table) -> None:
        table.route("never", lambda _: True)
        assert table.dispatch("[" * 100_000) == []
        assert [type(error) for error in table.failures] == [ValueError]

    def test_a_comparison_that_raises_is_one(self, table: Table) -> None:
        class Hostile:
            def __eq__(self, other: object) -> bool:
                raise RuntimeError("compared")

        table.route("never", type=Hostile())
        table.route("after", type="a")
        assert table.dispatch({"type": "a"}) == ["after"]
        assert [str(error) for error in table.failures] == ["compared"]

    def test_a_handler_that_returns_a_coroutine_is_reported(self, table: Table) -> None:
        async def work() -> None: ...

        table.registry.add_route(lambda _: work(), Match(None, {"a": 1}))
        table.dispatch({"a": 1})
        assert "returned a coroutine" in str(table.failures[0])


class TestCodecs:
    def test_typed_messages_are_matched_by_class_and_by_attribute(self) -> None:
        class Trade(msgspec.Struct, tag="trade"):
            product: str
            data: Ticker

        table = Table(Codec(msgspec.json.Decoder(Ticker | Trade).decode, msgspec.json.encode))
        table.route("class", Ticker)
        table.route("field", product="BTC")
        table.route("both", Trade, product="ETH")
        table.route("nested", data={"product": "XRP"})
        table.route("no such attribute", price=1)
        assert table.dispatch({"type": "ticker", "product": "BTC"}) == ["class", "field"]
        trade = {"type": "trade", "product": "ETH", "data": {"type": "ticker", "product": "XRP"}}
        assert table.dispatch(trade) == ["both", "nested"]
        assert not table.failures

    def test_binary_messages_are_routed_by_a_codec_of_binary_messages(self) -> None:
        table = Table(Codec(msgpack.unpackb, msgpack.packb, binary=True))
        table.route("a", type="a")
        table.route("bytes", id=b"\xff")
        table.registry.add_function(table.note("binary"), ["binary"])
        table.registry.add_function(table.note("text"), ["text"])
        packed = events.Binary(msgpack.packb({"type": "a", "id": b"\xff"}))
        assert table.dispatch(packed, {"type": "a"}) == ["binary", "a", "bytes", "text"]
        assert not table.failures


class TestRegistration:
    def test_a_function_is_removed_from_all_its_routes(self, table: Table) -> None:
        function = table.note("removed")
        for value in (1, 2):
            table.registry.add_route(function, Match(None, {"type": value}))
        table.registry.add_function(function, ["text"])
        table.route("stays", type=1)
        table.registry.remove(function)
        assert table.dispatch({"type": 1}, {"type": 2}) == ["stays"]
        with pytest.raises(ValueError, match="is not registered"):
            table.registry.remove(function)

    def test_without_the_last_route_nothing_is_decoded_any_more(self) -> None:
        loads = Counted()
        table = Table(Codec(loads, str))
        table.registry.remove(table.route("gone", type=1))
        assert not table.registry.has_handler_for(events.Text)
        table.dispatch({"type": 1})
        assert loads.count == 0

    def test_a_handler_of_a_route_may_add_and_remove_routes(self, table: Table) -> None:
        def once(_event: object) -> None:
            table.called.append("once")
            table.registry.remove(once)
            table.route("later", type=1)

        table.registry.add_route(once, Match(None, {"type": 1}))
        assert table.dispatch({"type": 1}, {"type": 1}) == ["once", "later"]

    def test_wrappers_wrap_the_handler_and_run_only_if_it_matches(self, table: Table) -> None:
        def wrapper(name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
            def wrapped(event: Any) -> None:
                table.called.append(f"wrapped {name}")
                handler(event)
            return wrapped

        table.registry.wrap(wrapper)
        table.route("a", type="a")
        table.route("b", type="b")
        assert table.dispatch({"type": "a"}) == ["wrapped text", "a"]
        table.registry.unwrap(wrapper)
        assert table.dispatch({"type": "a"}) == ["a"]

    def test_a_route_counts_as_a_handler_of_its_message(self) -> None:
        app = WebSocketApp(URL)
        assert not app.hooks.handles("text")
        app.route(type="a")(print)
        assert app.hooks.handles("text")
        app.remove_handler(print)
        assert not app.hooks.handles("text")
        binary = WebSocketApp(URL, codec=Codec(json.loads, str.encode, binary=True))
        binary.route(type="a")(print)
        assert (binary.hooks.handles("text"), binary.hooks.handles("binary")) == (False, True)

    def test_the_methods_of_a_class_and_of_an_object_may_be_routes(self) -> None:
        class Base(WebSocketApp):
            @lochws.route(type="a")
            @lochws.route(type="b")
            def either(self, event: events.Text) -> None:
                called.append(("either", event.json))

            def on_text(self, _event: events.Text) -> None:
                called.append(("text", None))

        class Derived(Base):
            @lochws.route({"type": "b"})
            @lochws.on("binary")
            def second(self, event: events.Text | events.Binary) -> None:
                called.append(("second", event))

        class Other:
            @lochws.route(lambda message: message["type"] == "a")
            def third(self, event: events.Text) -> None:
                called.append(("third", event.json))

        called: list[Any] = []
        app = Derived(URL)
        other = Other()
        app.add_handler(other)
        registry = app._lochws.registry
        registry.dispatch_all([events.Text('{"type": "a"}')])
        assert called == [("text", None), ("either", {"type": "a"}), ("third", {"type": "a"})]
        called.clear()
        app.remove_handler(other)
        registry.dispatch_all([events.Text('{"type": "b"}')])
        assert [name for name, _ in called] == ["text", "either", "second"]

    def test_an_object_of_routes_alone_is_a_handler_but_no_work_for_a_worker(self) -> None:
        class Routes:
            @lochws.route(type="a")
            def a(self, event: events.Text) -> None: ...

        app = WebSocketApp(URL)
        app.add_handler(Routes())
        assert app.hooks.handles("text")
        with pytest.raises(TypeError, match=r"has a route\(type='a'\), which a worker does not call"):
            Worker(Routes(), SimpleNamespace(submit=print))  # type: ignore[arg-type]

    def test_the_function_is_returned_unchanged(self) -> None:
        assert WebSocketApp(URL).route(type=1)(print) is print


async def coroutine(_: object) -> bool:
    return True


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((), {}, TypeError, r"route\(\) needs a field, a class or a predicate: write route\(type='ticker'\)"),
    (({},), {}, TypeError, "needs a field"),
    (("ticker",), {}, TypeError, "expected fields such as type='ticker'.*got 'ticker'"),
    ((5,), {}, TypeError, "expected fields such as"),
    (({"a": 1},), {"a": 2}, ValueError, "the field 'a' is given twice"),
    ((events.Text,), {}, TypeError, r"write on\('text'\)"),
    ((lambda: True,), {}, TypeError, "the predicate.*cannot be called with one argument"),
    ((coroutine,), {}, TypeError, "is a coroutine function"),
]


@pytest.mark.parametrize("route", [WebSocketApp(URL).route, lochws.route], ids=["app", "class"])
@pytest.mark.parametrize(("arguments", "fields", "error", "words"), WRONG)
def test_wrong_arguments_are_refused_and_say_what_would_be_right(
    route: Callable[..., Any], arguments: Any, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        route(*arguments, **fields)


def test_a_wrong_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="is a coroutine function"):
        WebSocketApp(URL).route(type=1)(coroutine)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="cannot be called with one argument"):
        WebSocketApp(URL).route(type=1)(lambda: None)  # type: ignore[type-var, misc]
    with pytest.raises(TypeError, match="@route: expected a method, got 5"):
        lochws.route(type=1)(5)  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"WebSocketApp\.route needs an app: write @app\.route"):
        WebSocketApp.route({"a": 1})  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize("name", ["app.route", "lochws.route"])
def test_without_parentheses_the_decorated_function_is_not_taken_for_a_predicate(name: str) -> None:
    route: Any = WebSocketApp(URL).route if name == "app.route" else lochws.route
    with pytest.raises(TypeError, match=rf"@{name} without parentheses .* write @{name}\(type='ticker'\)"):
        @route
        def show(event: events.Text) -> None:
            """Show it."""

    with pytest.raises(TypeError, match=rf"write @{name}\("):
        class Feed:
            @staticmethod
            def first(event: events.Text) -> None:
                """Come first."""

            @route
            def second(self, event: events.Text) -> None:
                """Come second."""


def test_a_predicate_that_has_a_name_is_one() -> None:
    def is_large(message: Any) -> bool:
        return bool(message["size"] > 10)

    app = WebSocketApp(URL)

    @app.route(is_large)
    def show(event: events.Text) -> None:
        """Show it."""

    @app.route(lambda message: message["size"] < 3)
    def hide(event: events.Text) -> None:
        """Hide it."""

    for function in (show, hide):
        app.remove_handler(function)


def test_its_repr_shows_what_it_matches() -> None:
    assert repr(Match(None, {"type": "a", "data": {"b": 1}})) == "route(type='a', data={'b': 1})"
    assert repr(Match(print, {"a": 1})) == "route(print, a=1)"
    assert repr(Match({"a-b": 1}, {})) == "route({'a-b': 1})"


# What is looked up must be what would be found by trying one route after the other.

scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["a", "b", ""]) | st.floats()
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from("ab"), scalars, max_size=2)
fields = st.dictionaries(st.sampled_from(["a", "b"]), values, min_size=1, max_size=2)


def naive(message: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(
        name in message and (
            isinstance(message[name], dict) and naive(message[name], value) if isinstance(value, dict)
            else message[name] == value
        )
        for name, value in wanted.items()
    )


@given(st.lists(fields, max_size=8), st.dictionaries(st.sampled_from(["a", "b", "c"]), values))
def test_looking_up_finds_what_trying_would_find(wanted: list[Any], message: dict[str, Any]) -> None:
    called: list[int] = []

    def call(handlers: Any, argument: Any, _event: Any) -> None:
        handlers[0](argument)

    routes = [
        Route(Match(None, each), lambda _, number=number: called.append(number))  # type: ignore[misc]
        for number, each in enumerate(wanted)
    ]
    event = events.Text("")
    event._json = message
    Router(routes, json.loads, call, print)(event)
    assert called == [number for number, each in enumerate(wanted) if naive(message, each)]
    assert all(has_fields(message, each) == naive(message, each) for each in wanted)


@pytest.mark.parametrize("binary", [False, True])
def test_routes_work_over_a_connection(start_peer: StartPeer, binary: bool) -> None:
    codec = Codec(msgpack.unpackb, msgpack.packb, binary=True) if binary else None

    def script(link: Link) -> None:
        link.accept()
        for number in range(6):
            message = {"type": "even" if number % 2 == 0 else "odd", "number": number}
            if binary:
                link.send_frame(BINARY, msgpack.packb(message))
            else:
                link.send_frame(TEXT, json.dumps(message).encode())
        answer_close(link)

    numbers: list[int] = []
    app = Noting(start_peer(script).url, codec=codec)

    @app.route(type="even")
    def even(event: events.Text) -> None:
        numbers.append(event.json["number"])

    @app.route(type="odd", number=5)
    def last(event: events.Text) -> None:
        numbers.append(event.json["number"])
        app.close()

    with running(app):
        assert app.wait_closed(PATIENCE)
    assert numbers == [0, 2, 4, 5]
