"""diagnose(): the findings of an app about its server, and that the app itself is not affected."""

from __future__ import annotations

import signal
import socket
import ssl
from typing import Any

import pytest

from lochws import Counters, WebSocket, WebSocketApp, events
from lochws import testing as t
from lochws.diagnosis import Finding, Verdict
from lochws.errors import WebSocketError
from lochws.testing import StartServer

from ..support.apps import opened
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, Noting


def steps(findings: list[Finding]) -> dict[str, Finding]:
    """Return the last finding of each step."""
    return {finding.phase: finding for finding in findings}


@pytest.mark.parametrize("tls", [False, True])
def test_a_good_server_has_no_problems(ws_server: StartServer, tls: bool) -> None:
    server = ws_server([t.accept(protocol="chat", deflate=True)], tls=tls)
    url = server.url.replace("127.0.0.1", "localhost")
    app = WebSocketApp(url, protocols=["chat"], compress=True, ssl_cafile=ws_server.ca_file)
    found = steps(app.diagnose(PATIENCE))
    assert {one.verdict for one in found.values()} <= {Verdict.OK, Verdict.NOTE}
    assert set(found) >= {"name", "IPv4", "connect", "upgrade", "latency", "close"}
    assert ("certificate" in found) == ("TLS" in found) == tls
    assert found["subprotocol"].result == "chat"
    assert found["extensions"].result == "permessage-deflate"


def test_the_app_goes_on_meanwhile_and_notices_nothing(ws_server: StartServer) -> None:
    server = ws_server()
    app = Noting(server.url, headers={"X-Key": "1"}, auth=("me", "pw"))
    app.add_header("X-Later", "2")
    with opened(app, ping_rate=0, poll=0):
        before, seen = app.counters, app.names()
        assert steps(app.diagnose(PATIENCE))["close"].verdict is Verdict.OK
        assert (app.counters, app.names()) == (before, seen)
        assert app.is_active
    first, second = (server.connections[number].requests[0].headers for number in (0, 1))
    for name in ("x-key", "x-later", "authorization"):
        assert second[name] == first[name]


def test_a_refusal_has_its_advice(ws_server: StartServer) -> None:
    server = ws_server([t.upgrade(status=401)])
    app = WebSocketApp(server.url)
    app.run_forever(persist=False)
    upgrade = steps(app.diagnose(PATIENCE))["upgrade"]
    assert upgrade.verdict is Verdict.FAILED
    assert upgrade.result.startswith("401 ")
    assert upgrade.advice.startswith("Pass credentials: auth=(user, password)")
    assert isinstance(app.last_end, events.Disconnected)


def test_no_finding_shows_a_token_in_the_url_or_in_that_of_a_redirect(ws_server: StartServer) -> None:
    moved = t.upgrade(status=302, headers={"Location": "/new?token=secret"})
    server = ws_server([moved], [t.accept()])
    found = WebSocketApp(f"{server.url}?token=secret").diagnose(PATIENCE)
    assert [one.result.partition("?")[2] for one in found if one.phase in ("connect", "redirect")] == [
        "token=…"
    ] * 3
    assert "secret" not in repr(found)


def test_a_port_on_which_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (failed,) = WebSocketApp(f"ws://127.0.0.1:{unused.getsockname()[1]}").diagnose(PATIENCE)
    assert (failed.phase, failed.verdict) == ("IPv4", Verdict.FAILED)
    assert "no process is listening there" in failed.result
    assert failed.advice.startswith("Check the host and port")


def test_a_url_that_a_function_returns_is_examined(ws_server: StartServer) -> None:
    server = ws_server()
    assert "IPv4" in steps(WebSocketApp(lambda: server.url).diagnose(PATIENCE))

    def fail() -> str:
        raise LookupError("no such service")

    (failed,) = WebSocketApp(fail).diagnose(PATIENCE)
    assert failed.verdict is Verdict.FAILED
    assert "no such service" in failed.result


def test_sockets_that_the_user_makes_are_not_examined_by_address(ws_server: StartServer) -> None:
    server = ws_server()

    def connect(host: str, port: int) -> socket.socket:
        return socket.create_connection((server.host, server.port))

    found = steps(WebSocketApp("ws://no.such.host.invalid", connect=connect).diagnose(PATIENCE))
    assert found["upgrade"].verdict is Verdict.OK
    assert "name" not in found


def test_a_server_that_wants_a_client_certificate_gets_it(
    ws_server: StartServer, authority: Any, ca_file: str, tmp_path: Any
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    issued = authority.issue_cert("client@example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    server = ws_server(tls=context)
    found = steps(
        WebSocketApp(server.url, ssl_cafile=ca_file, ssl_certfile=tmp_path / "own.pem").diagnose(PATIENCE)
    )
    assert (found["TLS"].verdict, found["latency"].verdict) == (Verdict.OK, Verdict.OK)


def test_a_connected_socket_cannot_be_used_twice() -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(WebSocketError, match="only one connection can use the socket"):
        WebSocketApp("ws://example.invalid", sock=one).diagnose()


@pytest.mark.parametrize(
    ("timeout", "error"), [(0, ValueError), (-1, ValueError), ("5", TypeError), (True, TypeError)]
)
def test_a_wrong_timeout_is_refused(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="diagnose: timeout="):
        WebSocketApp("ws://example.invalid").diagnose(timeout)


class TestWhereItIsRefused:
    def test_in_a_handler_of_any_app(self, ws_server: StartServer) -> None:
        app, other, refused = Noting(ws_server().url), WebSocketApp("ws://example.invalid"), []

        @app.on("ready")
        def ready(_: events.Ready) -> None:
            for one in (app, other):
                with pytest.raises(WebSocketError, match="do not call it in a handler or other callback"):
                    one.diagnose()
                refused.append(one)

        with opened(app):
            assert refused == [app, other]

    def test_in_a_function_given_as_an_option(self, start_peer: StartPeer) -> None:
        refused = []

        def trace(_: dict[str, Any]) -> None:
            if not refused:
                with pytest.raises(WebSocketError, match="do not call it in a handler or other callback"):
                    WebSocketApp("ws://example.invalid").diagnose()
                refused.append(True)

        list(WebSocket(start_peer(lambda link: link.accept()).url, trace=trace))
        assert refused

    @pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")
    def test_in_a_signal_handler_that_interrupts_a_wait(self, ws_server: StartServer) -> None:
        app, refused = Noting(ws_server().url), []

        def interrupt(*_: object) -> None:
            with pytest.raises(WebSocketError, match="do not call it in a handler or other callback"):
                app.diagnose()
            refused.append(True)
            app.close()

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            app.on("ready")(lambda _: signal.raise_signal(signal.SIGUSR1))
            app.run_forever(persist=False)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert refused


def test_nothing_of_it_changes_a_fresh_app(ws_server: StartServer) -> None:
    app = WebSocketApp(ws_server().url)
    app.diagnose(PATIENCE)
    assert app.counters == Counters()
    assert app.last_end is None
    assert app.state.value == "new"
