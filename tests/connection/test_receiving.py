"""The receiving half of a connection, over real sockets."""

from __future__ import annotations

import select
import socket
from typing import Any

from lochws import WebSocket, events

from ..support.peer import BINARY, Link, StartPeer, frame
from ..support.seen import PATIENCE


class Breaking(socket.socket):
    """A socket whose third call of `recvmsg_into` fails; the others fill the buffers."""

    calls = 0

    def send(self, data: Any, flags: int = 0, /) -> int:  # so that Python's own calls are used
        return super().send(data, flags)

    def recvmsg_into(self, buffers: Any, *_: Any) -> tuple[int, list[Any], int, Any]:  # type: ignore[override]
        self.calls += 1
        if self.calls == 3:
            raise ConnectionResetError(104, "Connection reset by peer")
        total = 0
        for buffer in buffers:
            view, filled = memoryview(buffer), 0
            while filled < len(view):
                assert select.select([self], [], [], PATIENCE)[0]
                filled += self.recv_into(view[filled:])
            total += filled
        return total, [], 0, None


def test_messages_received_before_an_error_in_the_same_turn_are_delivered(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.send(frame(BINARY, bytes(65536)) * 12)
        link.wait_for_end()

    peer = start_peer(script)
    made = []

    def connect(host: str, port: int) -> socket.socket:
        sock = Breaking()
        sock.connect((peer.host, peer.port))
        made.append(sock)
        return sock

    websocket = WebSocket("ws://any.invalid/", connect=connect)
    seen = list(websocket)
    messages = [event for event in seen if isinstance(event, events.Binary)]
    assert made[0].calls == 3
    assert len(messages) >= 2
    last = seen[-1]
    assert isinstance(last, events.Disconnected)
    assert websocket.counters.messages_received == len(messages)
    assert "reset" in str(last)
