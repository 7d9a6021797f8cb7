"""Credentials appear nowhere: not in events, errors, logs, traces, reprs or thread names (contract Q7)."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws import Backoff, WebSocket, WebSocketApp, events

from .support.peer import Link, StartPeer
from .support.scripts import dropping, polite, refusing
from .support.seen import Noting

#: What must not be seen; each of them is given in another place. (Basic authentication encodes two.)
SECRETS = ["url-secret", "auth-secret", "proxy-secret", "header-secret", "added-secret"]
ENCODED = [base64.b64encode(f"me:{secret}".encode()).decode() for secret in SECRETS]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Everything that is shown: the log, and what is passed to the fixture."""
    caplog.set_level(logging.DEBUG)

    def text(*things: Any) -> str:
        return "\n".join([caplog.text, *map(everything, things), *(repr(t) for t in threading.enumerate())])

    return text


def everything(thing: Any) -> str:
    """Return an object as text, with all its attributes and the causes of exceptions."""
    if isinstance(thing, (list, tuple)):
        return "\n".join(map(everything, thing))
    parts = [repr(thing), str(thing)]
    if isinstance(thing, events.Event):
        slots = {slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())}
        parts += [everything(getattr(thing, slot)) for slot in slots if hasattr(thing, slot)]
    cause = thing
    while isinstance(cause, BaseException):
        parts += [repr(cause), repr(cause.args), repr(vars(cause))]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(parts)


def assert_clean(text: str) -> None:
    for secret in (*SECRETS, *ENCODED):
        assert secret not in text, text


SCRIPTS = {
    "answered": polite,
    "dropped": dropping,
    "refused": refusing("401 Unauthorized", "WWW-Authenticate: Basic"),
    "cut": Link.read_request,
    "nonsense": lambda link: (link.read_request(), link.send(b"SSH-2.0\r\n\r\n"), link.wait_for_end()),
}


@pytest.mark.parametrize("server", [*SCRIPTS, "absent"])
@pytest.mark.parametrize("through_proxy", [False, True])
def test_whatever_becomes_of_the_attempt(
    server: str, through_proxy: bool, start_peer: StartPeer, told: Callable[..., str]
) -> None:
    def proxy_script(link: Link) -> None:
        request = link.read_request()
        assert base64.b64encode(b"me:proxy-secret").decode() in request.headers["proxy-authorization"]
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")
        SCRIPTS[server](link)

    if server == "absent":
        host, proxies = "127.0.0.1:1", {"http": "http://me:proxy-secret@127.0.0.1:1"} if through_proxy else {}
    elif through_proxy:
        peer = start_peer(proxy_script)
        host, proxies = "example.invalid", {"http": f"http://me:proxy-secret@{peer.authority}"}
    else:
        host, proxies = start_peer(SCRIPTS[server]).authority, {}

    records: list[Any] = []
    app = Noting(
        f"ws://me:url-secret@{host}/", proxies, trace=records.append,
        headers={"X-Token": "header-secret"},
    )
    app.add_header("X-More", "added-secret")
    app.on("ready")(lambda event: app.close())
    last = app.run_forever(ping_rate=0, persist=Backoff(0, 0, max_attempts=2))
    assert_clean(told(app.events, records, app, app.url, last))
    assert app.names()[-1] in {"disconnected", "connect_fail"}


def test_in_the_debug_log_that_trace_true_writes(start_peer: StartPeer, told: Callable[..., str]) -> None:
    peer = start_peer(polite)
    ws = WebSocket(f"ws://me:url-secret@{peer.authority}/", trace=True)
    for event in ws:
        if event.name == "ready":
            ws.close()
    text = told()
    assert "handshake_ready" in text
    assert_clean(text)


@pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
@pytest.mark.parametrize(
    "options",
    [
        {"auth": ("me:colon", "auth-secret")}, {"auth": "me:auth-secret"}, {"auth": ("me", b"auth-secret")},
        {"headers": {"X-Token": "header-secret\n"}}, {"headers": {"X-Token": ["header-secret"]}},
        {"headers": [("X-Token", "header-secret", "three")]},
        {"headers": [["header-secret"]]},
        {"proxies": {"http": "socks9://me:proxy-secret@host"}}, {"proxies": "socks9://me:proxy-secret@host"},
        {"proxies": {"http": "http://me:proxy-secret@host:port"}},
        {"proxies": {"https": b"http://me:proxy-secret@host"}},
        {"url": "ftp://me:url-secret@host/"}, {"url": "ws://me:url-secret@host/a b"},
        {"url": b"ws://me:url-secret@host/"},
    ],
)
def test_in_what_the_constructor_refuses(kind: type[WebSocket], options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        kind(**{"url": "ws://host/", **options})
    assert_clean(everything(caught.value))


@pytest.mark.parametrize(
    "options",
    [
        {"url": lambda: "ftp://me:url-secret@host/"},
        {"headers": lambda: {"X-Token": "header-secret\r\n"}},
        {"headers": lambda: {"X-Token": b"header-secret"}},
    ],
)
def test_in_what_functions_give(options: dict[str, Any], told: Callable[..., str]) -> None:
    app = Noting(**{"url": "ws://127.0.0.1:1/", **options})
    app.run_forever(persist=False)
    assert app.names() == ["connecting", "connect_fail"]
    assert_clean(told(app.events))
