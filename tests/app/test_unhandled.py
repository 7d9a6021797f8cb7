"""Failures without a handler are logged: an app that never connects is never silent."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lochws import Backoff, WebSocketApp
from lochws.opening.advice import advise
from lochws.response import Response

from ..support.peer import CLOSE, Link, StartPeer

TWICE = Backoff(min_wait=0, max_wait=0, max_attempts=2)


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A URL on which no server listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}/"


def lose(link: Link) -> None:
    link.accept()
    link.read_frame()  # the first ping: unread, it would make a reset of the end


UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


def refuse(link: Link) -> None:
    link.read_request()
    link.send(UNAUTHORIZED)


def close(link: Link) -> None:
    link.accept()
    link.send_frame(CLOSE, b"\x03\xe9")
    while link.read_frame()[0] != CLOSE:
        pass


def test_each_failed_attempt_is_logged_with_the_url(dead_url: str, caplog: pytest.LogCaptureFixture) -> None:
    address = dead_url.removeprefix("ws://").rstrip("/")
    url = dead_url.replace("//", "//user:secret@") + "?token=secret"
    WebSocketApp(url).run_forever(persist=TWICE)
    advice = "Check the host and port, and that the server is running: nothing listens there."
    expected = f"{dead_url}?token=…: unable to connect; {address}: Connection refused ({advice})"
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("lochws", "WARNING", expected)
    ] * 2


def test_attempts_that_fail_again_and_again_do_not_flood_the_log(
    dead_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    WebSocketApp(dead_url).run_forever(persist=Backoff(min_wait=0, max_wait=0, max_attempts=90))
    assert 20 <= len(caplog.records) < 60


def test_a_retry_hook_that_fails_each_time_does_not_flood_the_log(
    dead_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(outcome: object) -> float:
        raise ValueError

    app = WebSocketApp(dead_url)
    app.on("connect_fail")(lambda event: None)
    app.run_forever(persist=Backoff(min_wait=0, max_wait=0, max_attempts=90, retry=hook))
    assert 20 <= len(caplog.records) < 60


@pytest.mark.parametrize(("script", "reason"), [
    (lose, "connection lost: ended by the server"),
    (refuse, f"upgrade refused: 401 Unauthorized ({advise('upgrade', None, Response(UNAUTHORIZED))})"),
])
def test_a_connection_that_failed_is_logged(
    script: object, reason: str, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    url = start_peer(script).url
    WebSocketApp(url).run_forever(persist=False)
    assert [record.getMessage() for record in caplog.records] == [f"{url}: {reason}"]


def test_a_proper_end_is_not_logged(start_peer: StartPeer, caplog: pytest.LogCaptureFixture) -> None:
    WebSocketApp(start_peer(close).url).run_forever(persist=False)
    app = WebSocketApp(start_peer(close).url)
    app.on("ready")(lambda event: app.force_disconnect())
    app.run_forever(persist=False)
    assert not caplog.records


@pytest.mark.parametrize("name", ["connect_fail", "event"])
def test_a_failure_that_a_handler_gets_is_not_logged(
    name: str, dead_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = WebSocketApp(dead_url)
    seen = []
    app.on(name)(seen.append)
    app.run_forever(persist=False)
    assert seen
    assert not caplog.records
    app.remove_handler(seen.append)
    app.run_forever(persist=False)
    assert len(caplog.records) == 1
