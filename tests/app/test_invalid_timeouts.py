"""Invalid timeouts and sizes: refused before anything is waited for, taken, closed or sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lochws
from lochws import Feed, WebSocketApp, events
from lochws.compat import websocket
from lochws.connection.incoming import IncomingStream
from lochws.handlers.outbox import Outbox
from lochws.handlers.recorder import Recorder
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Reply
from lochws.handlers.sequence import Sequence
from lochws.handlers.subscriptions import Subscriptions
from lochws.handlers.worker import Worker

from ..handlers.acking import offline
from ..support.apps import echo, opened
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, eventually

NOT_SECONDS: list[tuple[Any, type[Exception]]] = [
    ("1", TypeError), (True, TypeError), (float("nan"), ValueError),
]


@pytest.mark.parametrize(("timeout", "error"), NOT_SECONDS)
def test_an_app_and_its_mailbox_go_on(timeout: Any, error: type[Exception], start_peer: StartPeer) -> None:
    with opened(WebSocketApp(start_peer(echo).url), ping_rate=0) as app:
        mailbox = app.mailbox("text")
        subscriptions = Subscriptions(app)
        receipt = app.send_text("x", receipt=True)
        assert receipt.result(PATIENCE)
        eventually(lambda: len(mailbox) == 1)
        for method in (
            app.stop, app.join, app.wait_ready, app.wait_closed, app.diagnose, app.ready, app.closed,
            mailbox.get, receipt.result, subscriptions.wait_session_ready,
        ):
            with pytest.raises(error, match=r"timeout"):
                method(timeout)
        assert not app.is_stopping
        assert len(mailbox) == 1


@pytest.mark.parametrize(("timeout", "error"), NOT_SECONDS)
def test_a_conversation_keeps_a_message(timeout: Any, error: type[Exception], start_peer: StartPeer) -> None:
    with lochws.connect(start_peer(echo).url) as connection:
        connection.send_text("x")
        eventually(lambda: connection._messages._intake.inbox)
        with pytest.raises(error, match="timeout"):
            connection.receive(timeout)
        message = connection.receive(0)
        assert isinstance(message, events.Text)
        assert message.text == "x"


@pytest.mark.parametrize(("timeout", "error"), NOT_SECONDS)
def test_a_feed_goes_on(timeout: Any, error: type[Exception], start_peer: StartPeer) -> None:
    feed = Feed(WebSocketApp, [start_peer(echo).url])
    feed.start()
    assert feed.wait_ready(PATIENCE)
    for method in (feed.stop, feed.join, feed.wait_ready, feed.ready, feed.closed):
        with pytest.raises(error, match="timeout"):
            method(timeout)
    assert not feed.is_stopping
    assert feed.stop(PATIENCE)


@pytest.mark.parametrize(("timeout", "error"), NOT_SECONDS)
def test_ready_made_handlers_and_streams_go_on(timeout: Any, error: type[Exception], tmp_path: Path) -> None:
    relay = Relay(offline(), "feed", "redis://127.0.0.1:1/")
    recorder = Recorder(tmp_path / "talk.jsonl")
    reply: Reply[Any] = Reply(None, lambda: False)
    reply.set_result("x")
    stream = IncomingStream(True, lambda: None, None)  # type: ignore[arg-type]  # it needs no handlers
    stream.write("content")
    with ThreadPoolExecutor(1) as pool, recorder:
        for method in (
            relay.close, recorder.flush, recorder.close, reply.result, reply.exception,
            Sequence(offline(), number=len).flush, Outbox(offline()).flush, Worker(print, pool).drain,
            lambda timeout: stream.read(1, timeout),
        ):
            with pytest.raises(error, match="timeout"):
                method(timeout)
        recorder.on_event(events.Text("x"))
        assert recorder.missing == 0
    assert stream.poll() == "content"
    assert relay.close(0) == []


@pytest.mark.parametrize(("timeout", "error"), NOT_SECONDS)
def test_the_drop_in_for_websocket_client_stays_connected(
    timeout: Any, error: type[Exception], start_peer: StartPeer
) -> None:
    connection = websocket.create_connection(start_peer(echo).url, timeout=PATIENCE)
    for method in (connection.settimeout, lambda timeout: connection.close(timeout=timeout)):
        with pytest.raises(error, match="timeout"):
            method(timeout)
    assert connection.gettimeout() == PATIENCE
    connection.send("x")
    assert connection.recv() == "x"
    connection.close()
