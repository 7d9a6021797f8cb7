"""Options: a wrong value is refused at once, and the error names the option and what would be right."""

from __future__ import annotations

import inspect
import re
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import pytest

from lochws import Backoff, Deflate, Governor, Rate, Threads, WebSocket, WebSocketApp
from lochws.app import WebSocketAppOptions
from lochws.options import USER_AGENT, Options, Timing, WebSocketOptions
from lochws.persist import persist

URL = "ws://example.invalid/"
NAN, INF = float("nan"), float("inf")

#: An option, a wrong value, the error, and what its message says besides the option's name.
BAD_OPTIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("proxies", "socks9://proxy", ValueError, "socks9"),
    ("proxies", 5, TypeError, "a mapping"),
    ("proxies", ["http://proxy"], TypeError, "a mapping"),
    ("proxies", {"http": 80}, TypeError, "must be a str, not int"),
    ("proxies", {"http": "socks9://proxy"}, ValueError, "socks9"),
    ("proxies", {"https": "http://"}, ValueError, "no host"),
    ("protocols", "chat", TypeError, "'chat'"),
    ("protocols", 5, TypeError, "5"),
    ("protocols", [5], TypeError, "5"),
    ("protocols", ["a b"], ValueError, "'a b' is not a valid HTTP token"),
    ("protocols", [""], ValueError, "'' is not a valid HTTP token"),
    ("protocols", ["a\r\nb"], ValueError, "not a valid HTTP token"),
    ("protocols", ["a", "b", "a"], ValueError, "'a' is listed twice"),
    ("agent", 5, TypeError, "agent=5: expected a str"),
    ("agent", "me\r\nX-Evil: 1", ValueError, "CR, LF or NUL"),
    ("compress", "yes", TypeError, "'yes'"),
    ("compress", None, TypeError, "None"),
    ("ssl_verify", "no", TypeError, "'no'"),
    ("ssl_verify", None, TypeError, "None"),
    ("ssl_cafile", "/nowhere/ca.pem", FileNotFoundError, "'/nowhere/ca.pem'"),
    ("ssl_cafile", 5, TypeError, "5"),
    ("ssl_context", "tls", TypeError, "'tls'"),
    ("trace", 5, TypeError, "5"),
    ("headers", 5, TypeError, "5"),
    ("headers", ["X-Token"], TypeError, "not str"),
    ("cookies", {"session": "secret"}, TypeError, "CookieJar, not dict"),
    ("headers", {"X Token": "1"}, ValueError, "'X Token'"),
    ("headers", {"X-Token": 1}, TypeError, "'X-Token'"),
    ("headers", {"": "1"}, ValueError, "''"),
    ("origin", 5, TypeError, "int"),
    ("origin", "https://me\nX: 1", ValueError, "CR, LF or NUL"),
    ("auth", "me:secret", TypeError, "(user, password)"),
    ("auth", ("me",), TypeError, "(user, password)"),
    ("auth", ("me", None), TypeError, "(user, password)"),
    ("auth", ("m:e", "secret"), ValueError, "colon"),
    ("open_timeout", -1, ValueError, "-1"),
    ("open_timeout", NAN, ValueError, "nan"),
    ("open_timeout", INF, ValueError, "inf"),
    ("open_timeout", "5", TypeError, "'5'"),
    ("open_timeout", True, TypeError, "True"),
    ("max_message_size", 0, ValueError, "0"),
    ("max_message_size", 1.5, TypeError, "1.5"),
    ("max_message_size", "1", TypeError, "'1'"),
    ("max_queue", 0, ValueError, "0"),
    ("max_queue", None, TypeError, "None"),
    ("max_queue", True, TypeError, "True"),
    ("text_as", "utf-8", ValueError, "'utf-8': expected one of 'str', 'bytes'"),
    ("text_as", bytes, ValueError, "expected one of 'str', 'bytes'"),
    ("fragment", 0, ValueError, "0"),
    ("fragment", True, TypeError, "True"),
    ("fragment", 1.5, TypeError, "1.5"),
    ("when_full", "wait", ValueError, "'wait': expected one of 'raise', 'block', 'drop'"),
    ("when_full", None, ValueError, "None"),
    ("when_full", ["raise"], ValueError, "['raise']"),
    ("send_timeout", -0.1, ValueError, "-0.1"),
    ("send_timeout", "1", TypeError, "'1'"),
    ("rate", 5, TypeError, "rate=5: expected a lochws.Rate, or None"),
    ("rate", (5, 1.0), TypeError, "(5, 1.0)"),
]
BAD_APP_OPTIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("on_handler_error", "ignore", ValueError, "'ignore': expected one of 'continue', 'reconnect', 'stop'"),
    ("threads", 5, TypeError, "5"),
    ("threads", Threads, TypeError, "expected a lochws.Threads"),
    ("governor", 5, TypeError, "governor=5: expected a lochws.Governor, or None"),
]
BAD_TIMING: list[tuple[str, Any, type[Exception], str]] = [
    (name, value, error, shown)
    for name in ("poll", "ping_rate", "ping_timeout", "close_timeout")
    for value, error, shown in [
        (-1, ValueError, "-1"), (NAN, ValueError, "nan"), (INF, ValueError, "inf"),
        (True, TypeError, "True"), ("5", TypeError, "'5'"), ([], TypeError, "[]"),
    ]
] + [("auto_pong", "no", TypeError, "'no'"), ("auto_pong", None, TypeError, "None")]
#: How messages call an option where one of its parts is wrong.
IN_WORDS = {
    "headers": "header", "agent": "gent", "origin": "Origin", "proxies": "prox",
}


@contextmanager
def expect(error: type[Exception], option: str, shown: str) -> Iterator[None]:
    """Expect an error whose message names the option and what is wrong with its value."""
    with pytest.raises(error) as caught:
        yield
    assert IN_WORDS.get(option, option) in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
@pytest.mark.parametrize(("option", "value", "error", "shown"), BAD_OPTIONS)
def test_a_wrong_option_is_refused_at_construction(
    kind: type[WebSocket], option: str, value: Any, error: type[Exception], shown: str
) -> None:
    with expect(error, option, shown):
        kind(URL, **{option: value})


@pytest.mark.parametrize(("option", "value", "error", "shown"), BAD_APP_OPTIONS)
def test_a_wrong_option_of_an_app_is_refused_at_construction(
    option: str, value: Any, error: type[Exception], shown: str
) -> None:
    with expect(error, option, shown):
        WebSocketApp(URL, **{option: value})


@pytest.mark.parametrize("call", ["connect", "start", "run_forever", "persist"])
@pytest.mark.parametrize(("option", "value", "error", "shown"), BAD_TIMING)
def test_wrong_timing_is_refused_at_the_call(
    call: str, option: str, value: Any, error: type[Exception], shown: str
) -> None:
    with expect(error, option, shown):
        if call == "connect":
            WebSocket(URL).connect(**{option: value})
        elif call == "persist":
            persist(WebSocket(URL), **{option: value})
        else:
            getattr(WebSocketApp(URL), call)(**{option: value})


@pytest.mark.parametrize("persist", [None, "yes", 3, Backoff])
def test_persist_is_true_false_or_a_backoff(persist: Any) -> None:
    with pytest.raises(TypeError, match=r"persist=.*expected True, False or a Backoff"):
        WebSocketApp(URL).start(persist=persist)


def test_a_policy_that_needs_reconnecting_is_refused_without_it() -> None:
    with pytest.raises(ValueError, match="needs persist"):
        WebSocketApp(URL, on_handler_error="reconnect").start(persist=False)


@pytest.mark.parametrize("value", [0, None])
def test_0_and_none_switch_a_timer_off(value: Any) -> None:
    timing = Timing(poll=value, ping_rate=value, ping_timeout=value, close_timeout=value)
    assert timing.ping_limit == 0


@pytest.mark.parametrize(
    ("rate", "timeout", "limit"),
    [(30, "auto", 60), (0, "auto", 0), (None, "auto", 0), (5, 7.5, 7.5), (0, 3, 3)],
)
def test_the_automatic_ping_timeout_is_twice_the_rate(rate: Any, timeout: Any, limit: float) -> None:
    assert Timing(ping_rate=rate, ping_timeout=timeout).ping_limit == limit


def test_the_defaults_are_those_of_the_documentation() -> None:
    timing = Timing()
    assert (timing.poll, timing.ping_rate, timing.ping_timeout, timing.close_timeout) == (5, 30, "auto", 30)
    assert timing.auto_pong is True
    options = Options()
    assert (options.open_timeout, options.max_message_size, options.max_queue) == (30, 64 << 20, 16 << 20)


#: Lomond's parameters in Lomond's order (contract section 2).
LOMOND = {
    WebSocket: [
        "url", "proxies", "protocols", "agent", "compress", "ssl_verify", "ssl_cafile", "ssl_context",
        "trace",
    ],
    WebSocket.connect: ["self", "poll", "ping_rate", "ping_timeout", "auto_pong", "close_timeout"],
    persist: [
        "websocket", "poll", "min_wait", "max_wait", "ping_rate", "ping_timeout", "exit_event",
        "respect_retry_after",
    ],
}


@pytest.mark.parametrize("function", LOMOND, ids=lambda function: function.__qualname__)
def test_lomonds_parameters_keep_their_order_and_new_ones_are_keywords(function: Any) -> None:
    parameters = inspect.signature(function).parameters.values()
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == LOMOND[function]
    assert all(each.kind is each.KEYWORD_ONLY for each in parameters if each.name not in positional)


def test_an_app_takes_what_a_websocket_takes_and_three_more() -> None:
    websocket = inspect.signature(WebSocket).parameters
    app = inspect.signature(WebSocketApp).parameters
    assert {name: app[name] for name in websocket} == dict(websocket)
    assert set(app) - set(websocket) == {"governor", "on_handler_error", "threads"}


def test_start_and_run_forever_take_what_connect_takes_and_persist() -> None:
    connect = inspect.signature(WebSocket.connect).parameters
    for method in (WebSocketApp.start, WebSocketApp.run_forever):
        parameters = inspect.signature(method).parameters
        assert {name: parameters[name] for name in connect} == dict(connect)
        assert set(parameters) - set(connect) == {"persist"}


class TestHeaders:
    """`headers` and `add_header`: no header can break out of its line or change the upgrade (contract Q6)."""

    @pytest.mark.parametrize("char", ["\r", "\n", "\0", "\r\n"])
    def test_a_line_break_is_refused_in_name_and_value_and_the_value_not_repeated(self, char: str) -> None:
        with pytest.raises(ValueError, match="is not a valid HTTP token"):
            WebSocket(URL, headers={f"X-To{char}ken": "1"})
        with pytest.raises(ValueError, match="header 'X-Token' contains CR, LF or NUL") as caught:
            WebSocket(URL, headers={"X-Token": f"secret{char}X-Evil: 1"})
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "name",
        ["Upgrade", "connection", "Sec-WebSocket-Key", "SEC-WEBSOCKET-VERSION", "Sec-WebSocket-Protocol",
         "Sec-WebSocket-Extensions", "Content-Length", "Transfer-Encoding"],
    )
    def test_a_header_of_the_upgrade_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name}.*lochws writes it"):
            WebSocket(URL, headers={name: "x"})

    def test_pairs_may_be_lists_too(self) -> None:
        WebSocket(URL, headers=[["X-A", "1"], ("X-B", "2")])  # type: ignore[list-item]

    @pytest.mark.parametrize(("name", "value"), [(b"X-A", b"1"), ("X-A", "1"), ("X-A", b"\xe9")])
    def test_add_header_takes_bytes_as_lomond_does_and_str(self, name: Any, value: Any) -> None:
        WebSocket(URL).add_header(name, value)

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [(b"X A", b"1", ValueError), (b"X-A", b"1\r\n", ValueError), (5, b"1", TypeError),
         (b"X-A", None, TypeError), (b"Upgrade", b"h2c", ValueError)],
    )
    def test_add_header_refuses_what_the_constructor_refuses(
        self, name: Any, value: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=r"header"):
            WebSocket(URL).add_header(name, value)


class TestDeflate:
    """The details of compression."""

    @pytest.mark.parametrize(
        ("option", "low", "high"),
        [("server_max_window_bits", 8, 15), ("client_max_window_bits", 9, 15), ("level", -1, 9),
         ("memory", 1, 9), ("threshold", 0, None)],
    )
    def test_numbers_have_their_range(self, option: str, low: int, high: int | None) -> None:
        for value in (low, high if high is not None else 10**9):
            assert getattr(Deflate(**{option: value}), option) == value
        for value in (low - 1, *(() if high is None else (high + 1,))):
            with expect(ValueError, option, str(value)):
                Deflate(**{option: value})
        for value in (True, 9.0, "9"):
            with expect(TypeError, option, repr(value)):
                Deflate(**{option: value})  # type: ignore[arg-type]

    def test_it_is_made_by_keywords_and_never_changes(self) -> None:
        with pytest.raises(TypeError):
            Deflate(15)  # type: ignore[misc]
        with pytest.raises(AttributeError):
            Deflate().level = 1  # type: ignore[misc]


class TestRate:
    """The limit that a server puts on messages."""

    @pytest.mark.parametrize(("arguments", "error", "words"), [
        ({"limit": 0}, ValueError, "Rate: limit=0: expected a whole number from 1 to"),
        ({"limit": 2.5}, TypeError, "Rate: limit=2.5"),
        ({"limit": True}, TypeError, "Rate: limit=True"),
        ({"per": 0}, ValueError, "Rate: per=0: expected more than 0 seconds, and at most 366 days"),
        ({"per": -1}, ValueError, "Rate: per=-1"),
        ({"per": "1"}, TypeError, "Rate: per='1'"),
        ({"per": NAN}, ValueError, "Rate: per=nan"),
        ({"per": INF}, ValueError, "Rate: per=inf"),
        ({"per": 1e9}, ValueError, "at most 366 days"),
        ({"per": 10**400}, ValueError, "at most 366 days"),
        ({"counts": "bytes"}, ValueError, "Rate: counts='bytes': expected one of 'messages', 'frames'"),
        ({"scope": "app"}, ValueError, "Rate: scope='app': expected one of 'connection', 'client'"),
        ({"margin": -0.1}, ValueError, "Rate: margin=-0.1: expected seconds from 0 to the value of per"),
        ({"margin": 1.5}, ValueError, "Rate: margin=1.5"),
        ({"margin": "1"}, TypeError, "Rate: margin='1'"),
    ])
    def test_an_invalid_argument_is_named(
        self, arguments: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with expect(error, "Rate: ", words):
            Rate(**{"limit": 5, **arguments})

    def test_only_the_limit_is_passed_by_position_and_nothing_ever_changes(self) -> None:
        assert Rate(5) == Rate(limit=5, per=1.0, counts="messages", scope="connection", margin=None)
        with pytest.raises(TypeError):
            Rate(5, 1.0)  # type: ignore[misc]
        with pytest.raises(AttributeError):
            Rate(5).limit = 6  # type: ignore[misc]


def test_construction_accepts_every_option_at_once(ca_file: str) -> None:
    WebSocketApp(
        lambda: URL, {"http": "http://proxy", "https": None}, ["a", "b"], "me/1.0", Deflate(level=1), True,
        ca_file, ssl.create_default_context(), print, headers=dict, origin="https://here",
        auth=("me", "secret"), open_timeout=None, max_message_size=None, max_queue=1, when_full="drop",
        send_timeout=None, rate=Rate(5), on_handler_error="stop", threads=Threads(),
        governor=Governor(),
    )


def test_the_agent_says_name_and_version_and_nothing_of_the_machine() -> None:
    """Contract Q45."""
    import platform

    assert USER_AGENT.startswith("lochws/")
    for secret in (platform.system(), platform.release(), platform.machine(), platform.node()):
        assert secret.lower() not in USER_AGENT.lower()


class TestDeclaredOnce:
    """Options are declared once; signatures and help show each with its type, default and meaning."""

    @pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
    def test_the_signature_lists_every_option_with_its_type_and_default(self, kind: type[WebSocket]) -> None:
        parameters = inspect.signature(kind).parameters
        declared = WebSocketOptions if kind is WebSocket else WebSocketAppOptions
        assert set(declared.__annotations__) == {
            name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY
        }
        assert parameters["max_queue"].default == 16 << 20
        assert parameters["when_full"].annotation == "Literal['raise', 'block', 'drop']"
        assert all(each.annotation is not each.empty for each in parameters.values())
        assert [name for name, each in parameters.items() if each.default is each.empty] == ["url"]

    def test_a_subclass_with_a_constructor_of_its_own_shows_its_own_signature(self) -> None:
        class Mine(WebSocketApp):
            def __init__(self, channel: str) -> None:
                super().__init__(f"{URL}{channel}")

        assert list(inspect.signature(Mine).parameters) == ["channel"]

    def test_an_app_that_can_be_called_shows_the_signature_of_its_calls(self) -> None:
        class Mine(WebSocketApp):
            def __call__(self, first: object, second: object) -> None: ...

        assert list(inspect.signature(Mine(URL)).parameters) == ["first", "second"]
        with pytest.raises(TypeError, match="cannot be called with one argument"):
            WebSocketApp(URL).on("text")(Mine(URL))

    @pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
    def test_help_says_what_each_option_does_and_its_default(self, kind: type[WebSocket]) -> None:
        text = inspect.getdoc(kind) or ""
        assert text.index("Args:") < text.index("\n    headers: ") < text.index("Raises:")
        for name, parameter in inspect.signature(kind).parameters.items():
            assert re.search(rf"^    {name}: \S", text, re.MULTILINE), name
            if parameter.kind is parameter.KEYWORD_ONLY:
                default = parameter.default
                sizes = {64 << 20: "64 MiB", 16 << 20: "16 MiB", 256 << 10: "256 KiB"}
                shown = sizes.get(default, repr(default))
                said = re.search(rf"^    {name}: (.*(?:\n     .*)*)", text, re.MULTILINE)
                assert said
                assert re.search(rf"Default:\s+{re.escape(shown)}(,\s|\.)", said[1]), (name, shown)

    def test_an_app_and_a_websocket_say_the_same_about_their_common_parameters(self) -> None:
        texts = [re.findall(r"^    \w+: .*(?:\n     .*)*", inspect.getdoc(kind) or "", re.MULTILINE)
                 for kind in (WebSocket, WebSocketApp)]
        assert set(texts[0]) <= set(texts[1])
        assert len(texts[0]) > 30

    def test_options_and_their_documentation_have_the_same_names(self) -> None:
        ours = {each.name for each in fields(Options)} - {"deflate"} | {"compress"}
        named = set(inspect.signature(WebSocket).parameters) - {"url"}
        assert named == ours

    def test_what_was_converted_may_be_given_again(self) -> None:
        first = Options(
            protocols=("a",), headers=(("X", "1"),), ssl_pins=(("*", "0" * 64),), phase_timeouts={"dns": 1},
            deflate=Deflate(),
        )
        second = replace(first)
        assert all(getattr(first, each.name) == getattr(second, each.name) for each in fields(Options))

    def test_a_websocket_has_no_options_of_an_app(self) -> None:
        for name in ("threads", "on_handler_error"):
            with pytest.raises(TypeError, match=f"WebSocket: '{name}' is not an option"):
                WebSocket(URL, **{name: None})  # type: ignore[arg-type]


HUGE = [2**63, 10**400]


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("option", ["max_message_size", "max_queue"])
def test_a_size_beyond_what_memory_can_hold_is_refused(option: str, value: int) -> None:
    with expect(ValueError, option, f"from 1 to {sys.maxsize}"):
        WebSocketApp(URL, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["open_timeout", "send_timeout", "phase_timeouts"])
def test_a_time_beyond_every_float_is_refused(option: str) -> None:
    with expect(ValueError, option, "expected 0 seconds or more, or None"):
        value = {"tcp": 10**400} if option == "phase_timeouts" else 10**400
        WebSocketApp(URL, **{option: value})  # type: ignore[arg-type]
    with expect(ValueError, "ping_rate", "expected 0 seconds or more, or None"):
        WebSocketApp(URL).start(ping_rate=10**400)


def test_the_longest_ping_rate_has_a_limit_that_is_a_number() -> None:
    assert Timing(ping_rate=sys.float_info.max).ping_limit == sys.float_info.max


@pytest.mark.parametrize(
    ("option", "value", "error", "shown"),
    [
        ("source_address", ("127.0.0.1", 65536), ValueError, "from 0 to 65535"),
        ("source_address", ("127.0.0.1", True), TypeError, "True"),
        ("socket_options", [(1, 2, 2**32)], ValueError, "does not fit into 32 bits"),
        ("socket_options", 5, TypeError, "a list of (level, option, value)"),
        ("require_protocol", "yes", TypeError, "'yes'"),
        ("encoder", 5, TypeError, "such as json.dumps"),
    ],
)
def test_other_wrong_values_are_refused(option: str, value: Any, error: type[Exception], shown: str) -> None:
    with expect(error, option, shown):
        WebSocketApp(URL, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", ["5", True, NAN, [1]])
@pytest.mark.parametrize("method", ["stop", "join", "wait_ready", "wait_closed"])
def test_a_wrong_timeout_is_refused_before_anything_happens(method: str, timeout: Any) -> None:
    app = WebSocketApp(URL)
    with pytest.raises((TypeError, ValueError), match=f"{method}: timeout="):
        getattr(app, method)(timeout)
    assert not app.close_called.is_set()


@pytest.mark.parametrize("total", [{}, {"total": False}], ids=["required", "optional"])
def test_users_may_declare_options_of_their_own_besides_ours(total: dict[str, bool]) -> None:
    own = type(WebSocketOptions)("Own", (WebSocketOptions,), {"__annotations__": {"mine": "int"}}, **total)
    assert set(own.__annotations__) == {*WebSocketOptions.__annotations__, "mine"}
    assert own(mine=1) == {"mine": 1}
