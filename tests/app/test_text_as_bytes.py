"""The option `text_as="bytes"` over real connections."""

from __future__ import annotations

import pytest

from lochws import WebSocket, events

from ..support.peer import CLOSE, TEXT, Link, StartPeer


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


def test_invalid_utf_8_ends_the_connection_with_1007(start_peer: StartPeer) -> None:
    seen, last = ended_by(start_peer, b"fine, then \xff")
    assert seen == []
    assert isinstance(last, events.Disconnected)
    assert last.sent_code == 1007
