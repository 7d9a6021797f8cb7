"""Parameters of TLS: available during a connection, and only for TLS that ends at the server."""

from __future__ import annotations

import ssl
import threading
from typing import Any

import pytest

from lochws import WebSocket, WebSocketApp, events
from lochws.transport.stream import TLS

from ..support.apps import echo, opened
from ..support.peer import TEXT, Link, StartPeer
from ..support.seen import PATIENCE


def seen_at_ready(url: str, **options: Any) -> TLS | None:
    """Return `tls` as it is when Ready is handled."""
    websocket = WebSocket(url, **options)
    seen: list[TLS | None] = []
    for event in websocket.connect(poll=None):
        if isinstance(event, events.Ready):
            seen.append(websocket.tls)
            websocket.force_disconnect()
    assert websocket.tls is None
    [tls] = seen
    return tls


def tunnel(link: Link) -> None:
    """A script: a proxy that also acts as the server."""
    link.read_request()
    link.send(b"HTTP/1.1 200 OK\r\n\r\n")


def test_protocol_cipher_and_certificate_are_told_while_there_is_a_connection(
    start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    peer = start_peer(echo, tls=server_tls)
    app = WebSocketApp(peer.url, ssl_cafile=ca_file)
    assert app.tls is None
    with opened(app):
        tls = app.tls
        assert tls is not None
        assert tls.version in ("TLSv1.2", "TLSv1.3")
        assert tls.cipher.startswith(("TLS_", "ECDHE"))
        assert ("IP Address", "127.0.0.1") in tls.certificate["subjectAltName"]
        assert ssl.DER_cert_to_PEM_cert(tls.der) == ssl.get_server_certificate((peer.host, peer.port))
    assert app.tls is None


def test_it_is_told_when_openssl_would_tell_no_more(
    start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    """As after an end without close_notify, while earlier messages are being handled."""
    def script(link: Link) -> None:
        link.accept()
        assert is_ready.wait(PATIENCE)
        link.send_frame(TEXT, b"x")
        link.finish()
        has_ended.set()

    is_ready, has_ended = threading.Event(), threading.Event()
    websocket = WebSocket(start_peer(script, tls=server_tls).url, ssl_cafile=ca_file)
    seen: list[TLS | None] = []
    for event in websocket.connect(poll=None):
        if isinstance(event, events.Ready):
            seen.append(websocket.tls)
            is_ready.set()
            assert has_ended.wait(PATIENCE)
        elif isinstance(event, events.Text):
            seen.append(websocket.tls)
    assert seen[0] is not None
    assert seen == [seen[0]] * 2


def test_its_repr_is_fit_for_logs(start_peer: StartPeer, server_tls: ssl.SSLContext) -> None:
    tls = seen_at_ready(start_peer(echo, tls=server_tls).url, ssl_verify=False)
    assert tls is not None
    assert repr(tls) == f"TLS(version={tls.version!r}, cipher={tls.cipher!r}, …)"


def test_a_certificate_that_was_not_verified_is_told_as_bytes_alone(
    start_peer: StartPeer, server_tls: ssl.SSLContext
) -> None:
    tls = seen_at_ready(start_peer(echo, tls=server_tls).url, ssl_verify=False)
    assert tls is not None
    assert tls.certificate == {}
    assert tls.der


def test_without_tls_there_is_nothing_to_tell(start_peer: StartPeer) -> None:
    assert seen_at_ready(start_peer(echo).url) is None


@pytest.mark.parametrize("kind", ["http", "https"])
def test_what_was_agreed_with_a_proxy_is_not_told(
    start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, kind: str
) -> None:
    tls = server_tls if kind == "https" else None
    proxy = start_peer(lambda link: (tunnel(link), echo(link)), tls=tls)
    proxies = f"{kind}://{proxy.authority}"
    assert seen_at_ready("ws://localhost/", proxies=proxies, ssl_cafile=ca_file) is None


def test_behind_a_proxy_it_is_the_servers(
    start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    proxy = start_peer(lambda link: (tunnel(link), link.start_tls(server_tls), echo(link)))
    tls = seen_at_ready("wss://localhost/", proxies=f"http://{proxy.authority}", ssl_cafile=ca_file)
    assert tls is not None
    assert ("DNS", "localhost") in tls.certificate["subjectAltName"]
