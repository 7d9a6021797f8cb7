"""Every way that an opening is known to fail, and what the user is told: the source of docs/failures.md.

`python -m tests.support.failures` writes that page; the tests hold each row to what really happens.
"""

from __future__ import annotations

import datetime as dt
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

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"

#: A URL and options that lead into a failure.
Way: TypeAlias = tuple[str, dict[str, Any]]


class Scene:
    """Where failures are set up: servers, certificates, places to hang at."""

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
        """A server that answers so."""
        data = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        peer = self.start_peer(lambda link: (link.read_request(), link.send(data), link.wait_for_end()))
        return peer.url, {}

    def bytes(self, data: bytes) -> Way:
        """A server that says this, whatever it is."""
        peer = self.start_peer(lambda link: (link.read_request(), link.send(data), link.wait_for_end()))
        return peer.url, {}

    def proxy(self, answer: str) -> Way:
        """A proxy that answers so."""
        url, _ = self.answer(answer)
        return "ws://server.example/", {"proxies": {"http": url.replace("ws:", "http:")}}

    def certificate(self, *names: str, **times: dt.datetime) -> Way:
        """A server with such a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names, **times).configure_cert(context)
        return self.start_peer(Link.accept, tls=context).url, self.trust


@dataclass(frozen=True)
class Case:
    """One failure.

    Attributes:
        what: what happens, for people.
        lead: leads into it.
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
        """The case as the name of a test."""
        return self.what.replace(" ", "_").replace("`", "")


_FAIL = ("connect_fail",)
_REJECTED = ("rejected", "disconnected")
_LOST = ("disconnected",)
_WRONG = ("protocol_error", "disconnected")
_GATEWAY = "A gateway did not reach the server behind it: try again later, or ask who runs it."
_UNTRUSTED = "If you trust who issued the certificate, give theirs as ssl_cafile."
_NOT_ACCEPTED = "unable to connect; the certificate of '127.0.0.1' was not accepted"
_HALF = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n"
_NO_SERVER = "Check host and port, and that a WebSocket server runs there."


def _unknown_host(scene: Scene) -> Way:
    def fail(*_: object, **__: object) -> list[tcp.AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    scene.monkeypatch.setattr(socket, "getaddrinfo", fail)
    return "ws://no.such.host/", {}


def _refused(_: Scene) -> Way:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"ws://127.0.0.1:{port}/", {}


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
        return scene.answer(f"{code} {phrase}", "why")

    reason = f"upgrade refused: {code} {phrase}"
    return Case(f"the server answers {code}", lead, _REJECTED, "upgrade", reason, advice)


CASES = [
    Case(
        "unknown host", _unknown_host, _FAIL, "resolve",
        "unable to connect; cannot resolve 'no.such.host': Name or service not known",
        "Check the spelling of the host and this machine's DNS.",
    ),
    Case(
        "refused", _refused, _FAIL, "tcp", "unable to connect; ADDRESS: Connection refused",
        "Check host and port, and that the server runs: nobody listens there.",
    ),
    Case(
        "certificate expired", _expired, _FAIL, "tls",
        f"{_NOT_ACCEPTED}: it has expired",
        "The server needs a new certificate; check this machine's clock, too.",
    ),
    Case(
        "certificate of another host", lambda scene: scene.certificate("other.example"), _FAIL, "tls",
        f"{_NOT_ACCEPTED}: it is for another address",
        "Use a name or address that the certificate is for, in the URL or as server_hostname.",
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
        "unable to connect; the certificate of '127.0.0.1' is none of those pinned: its SHA-256 is DIGEST",
        "If the server has a new certificate for a good reason, put its SHA-256 into ssl_pins.",
    ),
    Case(
        "plain HTTP answered to TLS", _plain_http, _FAIL, "tls",
        "unable to connect; the server does not speak TLS on this port",
        "Check the port, or use ws:// if the server is to be reached without TLS.",
    ),
    Case(
        "the proxy refuses the connection", _proxy_refused, _FAIL, "proxy",
        "unable to connect to proxy; ADDRESS: Connection refused",
        "Check the proxy's host and port, and that it runs: nobody listens there.",
    ),
    Case(
        "unknown host of the proxy", _proxy_unknown, _FAIL, "proxy",
        "unable to connect to proxy; cannot resolve 'no.such.host': Name or service not known",
        "Check the spelling of the proxy's host and this machine's DNS.",
    ),
    Case(
        "the proxy answers 403", lambda scene: scene.proxy("403 Forbidden"), _FAIL, "proxy",
        "proxy fail; 403 Forbidden",
        "The proxy does not allow this host or port: ask who runs it, or exempt the host with no_proxy.",
    ),
    Case(
        "the proxy answers 407", lambda scene: scene.proxy("407 Proxy Authentication Required"), _FAIL,
        "proxy", "proxy fail; 407 Proxy Authentication Required",
        "Give the proxy's user name and password in its URL: http://user:password@host:port.",
    ),
    Case(
        "the proxy answers 502", lambda scene: scene.proxy("502 Bad Gateway"), _FAIL, "proxy",
        "proxy fail; 502 Bad Gateway",
        "The proxy did not reach the server: check host and port of the URL, or try again later.",
    ),
    _status(200, "OK", "Check host and path: what answers there speaks HTTP, but no WebSocket."),
    _status(
        400, "Bad Request",
        "The server did not accept the request: check the path and the headers, or ask who runs it.",
    ),
    _status(
        401, "Unauthorized",
        "Give credentials: auth=(user, password), user:password@ in the URL, or an Authorization header.",
    ),
    _status(
        403, "Forbidden",
        "The server knows what was asked and refuses: check credentials, origin and who may connect.",
    ),
    _status(404, "Not Found", "Check the path of the URL: there is no WebSocket at this one."),
    _status(
        407, "Proxy Authentication Required",
        "Something between here and the server asks for credentials: give its URL as proxies, with them.",
    ),
    _status(
        429, "Too Many Requests",
        "Wait before the next attempt, at least as long as Retry-After says (a Backoff does).",
    ),
    _status(502, "Bad Gateway", _GATEWAY),
    _status(
        503, "Service Unavailable",
        "The server is overloaded or down: try again later (a Backoff honours Retry-After).",
    ),
    Case(
        "redirect loop", _redirect_to_itself, _REJECTED, "upgrade",
        "redirect not followed: 10 were followed already",
        "Give the URL at which the server is to be asked in the end: its Location header leads there.",
    ),
    Case(
        "redirect from wss to ws", _redirect_to_plain, _REJECTED, "upgrade",
        "redirect not followed: it leads from wss to ws",
        "Give the URL at which the server is to be asked in the end: its Location header leads there.",
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
        "The server's upgrade breaks RFC 6455: ask who runs it, or what lies between here and there.",
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
        "upgrade", "connection lost: reset by the server", _NO_SERVER,
    ),
    Case(
        "the server ends the connection", lambda scene: (scene.start_peer(Link.read_request).url, {}), _LOST,
        "upgrade", "connection lost: ended by the server", _NO_SERVER,
    ),
    Case(
        "the answer stops half-way", lambda scene: (*scene.bytes(_HALF)[:1], {"open_timeout": 0.5}), _LOST,
        "upgrade", f"unfinished answer, which begins with {_HALF!r}: timed out after 0.5 s",
        "The server, or a proxy before it, stopped in the middle of its answer: ask who runs it.",
    ),
    Case(
        "timed out in resolve", _silent("resolve"), _FAIL, "resolve",
        "unable to connect; cannot resolve 'slow.host': timed out after 0.2 s",
        "Check this machine's DNS: no answer came in time.",
    ),
    Case(
        "timed out in tcp", _silent("tcp"), _FAIL, "tcp",
        "unable to connect; ADDRESS: timed out after 0.2 s",
        "Check that the host is up and that no firewall drops what is sent to it.",
    ),
    Case(
        "timed out in proxy", _silent("proxy"), _FAIL, "proxy",
        "proxy fail; no answer to CONNECT: timed out after 0.2 s",
        "Check that the proxy is up, and that it is a proxy of that kind: it did not answer in time.",
    ),
    Case(
        "timed out in tls", _silent("tls"), _FAIL, "tls",
        "unable to connect; the TLS handshake failed: timed out after 0.2 s",
        "Check that the port is one for wss: nothing came in answer to the TLS handshake.",
    ),
    Case(
        "timed out in upgrade", _silent("upgrade"), _LOST, "upgrade",
        "no answer to the upgrade request: timed out after 0.2 s",
        "Check that the port is one for this scheme, ws or wss: no answer came to the request.",
    ),
]

_HEAD = """\
# When a connection cannot be opened

What each failure looks like, and what the event says would help. Written by
`python -m tests.support.failures`; `tests/opening/test_failures.py` makes each of these failures happen and
compares.

All events here also have `address`, `error` (the exception, with its causes chained) and `timings` (seconds
by phase). `ADDRESS` stands for the address that it happened on, as `ip:port`; `DIGEST` for 64 hexadecimal
digits. A time limit says how long it was: here `open_timeout` was 0.2 seconds. `rejected` has the server's
answer in `response`, with the beginning of its body; the `disconnected` behind it has the same reason.
A `connect_fail` that comes from a proxy's refusal has the proxy's answer in
`response`.

| what happens | events | phase | reason | advice |
|---|---|---|---|---|
"""


def render() -> str:
    """The page."""
    rows = []
    for case in CASES:
        names = ", ".join(f"`{name}`" for name in case.events)
        rows.append((case.what, names, case.phase, f"`{case.reason}`", case.advice))
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
