"""The proxies of the drop-in for websocket-client: its arguments and the environment, with real proxies."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from lochws.compat import websocket

from ..support.seen import PATIENCE
from .conftest import PASSWORD, PLAIN_PASSWORD, USER, StartProxy

CASES = [
    ("http", "tinyproxy", "none"), ("http", "tinyproxy", "Basic"), ("http", "squid", "Digest"),
    ("socks4", "dante", "none"), ("socks4a", "OpenSSH", "none"), ("socks5", "dante", "none"),
    ("socks5", "microsocks", "password"), ("socks5h", "microsocks", "password"),
]


def arguments(authority: str, kind: str, program: str, authentication: str, **more: Any) -> dict[str, Any]:
    """Return the arguments of `create_connection` for a proxy."""
    host, _, port = authority.rpartition(":")
    password = PLAIN_PASSWORD if program == "tinyproxy" else PASSWORD
    return {
        "http_proxy_host": host, "http_proxy_port": port, "proxy_type": kind, "timeout": PATIENCE,
        "http_proxy_auth": None if authentication == "none" else (USER, password), **more,
    }


def check_echo(ws: websocket.WebSocket) -> None:
    """Exchange messages with an echo server, and close the connection."""
    with closing(ws):
        for message in ("hello", "\N{GREEK SMALL LETTER PI}" * 40_000, ""):
            ws.send(message)
            assert ws.recv_data() == (websocket.ABNF.OPCODE_TEXT, message.encode())


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize(("kind", "program", "authentication"), CASES)
def test_messages_pass_through_a_proxy(
    kind: str, program: str, authentication: str, scheme: str, start_proxy: StartProxy,
    echo: dict[str, int], ca_file: str,
) -> None:
    authority = start_proxy(program, kind, authentication)
    options = arguments(authority, kind, program, authentication, sslopt={"ca_certs": ca_file})
    ws = websocket.create_connection(f"{scheme}://localhost:{echo[scheme]}/", **options)
    assert f"127.0.0.1:{ws.sock.getpeername()[1]}" == authority
    check_echo(ws)


def test_an_app_uses_a_proxy(start_proxy: StartProxy, echo: dict[str, int]) -> None:
    peers: list[str] = []

    def on_open(app: websocket.WebSocketApp) -> None:
        host, port = app.sock.sock.getpeername()
        peers.append(f"{host}:{port}")
        app.close()

    authority = start_proxy("tinyproxy", "http", "Basic")
    options = arguments(authority, "http", "tinyproxy", "Basic")
    del options["timeout"]
    app = websocket.WebSocketApp(f"ws://localhost:{echo['ws']}/", on_open=on_open)
    assert app.run_forever(**options, http_proxy_timeout=PATIENCE) is False
    assert peers == [authority]


@pytest.mark.parametrize("exemptions", ["argument", "environment"])
def test_exempt_hosts_are_reached_without_the_proxy(
    exemptions: str, echo: dict[str, int], nobody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {}
    if exemptions == "argument":
        more["http_no_proxy"] = ["localhost"]
    else:
        monkeypatch.setenv("no_proxy", "localhost")
    options = arguments(f"127.0.0.1:{nobody}", "http", "", "none", **more)
    check_echo(websocket.create_connection(f"ws://localhost:{echo['ws']}/", **options))


def test_the_proxy_of_the_environment_is_used(
    start_proxy: StartProxy, echo: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = start_proxy("tinyproxy", "http", "Basic")
    monkeypatch.setenv("http_proxy", f"http://{USER}:{PLAIN_PASSWORD}@{authority}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    ws = websocket.create_connection(f"ws://localhost:{echo['ws']}/", timeout=PATIENCE)
    assert f"127.0.0.1:{ws.sock.getpeername()[1]}" == authority
    check_echo(ws)
    host, _, port = authority.rpartition(":")
    credentials = (USER, PLAIN_PASSWORD)
    assert websocket._url.get_proxy_info("localhost", False) == (host, int(port), credentials)
    assert websocket._url.get_proxy_info("localhost", False, no_proxy=["localhost"]) == (None, 0, None)


@pytest.mark.parametrize(("kind", "program", "authentication"), [CASES[1], CASES[6]])
def test_a_wrong_password_is_an_exception_of_the_proxy(
    kind: str, program: str, authentication: str, start_proxy: StartProxy, echo: dict[str, int]
) -> None:
    authority = start_proxy(program, kind, authentication)
    options = arguments(authority, kind, program, authentication)
    options["http_proxy_auth"] = (USER, "wr0ng")
    with pytest.raises(websocket.WebSocketProxyException) as info:
        websocket.create_connection(f"ws://localhost:{echo['ws']}/", **options)
    assert "wr0ng" not in str(info.value)


def test_a_proxy_that_is_not_there_is_an_exception(echo: dict[str, int], nobody: int) -> None:
    options = arguments(f"127.0.0.1:{nobody}", "http", "", "none")
    with pytest.raises((websocket.WebSocketProxyException, ConnectionRefusedError)):
        websocket.create_connection(f"ws://localhost:{echo['ws']}/", **options)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_needs_a_port(kind: str) -> None:
    with pytest.raises(websocket.WebSocketProxyException, match="needs http_proxy_port"):
        websocket.create_connection("ws://localhost/", http_proxy_host="127.0.0.1", proxy_type=kind)


def test_an_unknown_kind_of_proxy_is_refused() -> None:
    with pytest.raises(ValueError, match="proxy_type='ftp'"):
        websocket.create_connection(
            "ws://localhost/", http_proxy_host="127.0.0.1", http_proxy_port=1, proxy_type="ftp"
        )
