"""Every known failure of an opening, and how it is reported: the source of docs/failures.md.

`python -m tests.support.failures` writes that page; the tests hold each row to what really happens.
"""

from __future__ import annotations

import datetime as dt
import gzip
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme

from lochws.transport import tcp

from .hang import Hang
from .peer import Link, StartPeer
from .ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"

#: A URL and options that lead into a failure.
Way: TypeAlias = tuple[str, dict[str, Any]]


class Scene:
    """The means to set up failures: servers, proxies, certificates, places to hang."""

    def __init__(
        self, start_peer: StartPeer, authority: trustme.CA, ca_file: str, hang: Hang,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.start_peer = start_peer
        self.authority = authority
        self.trust = {"ssl_cafile": ca_file}
        self.hang = hang
        self.monkeypatch = monkeypatch

    def answer(self, head: str, body: str = "") -> Way:
        """Start a server with this answer."""
        data = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        peer = self.start_peer(lambda link: (link.read_request(), link.send(data), link.wait_for_end()))
        return peer.url, {}

    def bytes(self, data: bytes) -> Way:
        """Start a server that sends these bytes."""
        peer = self.start_peer(lambda link: (link.read_request(), link.send(data), link.wait_for_end()))
        return peer.url, {}

    def proxy(self, answer: str) -> Way:
        """Start a proxy with this answer."""
        url, _ = self.answer(answer)
        return "ws://server.example/", {"proxies": {"http": url.replace("ws:", "http:")}}

    def certificate(self, *names: str, **times: dt.datetime) -> Way:
        """Start a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names, **times).configure_cert(context)
        return self.start_peer(Link.accept, tls=context).url, self.trust


@dataclass(frozen=True)
class Case:
    """One failure.

    Attributes:
        what: what happens, for people.
        lead: sets it up, and returns how to run into it.
        events: the names of the events after Connecting and Connected.
        phase, reason, advice: what the first of them that has these attributes says. In the reason,
            ``ADDRESS`` stands for the address and ``PORT`` for its port.
    """

    what: str
    lead: Callable[[Scene], Way]
    events: tuple[str, ...]
    phase: str
    reason: str
    advice: str

    @property
    def name(self) -> str:
        """The case as part of a test's name."""
        return self.what.replace(" ", "_").replace("`", "")


_FAIL = ("connect_fail",)
_REJECTED = ("rejected", "disconnected")
_LOST = ("disconnected",)
_WRONG = ("protocol_error", "disconnected")
_GATEWAY = "Check that the server behind the gateway is running, and that the gateway forwards Upgrade."
_NO_FORWARD = (
    "Configure the reverse proxy in front of the server to forward the Upgrade and Connection headers: "
    "the server did not receive them."
)
_WITH_HTTP_1_1 = (
    "Configure the reverse proxy in front of the server to use HTTP/1.1, and forward the Upgrade and "
    "Connection headers."
)
_OR_TRY_WSS = "Try wss:// if this port expects TLS, or check that a WebSocket server is running there."
_TRY_WSS = "Try wss:// instead of ws://: this port expects TLS."
_UNTRUSTED = "If you trust the authority that issued the certificate, pass its own certificate as ssl_cafile."
_NOT_ACCEPTED = "unable to connect; the certificate of '127.0.0.1' was not accepted"
_HALF = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n"
_NO_SERVER = "Check the host and port, and that a WebSocket server is running there."


def _unknown_host(scene: Scene) -> Way:
    def fail(*_: object, **__: object) -> list[tcp.AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    scene.monkeypatch.setattr(socket, "getaddrinfo", fail)
    return "ws://no.such.host/", {}


def _refused(_: Scene) -> Way:
    return f"ws://127.0.0.1:{free_port()}/", {}


def _expired(scene: Scene) -> Way:
    now = dt.datetime.now(dt.timezone.utc)
    day = dt.timedelta(days=1)
    return scene.certificate("127.0.0.1", not_before=now - 2 * day, not_after=now - day)


def _self_signed(scene: Scene) -> Way:
    root = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    both = trustme.Blob(root.private_key_pem.bytes() + root.cert_pem.bytes())
    with both.tempfile() as pem:
        context.load_cert_chain(pem)
    return scene.start_peer(Link.accept, tls=context).url, scene.trust


def _unknown_authority(scene: Scene) -> Way:
    url, _ = scene.certificate("127.0.0.1")
    return url, {}


def _plain_http(scene: Scene) -> Way:
    peer = scene.start_peer(lambda link: (link.read(1), link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    return f"wss://{peer.authority}/", {}


def _pinned(scene: Scene) -> Way:
    url, options = scene.certificate("127.0.0.1")
    return url, {**options, "ssl_pins": (("127.0.0.1", "0" * 64),)}


def _proxy_refused(scene: Scene) -> Way:
    url, _ = _refused(scene)
    return "ws://server.example/", {"proxies": {"http": url.replace("ws:", "http:")}}


def _proxy_unknown(scene: Scene) -> Way:
    _unknown_host(scene)
    return "ws://server.example/", {"proxies": {"http": "http://no.such.host:3128"}}


def _redirect_to_itself(scene: Scene) -> Way:
    return scene.answer("302 Found\r\nLocation: /")


def _redirect_to_plain(scene: Scene) -> Way:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    scene.authority.issue_cert("127.0.0.1").configure_cert(context)
    data = b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    peer = scene.start_peer(
        lambda link: (link.read_request(), link.send(data), link.wait_for_end()), tls=context
    )
    return peer.url, scene.trust


def _tls_port(scene: Scene) -> Way:
    """Start a TLS server: plain text ends the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    scene.authority.issue_cert("127.0.0.1").configure_cert(context)
    peer = scene.start_peer(Link.accept, tls=context)
    return f"ws://{peer.authority}/", {}


def _closed_to_tls(scene: Scene) -> Way:
    peer = scene.start_peer(lambda link: (link.read(1), link.finish(), link.wait_for_end()))
    return f"wss://{peer.authority}/", {}


def _http_2(scene: Scene) -> Way:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    scene.authority.issue_cert("127.0.0.1").configure_cert(server)
    scene.authority.configure_trust(client)
    for context in (server, client):
        context.set_alpn_protocols(["h2", "http/1.1"])
    return scene.start_peer(Link.wait_for_end, tls=server).url, {"ssl_context": client}


def _behind(proxy: str, status: str, body: str, kind: str = "text/plain") -> Callable[[Scene], Way]:
    """A server's answer as it arrives through a reverse proxy that did not forward Upgrade."""
    def lead(scene: Scene) -> Way:
        return scene.answer(f"{status}\r\nServer: {proxy}\r\nContent-Type: {kind}", body)

    return lead


def _gzipped(scene: Scene) -> Way:
    body = gzip.compress("caf\xe9: quota used up".encode("latin-1"))
    head = (
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return scene.bytes(head.encode() + body)


def _wrong_accept(scene: Scene) -> Way:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return scene.bytes(head + b"Sec-WebSocket-Accept: bm90IHRoaXMgb25lIGF0IGFsbA==\r\n\r\n")


def _silent(phase: str) -> Callable[[Scene], Way]:
    def lead(scene: Scene) -> Way:
        url, options = getattr(scene.hang, phase)()
        return url, {**options, "open_timeout": 0.2}

    return lead


def _status(code: int, phrase: str, advice: str) -> Case:
    def lead(scene: Scene) -> Way:
        return scene.answer(f"{code} {phrase}", "in my own words")

    reason = f"upgrade refused: {code} {phrase}: in my own words"
    return Case(f"the server answers {code}", lead, _REJECTED, "upgrade", reason, advice)


CASES = [
    Case(
        "unknown host", _unknown_host, _FAIL, "resolve",
        "unable to connect; cannot resolve 'no.such.host': Name or service not known",
        "Check the spelling of the host, and this machine's DNS.",
    ),
    Case(
        "refused", _refused, _FAIL, "tcp", "unable to connect; ADDRESS: Connection refused",
        "Check the host and port, and that the server is running: nothing listens there.",
    ),
    Case(
        "certificate expired", _expired, _FAIL, "tls",
        f"{_NOT_ACCEPTED}: it has expired",
        "Renew the server's certificate, or check this machine's clock.",
    ),
    Case(
        "certificate of another host", lambda scene: scene.certificate("other.example"), _FAIL, "tls",
        f"{_NOT_ACCEPTED}: it is for another address",
        "Use a name or address that the certificate is valid for, in the URL or as server_hostname.",
    ),
    Case(
        "certificate self-signed", _self_signed, _FAIL, "tls",
        f"{_NOT_ACCEPTED}: it is self-signed", _UNTRUSTED,
    ),
    Case(
        "certificate of an unknown authority", _unknown_authority, _FAIL, "tls",
        f"{_NOT_ACCEPTED}: it comes from an unknown authority",
        _UNTRUSTED,
    ),
    Case(
        "certificate not the pinned one", _pinned, _FAIL, "tls",
        "unable to connect; the certificate of '127.0.0.1' is not among those pinned: its SHA-256 is DIGEST",
        "If the server has a new certificate for a good reason, add its SHA-256 to ssl_pins.",
    ),
    Case(
        "plain HTTP answered to TLS", _plain_http, _FAIL, "tls",
        "unable to connect; the server does not speak TLS on this port",
        "Try ws:// instead of wss://, or check the port: the server does not speak TLS there.",
    ),
    Case(
        "the proxy refuses the connection", _proxy_refused, _FAIL, "proxy",
        "unable to connect to proxy; ADDRESS: Connection refused",
        "Check the proxy's host and port, and that it is running: nothing listens there.",
    ),
    Case(
        "unknown host of the proxy", _proxy_unknown, _FAIL, "proxy",
        "unable to connect to proxy; cannot resolve 'no.such.host': Name or service not known",
        "Check the spelling of the proxy's host, and this machine's DNS.",
    ),
    Case(
        "the proxy answers 403", lambda scene: scene.proxy("403 Forbidden"), _FAIL, "proxy",
        "proxy fail; 403 Forbidden",
        "Ask the proxy's administrator to allow this host and port, or exempt the host with no_proxy.",
    ),
    Case(
        "the proxy answers 407", lambda scene: scene.proxy("407 Proxy Authentication Required"), _FAIL,
        "proxy", "proxy fail; 407 Proxy Authentication Required",
        "Put the proxy's user name and password in its URL: http://user:password@host:port.",
    ),
    Case(
        "the proxy answers 502", lambda scene: scene.proxy("502 Bad Gateway"), _FAIL, "proxy",
        "proxy fail; 502 Bad Gateway",
        "Check the host and port of the URL, or try again later: the proxy could not reach the server.",
    ),
    _status(200, "OK", "Check the host and path: that server speaks HTTP but not WebSocket."),
    _status(
        400, "Bad Request",
        "Check the path and the headers: the server did not accept the request.",
    ),
    _status(
        401, "Unauthorized",
        "Pass credentials: auth=(user, password), user:password@ in the URL, or an Authorization header.",
    ),
    _status(
        403, "Forbidden",
        "Check credentials, origin and path: Starlette and FastAPI also answer 403 to a wrong path.",
    ),
    _status(404, "Not Found", "Check the path of the URL: there is no WebSocket at this one."),
    _status(
        407, "Proxy Authentication Required",
        "A proxy on the way wants credentials: pass its URL, with user and password, as proxies.",
    ),
    _status(
        429, "Too Many Requests",
        "Wait before the next attempt, at least for as long as Retry-After says, as a Backoff does.",
    ),
    _status(502, "Bad Gateway", _GATEWAY),
    _status(
        503, "Service Unavailable",
        "Try again later, as a Backoff does: the server is overloaded or down.",
    ),
    *(
        Case(
            f"nginx does not forward Upgrade and {server} answers {status.split()[0]}",
            _behind("nginx/1.26.0", status, body, kind), _REJECTED, "upgrade",
            f"upgrade refused: {status}{words}", advice,
        )
        for server, status, body, kind, words, advice in [
            ("aiohttp", "400 Bad Request", "No WebSocket UPGRADE hdr: None\n Can only", "text/plain",
             ": No WebSocket UPGRADE hdr: None Can only", _NO_FORWARD),
            ("tornado", "400 Bad Request", 'Can "Upgrade" only to "WebSocket".', "text/html",
             ': Can "Upgrade" only to "WebSocket".', _NO_FORWARD),
            ("Socket.IO", "400 Bad Request", '{"code":3,"message":"Bad request"}', "application/json",
             ': {"code":3,"message":"Bad request"}', _NO_FORWARD),
            ("ws of Node", "426 Upgrade Required", "Upgrade Required", "text/plain", "", _NO_FORWARD),
            ("websockets", "505 HTTP Version Not Supported", "unsupported version: HTTP/1.0.", "text/plain",
             ": unsupported version: HTTP/1.0.", _WITH_HTTP_1_1),
            ("uvicorn", "404 Not Found", "Not Found", "text/plain", "",
             "Check the path of the URL, and whether nginx forwards the Upgrade and Connection headers."),
            ("daphne", "500 Internal Server Error", "<h1>Server Error (500)</h1>", "text/html",
             ": Server Error (500)",
             "Check the server's log, and whether nginx forwards the Upgrade and Connection headers."),
        ]
    ),
    Case(
        "the server wants another version", lambda scene: scene.answer(
            "426 Upgrade Required\r\nSec-WebSocket-Version: 8, 7"
        ), _REJECTED, "upgrade", "upgrade refused: 426 Upgrade Required",
        "Use another client: this server speaks WebSocket version 8, 7, not 13.",
    ),
    Case(
        "a refusal in gzip", _gzipped, _REJECTED, "upgrade",
        "upgrade refused: 429 Too Many Requests: caf\xe9: quota used up",
        "Wait before the next attempt, at least for as long as Retry-After says, as a Backoff does.",
    ),
    Case(
        "`ws://` to a TLS port that hangs up", _tls_port, _LOST, "upgrade",
        "connection lost: reset by the server", _OR_TRY_WSS,
    ),
    Case(
        "`ws://` to a TLS port that answers with an alert",
        lambda scene: scene.bytes(b"\x15\x03\x03\0\2\2\x46"), _WRONG, "upgrade",
        "the server speaks TLS on this port", _TRY_WSS,
    ),
    Case(
        "`ws://` to the TLS port of nginx",
        _behind("nginx", "400 Bad Request",
                "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"),
        _REJECTED, "upgrade",
        "upgrade refused: 400 Bad Request: 400 The plain HTTP request was sent to HTTPS port", _TRY_WSS,
    ),
    Case(
        "`wss://` to a plain port that hangs up", _closed_to_tls, _FAIL, "tls",
        "unable to connect; the server ended the connection during the TLS handshake",
        "Try ws:// if this port is not for TLS, or pass a certificate if the server requires one.",
    ),
    Case(
        "HTTP/2 chosen through ALPN", _http_2, _FAIL, "tls",
        "unable to connect; the server chose 'h2' through ALPN, and WebSocket needs HTTP/1.1",
        "Offer http/1.1 alone in the ssl_context: set_alpn_protocols(['http/1.1']).",
    ),
    Case(
        "HTTP/2 without ALPN", lambda scene: scene.bytes(b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80"), _WRONG,
        "upgrade", "the server speaks HTTP/2 on this port",
        "Ask for another port or path: WebSocket needs HTTP/1.1 here.",
    ),
    Case(
        "redirect loop", _redirect_to_itself, _REJECTED, "upgrade",
        "redirect not followed: 10 were already followed",
        "Use the final URL directly; the Location header shows it.",
    ),
    Case(
        "redirect from wss to ws", _redirect_to_plain, _REJECTED, "upgrade",
        "redirect not followed: it leads from wss to ws",
        "Use the final URL directly; the Location header shows it.",
    ),
    Case(
        "a banner that is not HTTP", lambda scene: scene.bytes(b"SSH-2.0-OpenSSH_9.6\r\n"), _WRONG, "upgrade",
        r"not an HTTP response: it begins with b'SSH-2.0-OpenSSH_9.6\r\n'", _NO_SERVER,
    ),
    Case(
        "endless headers", lambda scene: scene.bytes(b"HTTP/1.1 200 OK\r\n" + b"X-Endless: 1\r\n" * 2000),
        _WRONG, "upgrade", "response head is over 16 KiB", _NO_SERVER,
    ),
    Case(
        "an upgrade that does not prove the key", _wrong_accept, _REJECTED, "upgrade",
        "Sec-WebSocket-Accept challenge failed",
        "Ask the operator of the server, or of a proxy in front of it: its upgrade breaks RFC 6455.",
    ),
    Case(
        "none of the required subprotocols is agreed",
        lambda scene: (
            scene.start_peer(Link.accept).url, {"protocols": ("chat", "news"), "require_protocol": True}
        ),
        _REJECTED, "upgrade", "the server agreed to no subprotocol (offered: 'chat', 'news')",
        "Check the path and the names in protocols, or leave out require_protocol.",
    ),
    Case(
        "the server resets the connection",
        lambda scene: (scene.start_peer(lambda link: (link.read_request(), link.reset())).url, {}), _LOST,
        "upgrade", "connection lost: reset by the server", _OR_TRY_WSS,
    ),
    Case(
        "the server ends the connection", lambda scene: (scene.start_peer(Link.read_request).url, {}), _LOST,
        "upgrade", "connection lost: ended by the server", _OR_TRY_WSS,
    ),
    Case(
        "the answer stops half-way", lambda scene: (*scene.bytes(_HALF)[:1], {"open_timeout": 0.5}), _LOST,
        "upgrade", f"unfinished answer, beginning with {_HALF!r}: timed out after 0.5 s",
        "Ask the operator of the server, or of a proxy in front of it: its answer was cut short.",
    ),
    Case(
        "timed out in resolve", _silent("resolve"), _FAIL, "resolve",
        "unable to connect; cannot resolve 'slow.host': timed out after 0.2 s",
        "Check this machine's DNS: it did not answer in time.",
    ),
    Case(
        "timed out in tcp", _silent("tcp"), _FAIL, "tcp",
        "unable to connect; ADDRESS: timed out after 0.2 s",
        "Check that the host is up, and that no firewall drops the packets to it.",
    ),
    Case(
        "timed out in proxy", _silent("proxy"), _FAIL, "proxy",
        "proxy fail; no answer to CONNECT: timed out after 0.2 s",
        "Check that the proxy is up, and that it is a proxy of that kind: it did not answer in time.",
    ),
    Case(
        "timed out in tls", _silent("tls"), _FAIL, "tls",
        "unable to connect; the TLS handshake failed: timed out after 0.2 s",
        "Check the port, or try ws:// if it is not for TLS: the server did not answer the TLS handshake.",
    ),
    Case(
        "timed out in upgrade", _silent("upgrade"), _LOST, "upgrade",
        "no answer to the upgrade request: timed out after 0.2 s",
        "Check the port, the scheme, and that proxies forward Upgrade: the server did not answer.",
    ),
]

_HEAD = """\
# When a connection cannot be opened

How each failure is reported, and what the advice of its event says. `python -m tests.support.failures`
writes this page; `tests/opening/test_failures.py` makes each of these failures happen and compares.

All events here also have `address`, `error` (the exception, with its causes chained) and `timings` (seconds
by phase). `ADDRESS` stands for the address on which it happened, as `ip:port`; `DIGEST` for 64 hexadecimal
digits. A time limit says how long it was: here `open_timeout` was 0.2 or 0.5 seconds.

A refusal is reported once: `rejected` has the server's answer in `response`, with the beginning of its body,
and the `disconnected` that follows has the same reason. The reason ends with the server's own words, where
the body has some. A `connect_fail` for a refusal by a proxy has the proxy's answer in `response`.

| what happens | events | phase | reason | advice |
|---|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    rows = []
    for case in CASES:
        names = ", ".join(f"`{name}`" for name in case.events)
        rows.append((case.what, names, case.phase, f"`{case.reason}`", case.advice))
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
