"""The properties of a WebSocket, and the outcome of a send, in every state."""

from __future__ import annotations

import gc
import ssl
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from lochws import State, WebSocket, errors

from ..support.peer import PING, PONG, TEXT, Link, StartPeer, frame, upgrade
from ..support.scripts import Ends, polite, silent
from ..support.seen import PATIENCE, in_thread, take
from ..support.threaded_websockets import serve


class TestState:
    """Properties and sends in every state (contract Q10, Q12, Q14)."""

    def test_at_each_event(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        moments = [("before", flags(ws))]
        for event in ws.connect(poll=0):
            moments.append((event.name, flags(ws)))
            if event.name == "ready":
                ws.close()
                moments.append(("close", flags(ws)))
        moments.append(("after", flags(ws)))
        #            state, is_active, is_closing, is_closed
        assert moments == [
            ("before", ("new", False, False, False)),
            ("connecting", ("connecting", False, False, False)),
            ("connected", ("connecting", False, False, False)),
            ("ready", ("open", True, False, False)),
            ("close", ("closing", False, True, False)),
            ("closed", ("closing", False, True, False)),
            ("disconnected", ("disconnected", False, False, False)),
            ("after", ("stopped", False, False, True)),
        ]

    def test_sending_is_refused_but_while_open_saying_the_state(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        refusals = [("before", refusal(ws))]
        for event in ws.connect(poll=0):
            if event.name != "ready":
                refusals.append((event.name, refusal(ws)))
            else:
                ws.send_text("now")
                ws.close()
                refusals.append(("close", refusal(ws)))
        refusals.append(("after", refusal(ws)))
        assert refusals == [
            ("before", (errors.WebSocketUnavailable, "not connected")),
            ("connecting", (errors.WebSocketUnavailable, "not open yet")),
            ("connected", (errors.WebSocketUnavailable, "not open yet")),
            ("close", (errors.WebSocketClosing, "closing")),
            ("closed", (errors.WebSocketClosing, "closing")),
            ("disconnected", (errors.WebSocketUnavailable, "has ended")),
            ("after", (errors.WebSocketClosed, "has ended")),
        ]

    def test_after_every_kind_of_end_it_is_closed(self, start_peer: StartPeer) -> None:
        def refuse(link: Link) -> None:
            link.read_request()
            link.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        for script in (refuse, lambda link: (link.accept(), link.reset()), lambda link: link.reset()):
            ws = WebSocket(start_peer(script).url)
            list(ws)
            assert flags(ws) == ("stopped", False, False, True)

    def test_close_before_connecting_does_nothing(self, start_peer: StartPeer) -> None:
        """Contract Q10: no AttributeError; a WebSocket that was never opened is not closed."""
        ws = WebSocket(start_peer(Ends((TEXT, b"hello"))).url)
        ws.close()
        ws.force_disconnect()
        assert ws.state is State.NEW
        assert take(ws.connect(), "text")


class TestCounters:
    """The totals of messages and bytes."""

    def test_frames_right_behind_the_answer_count_too(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.send(upgrade(link.read_request()) + frame(TEXT, b"first") + frame(PING, b"now"))
            assert link.read_frame() == (PONG, b"now")
            link.send_frame(TEXT, b"second")
            link.finish()

        ws = WebSocket(start_peer(script).url)
        list(ws.connect(ping_rate=0))
        counters = ws.counters
        assert (counters.connections, counters.messages_received, counters.messages_sent) == (1, 2, 0)
        frames = frame(TEXT, b"first"), frame(PING, b"now"), frame(TEXT, b"second")
        assert counters.bytes_received == sum(map(len, frames))
        assert counters.bytes_sent == 2 + 4 + len(b"now")


class TestRealServer:
    """Against a server that nobody here wrote."""

    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize("secure", [False, True])
    def test_echo(self, compress: bool, secure: bool, server_tls: ssl.SSLContext, ca_file: str) -> None:
        def echo(connection: ServerConnection) -> None:
            for message in connection:
                connection.send(message)

        sent = ["hello", b"\x00\xff" * 50_000, "\N{SNOWMAN}" * 10_000, "", b""]
        with serve(echo, "127.0.0.1", 0, ssl=server_tls if secure else None) as server:
            thread = in_thread(server.serve_forever)
            port = server.socket.getsockname()[1]
            ws = WebSocket(
                f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/", compress=compress, ssl_cafile=ca_file
            )
            received: list[Any] = []
            for event in ws:
                if event.name == "ready":
                    assert ws.supports_compression is compress
                    for message in sent:
                        ws.send_text(message) if isinstance(message, str) else ws.send_binary(message)
                elif event.name in {"text", "binary"}:
                    received.append(event.text if event.name == "text" else event.data)
                    if len(received) == len(sent):
                        ws.close()
            server.shutdown()
            thread.join(PATIENCE)
        assert received == sent
        assert event.graceful
        assert ws.counters.messages_sent == ws.counters.messages_received == len(sent)
        assert ws.counters.bytes_sent > 0


def flags(ws: WebSocket) -> tuple[str, bool, bool, bool]:
    """Return the state as its properties show it."""
    return ws.state.value, ws.is_active, ws.is_closing, ws.is_closed


def refusal(ws: WebSocket) -> tuple[type[Exception], str]:
    """Return the error with which a send is refused, and its text."""
    with pytest.raises(errors.WebSocketUnavailable) as caught:
        ws.send_text("refused")
    for said in ("not connected", "not open yet", "closing", "has ended"):
        if said in str(caught.value):
            return caught.type, said
    raise AssertionError(f"no state in {caught.value}")


def test_left_after_the_network_failed_under_a_send_it_ends_all_the_same(start_peer: StartPeer) -> None:
    ws = WebSocket(start_peer(silent).url)
    for event in ws:
        if event.name == "ready":
            connection = ws._lochws.life.connection
            assert connection is not None
            queue = connection.sending.queue
            with queue._lock:
                queue._fail(OSError("reset"))
            break
    gc.collect()
    assert ws._lochws.life.connection is None
    assert ws.counters.connections == 1
    assert ws.is_closed
