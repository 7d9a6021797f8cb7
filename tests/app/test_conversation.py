"""Conversations: `lochws.connect`, `receive` and its ends, for scripts."""

from __future__ import annotations

import socket
import threading

import pytest

import lochws
from lochws import events
from lochws.errors import ConnectionFailed, WebSocketClosed, WebSocketError

from ..support.apps import echo
from ..support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer, frame
from ..support.seen import PATIENCE, eventually, in_thread


def flooding(link: Link) -> None:
    """Accept, send 3,000 numbers and a ping, and close with 4000."""
    link.accept()
    link.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3000)))
    link.send_frame(PING, b"there?")
    while link.read_frame() != (PONG, b"there?"):
        pass
    link.send_frame(CLOSE, b"\x0f\xa0over")
    assert link.read_frame()[0] == CLOSE


def test_a_script_sends_and_receives(start_peer: StartPeer) -> None:
    with lochws.connect(start_peer(echo).url) as ws:
        ws.send_text("hello")
        message = ws.receive(timeout=PATIENCE)
        assert isinstance(message, events.Text)
        assert message.text == "hello"
        ws.send_binary(b"\x00")
        message = ws.receive(PATIENCE)
        assert isinstance(message, events.Binary)
        with pytest.raises(TimeoutError, match=r"nothing has arrived within 0\.01 s"):
            ws.receive(0.01)
    assert ws.is_closed
    with pytest.raises(WebSocketClosed) as caught:
        ws.receive()
    assert caught.value.event is ws.last_end
    assert isinstance(ws.last_end, events.Disconnected)
    assert ws.last_end.graceful


def test_pings_are_answered_while_nobody_receives_and_the_loop_runs_until_the_end(
    start_peer: StartPeer,
) -> None:
    with lochws.connect(start_peer(flooding).url, size=10) as ws:
        eventually(lambda: len(ws._messages) == 10)
        texts = [message.text for message in ws if isinstance(message, events.Text)]
    assert texts == [str(number) for number in range(3000)]
    assert isinstance(ws.last_end, events.Disconnected)
    assert ws.last_end.received_code == 4000


def test_a_block_that_leaves_messages_behind_ends(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3000)))
        while (got := link.read_frame())[0] != CLOSE:
            pass
        link.send_frame(*got)

    with lochws.connect(start_peer(script).url, size=10) as ws:
        eventually(lambda: len(ws._messages) == 10)
    assert ws.is_closed


def test_a_refused_connection_raises_the_event(start_peer: StartPeer) -> None:
    def refuse(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(ConnectionFailed, match="401") as caught:
        lochws.connect(start_peer(refuse).url)
    error = caught.value
    assert isinstance(error.event, events.Rejected)
    assert error.event.response.status_code == 401
    assert (error.phase, error.reason, error.advice) == (
        "upgrade", error.event.reason, error.event.advice,
    )
    assert error.advice


def test_a_port_where_nothing_listens_raises_the_event() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionFailed) as caught:
            lochws.connect(f"ws://127.0.0.1:{unused.getsockname()[1]}/")
    assert caught.value.phase == "tcp"
    assert isinstance(caught.value.event, events.ConnectFail)
    assert caught.value.__cause__ is caught.value.event.error


def test_a_connection_that_ends_at_once_still_hands_out_its_messages(start_peer: StartPeer) -> None:
    def brief(link: Link) -> None:
        link.accept()
        link.send_frame(TEXT, b"bye")
        link.send_frame(CLOSE, b"\x03\xe8")
        while link.read_frame()[0] != CLOSE:
            pass  # a ping of the client's

    for _ in range(20):
        with lochws.connect(start_peer(brief).url) as ws:
            message = ws.receive(PATIENCE)
            assert isinstance(message, events.Text)
            assert message.text == "bye"
            with pytest.raises(WebSocketClosed, match="1000"):
                ws.receive(PATIENCE)


def test_a_lost_connection_raises_with_its_event(start_peer: StartPeer) -> None:
    def lose(link: Link) -> None:
        link.accept()
        link.reset()

    with lochws.connect(start_peer(lose).url) as ws, pytest.raises(WebSocketClosed) as caught:
        ws.receive(PATIENCE)
    assert isinstance(caught.value.event, events.Disconnected)
    assert not caught.value.event.graceful


def test_a_thread_that_receives_is_woken_by_close(start_peer: StartPeer) -> None:
    ended = threading.Event()
    with lochws.connect(start_peer(echo).url) as ws:
        def receive() -> None:
            with pytest.raises(WebSocketClosed):
                ws.receive()
            ended.set()

        thread = in_thread(receive)
        ws.close()
        assert ended.wait(PATIENCE)
    thread.join(PATIENCE)


def test_a_handler_of_the_connection_may_not_receive(start_peer: StartPeer) -> None:
    failures: list[BaseException] = []
    with lochws.connect(start_peer(echo).url) as ws:
        ws.on("error")(failures.append)
        ws.on("text")(lambda _: [ws.receive() for _ in range(2)])
        ws.send_text("x")
        eventually(lambda: bool(failures))
    assert isinstance(failures[0], WebSocketError)


def test_invalid_arguments_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="size=0"):
        lochws.connect("ws://127.0.0.1:1/", size=0)
    with pytest.raises(ValueError, match="ping_rate=-1"):
        lochws.connect("ws://127.0.0.1:1/", ping_rate=-1)
    with pytest.raises(TypeError, match="headrs"):
        lochws.connect("ws://127.0.0.1:1/", headrs={})  # type: ignore[call-arg]
