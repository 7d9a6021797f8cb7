"""Hostile text from a server cannot forge log lines or control a terminal."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from lochws import WebSocket, events

from .support.peer import CLOSE, PING, TEXT, Link, StartPeer
from .support.seen import Noting

#: Begins a line that looks like one of the log's own, and clears a terminal.
FORGED = "fine\x1b[2J\x08\x07\nCRITICAL root: the disk is on fire\x7f"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def answering(*lines: str) -> Callable[[Link], object]:
    """Return a script that reads the request and answers with these lines and an empty one."""

    def script(link: Link) -> None:
        link.read_request()
        link.send("\r\n".join([*lines, "", ""]).encode())

    return script


def speaking(link: Link) -> None:
    """Return a script that sends the text in frames of every kind, and waits for the answer to Close."""
    link.accept(f"Server: {FORGED}", f"X-{FORGED}: x")
    for opcode in (TEXT, PING):
        link.send_frame(opcode, FORGED.encode())
    link.send_frame(CLOSE, b"\x0f\xa0" + FORGED.encode())
    while link.read_frame()[0] != CLOSE:
        pass


SCRIPTS = {
    "a phrase": answering(f"HTTP/1.1 503 {FORGED}", "Content-Length: 0"),
    "a phrase of a 101": answering(f"HTTP/1.1 101 {FORGED}", "Upgrade: websocket"),
    "another upgrade": answering("HTTP/1.1 101 Yes", f"Upgrade: {FORGED}"),
    "a location": answering("HTTP/1.1 302 Found", f"Location: ws://{FORGED}/", "Content-Length: 0"),
    "another location": answering("HTTP/1.1 302 Found", f"Location: {FORGED}://host/"),
    "no HTTP": answering(f"HTTP{FORGED}"),
    "frames": speaking,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_nothing_that_a_server_says_is_a_line_of_its_own_in_the_log(
    script: Callable[[Link], object], start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    class Failing(Noting):
        def on_event(self, event: events.Event) -> None:
            super().on_event(event)
            raise ValueError("which logs the event")

    app = Failing(start_peer(script).url, trace=True)
    app.run_forever(persist=False)
    assert caplog.records
    for record in caplog.records:
        assert not _CONTROL.search(record.getMessage())
    for event in app.events:
        assert not _CONTROL.search(repr(event))
    outcomes = [*app.all("connect_fail"), *app.all("rejected"), *app.all("disconnected")]
    assert outcomes
    for event in outcomes:
        assert not _CONTROL.search(event.reason)


def test_a_proxys_phrase_is_none_either(start_peer: StartPeer) -> None:
    proxy = start_peer(answering(f"HTTP/1.1 403 {FORGED}", "Content-Length: 0"))
    app = Noting("ws://host.example/", proxies=f"http://{proxy.authority}")
    outcome = app.run_forever(persist=False)
    assert isinstance(outcome, events.ConnectFail)
    assert "fine" in outcome.reason
    assert not _CONTROL.search(outcome.reason)


def test_the_reason_of_a_close_frame_is_given_as_it_came(start_peer: StartPeer) -> None:
    app = Noting(start_peer(speaking).url)
    app.run_forever(persist=False)
    (closing,) = app.all("closing")
    assert closing.reason == FORGED


def test_the_query_of_a_url_is_shown_wherever_the_url_is() -> None:
    assert "token=secret" in repr(WebSocket("ws://me:password@host/?token=secret"))
