"""The option `text_as="bytes"` over real connections."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from lochws import WebSocket, WebSocketApp, events

from ..support.apps import opened
from ..support.peer import CLOSE, TEXT, Link, StartPeer
from ..support.scripts import answer_close
from ..support.seen import PATIENCE


def ended_by(start_peer: StartPeer, message: bytes) -> tuple[list[events.Text], events.AnyEvent]:
    """Return the texts, and the last event, of a connection whose server sends one text and closes it."""

    def script(link: Link) -> None:
        link.accept()
        link.send_frame(TEXT, message)
        link.send_frame(CLOSE, b"\x03\xe8")
        link.wait_for_end()

    seen = list(WebSocket(start_peer(script).url, text_as="bytes").connect())
    return [event for event in seen if isinstance(event, events.Text)], seen[-1]


@pytest.mark.parametrize("text", ["", "größer", "é" * 300_000])
def test_texts_arrive_as_utf_8(start_peer: StartPeer, text: str) -> None:
    [event], last = ended_by(start_peer, text.encode())
    assert events.content_of(event) == event.data == text.encode()
    assert event.text == text
    assert isinstance(last, events.Disconnected)
    assert last.received_code == 1000


MESSAGE = b'{"type": "a"}'


@pytest.mark.parametrize("has_batch", [False, True])
def test_each_kind_of_handler_gets_them(*, has_batch: bool) -> None:
    app = WebSocketApp("ws://example.invalid", text_as="bytes")
    got: dict[str, list[Any]] = {}

    def note(way: str, found: Any) -> None:
        got.setdefault(way, []).append(found)

    if has_batch:
        app.on("batch")(partial(note, "batch"))
    else:
        app.on("text")(partial(note, "name"))
        app.on(events.Text)(partial(note, "class"))
    app.on("event")(partial(note, "event"))
    app.route(type="a")(partial(note, "route"))
    sent = [events.text_of(MESSAGE), events.Binary(b""), events.text_of(MESSAGE)]
    app._lochws.registry.dispatch_all(sent)
    texts = sent[::2]
    assert got == {"event": sent, "route": texts} | (
        {"batch": [sent]} if has_batch else {"name": texts, "class": texts}
    )


def test_mailboxes_and_coroutines_get_them(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.send_frame(TEXT, MESSAGE)
        answer_close(link)

    async def receive() -> None:
        app = WebSocketApp(start_peer(script).url, text_as="bytes")
        called: asyncio.Queue[events.Text] = asyncio.Queue()
        app.on("text", loop=asyncio.get_running_loop())(called.put)
        box, everything = app.mailbox("text"), app.mailbox("event")
        assert repr(box).startswith("<Mailbox of text:")
        with opened(app, ping_rate=0, poll=0):
            event = box.get(timeout=PATIENCE)
            assert events.content_of(event) == MESSAGE
            assert event is await asyncio.wait_for(called.get(), PATIENCE)
            assert event in [everything.get(timeout=PATIENCE) for _ in range(4)]

    asyncio.run(receive())


def test_invalid_utf_8_ends_the_connection_with_1007(start_peer: StartPeer) -> None:
    seen, last = ended_by(start_peer, b"fine, then \xff")
    assert seen == []
    assert isinstance(last, events.Disconnected)
    assert last.sent_code == 1007
