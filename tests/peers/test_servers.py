"""Independent servers: behind nginx and haproxy, with and without forwarded upgrades; and Node's ws."""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocket

from ..support.apps import AT_ONCE, opened
from ..support.seen import PATIENCE, Noting
from .test_proxies import talk

TERMINATORS = ("nginx", "haproxy")


@pytest.mark.parametrize("program", TERMINATORS)
def test_messages_pass_where_tls_ends_early(
    program: str, terminator: Callable[[str], int], ca_file: str
) -> None:
    talk(f"wss://localhost:{terminator(program)}/", ssl_cafile=ca_file, compress=True)


@pytest.mark.parametrize("program", TERMINATORS)
def test_a_session_is_resumed_when_connecting_again(
    program: str, terminator: Callable[[str], int], ca_file: str, authority: Any
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    websocket = WebSocket(f"wss://localhost:{terminator(program)}/", ssl_context=context)
    for _ in range(3):
        for event in websocket.connect(close_timeout=PATIENCE):
            if event.name == "ready":
                websocket.close()
    assert context.session_stats()["hits"] >= 1


@pytest.mark.parametrize(("program", "status"), [("nginx", 502), ("haproxy", 503)])
def test_a_dead_server_behind_it_is_a_refusal_with_a_page(
    program: str, status: int, terminator: Callable[[str], int], ca_file: str
) -> None:
    seen = list(WebSocket(f"wss://localhost:{terminator(program)}/dead", ssl_cafile=ca_file))
    rejected: Any = next(event for event in seen if event.name == "rejected")
    assert rejected.response.status_code == status
    assert b"<html>" in rejected.response.body


@pytest.mark.parametrize("program", TERMINATORS)
def test_plain_http_to_their_tls_port_is_a_refusal(program: str, terminator: Callable[[str], int]) -> None:
    *_, last = WebSocket(f"ws://localhost:{terminator(program)}/")
    assert last.name == "disconnected"
    assert last.phase == "upgrade"  # type: ignore[attr-defined]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_messages_pass_to_and_from_nodes_ws(
    scheme: str, compress: bool, node_echo: dict[str, int], ca_file: str
) -> None:
    seen = talk(f"{scheme}://localhost:{node_echo[scheme]}/", ssl_cafile=ca_file, compress=compress)
    ready: Any = next(event for event in seen if event.name == "ready")
    assert ("permessage-deflate" in ready.extensions) == compress


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("server", ["echo", "node_echo"])
def test_streams_arrive_from_servers_of_others(
    scheme: str, compress: bool, server: str, request: pytest.FixtureRequest, ca_file: str
) -> None:
    url = f"{scheme}://localhost:{request.getfixturevalue(server)[scheme]}/"
    text, binary, read = "aé€😀" * 300_000, random.Random(4).randbytes(3_000_000), []
    app = Noting(url, ssl_cafile=ca_file, compress=compress, stream_above=100_000, proxies={})
    app.on("stream")(lambda stream: read.append(stream.read()))
    with opened(app):
        for message in ("before", text, "between", binary, "after"):
            app.send_binary(message) if isinstance(message, bytes) else app.send_text(message)
        app.wait_for("text", 3)
    assert read == [text, binary]
    assert app.names("ping", "pong", "poll")[3:8] == ["text", "stream", "text", "stream", "text"]


@pytest.mark.parametrize("compress", [False, True])
def test_nodes_ws_reads_a_stream_as_one_message(compress: bool, node_echo: dict[str, int]) -> None:
    chunks = [bytes([number]) * 100_000 for number in range(20)]
    with opened(Noting(f"ws://localhost:{node_echo['ws']}/", compress=compress)) as app:
        assert app.send_stream(chunks)
        assert app.send_stream(["grü", "ße".encode()[:1], "ße".encode()[1:]], text=True)
        assert app.wait_for("binary").data == b"".join(chunks)
        assert app.wait_for("text").text == "grüße"


FORWARD = "Configure the reverse proxy in front of the server to .*forward the Upgrade and Connection headers"


@pytest.mark.parametrize("framework", ["aiohttp", "tornado", "websockets", "ws of Node"])
def test_a_proxy_that_does_not_forward_upgrade_is_named_in_the_advice(
    framework: str, unforwarded: Callable[[str], int]
) -> None:
    *_, rejected, last = WebSocket(f"ws://127.0.0.1:{unforwarded(framework)}/", proxies={})
    for event in (rejected, last):
        assert re.match("upgrade refused: (400|426|505) ", event.reason)  # type: ignore[attr-defined]
        assert re.match(FORWARD, event.advice)  # type: ignore[attr-defined]


@pytest.mark.parametrize("program", TERMINATORS)
def test_plain_http_to_their_tls_port_is_advised_to_use_wss(
    program: str, terminator: Callable[[str], int]
) -> None:
    *_, last = WebSocket(f"ws://localhost:{terminator(program)}/", proxies={})
    assert last.advice.startswith("Try wss:// ")  # type: ignore[attr-defined]


def test_tls_to_their_plain_port_is_advised_to_use_ws(echo: dict[str, int]) -> None:
    [_, last] = WebSocket(f"wss://localhost:{echo['ws']}/", proxies={})
    assert last.advice.startswith("Try ws:// ")  # type: ignore[attr-defined]


def test_behind_nginx_a_server_that_only_answers_pings_is_stale(
    terminator: Callable[[str], int], ca_file: str
) -> None:
    app = Noting(f"wss://localhost:{terminator('nginx')}/", ssl_cafile=ca_file, proxies={})
    with opened(app, poll=0, ping_rate=0.05, ping_timeout=PATIENCE, stale_after=0.5, on_stale="tell"):
        app.send_text("the last price")
        price = app.wait_for("text")
        app.wait_until(lambda: price.received_time in [stale.last_message_at for stale in app.all("stale")])
        app.wait_for("pong", len(app.all("pong")) + 2)
        app.send_text("and yet it lives")
        assert app.wait_for("text", 2).text == "and yet it lives"
    assert not app.all("unresponsive")


def test_behind_nginx_a_stale_connection_is_replaced(terminator: Callable[[str], int], ca_file: str) -> None:
    app = Noting(f"wss://localhost:{terminator('nginx')}/", ssl_cafile=ca_file, proxies={})
    with opened(app, poll=0, ping_rate=0.05, ping_timeout=PATIENCE, stale_after=2, persist=AT_ONCE):
        app.send_text("the last price")
        app.wait_for("stale")
        end = app.wait_for("disconnected")
        app.wait_for("ready", 2)
    assert (end.ended_by, end.reason) == ("client", "stale: no message from the server for 2 s")
