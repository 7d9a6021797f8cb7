"""The receiving half when its descriptor is ready: the twin in Python and the compiled one."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from selectors import EVENT_READ, EVENT_WRITE
from time import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws import events
from lochws.connection import receiving
from lochws.connection.history import History
from lochws.connection.receiving import ReceivingHalf
from lochws.engine.inbox import Inbox
from lochws.options import Options, Timing
from lochws.system.compiled import load
from lochws.transport.stream import Stream

from ..support.peer import BINARY, PING, TEXT, frame
from ..support.queues import make_queue

COMPILED = getattr(load("small messages"), "ready", None)
TWINS = ["python"] if COMPILED is None else ["python", "compiled"]
NOW = 7.0


class Scene:
    """A receiving half on one end of a TCP connection.

    Args:
        twin: what is called when the descriptor is ready.
        kind: the class of the half.
    """

    def __init__(self, twin: str, kind: type[ReceivingHalf] = ReceivingHalf) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.far = socket.create_connection(server.getsockname())
            self.near, _ = server.accept()
        self.near.setblocking(False)
        stream, self.calls = Stream(self.near), list[tuple[str, Any]]()
        self.queue = make_queue(stream)
        self.pings_sent = list[tuple[bytes, float]]()
        self.inbox = Inbox(lambda _: None, lambda _: None)
        sending: Any = SimpleNamespace(
            queue=self.queue, pings_sent=self.pings_sent, pong=lambda *_: self.calls.append(("pong", _)),
        )
        ends: Any = SimpleNamespace(
            flush_blocked=lambda now: self.calls.append(("flush", now)),
            server_is_done=lambda now: self.calls.append(("done", now)),
            stream_ended=lambda error: self.calls.append(("ended", error)),
            after_reading=lambda more: self.calls.append(("more", more)),
            touch=lambda: None,
        )
        handlers: Any = SimpleNamespace(has_handler_for=lambda _: False)
        counted: Any = SimpleNamespace(counts=(0, 0, 0, 0))
        self.half = kind(
            stream, Options(), Timing(), None, inbox=self.inbox, sending=sending, ends=ends,
            handlers=handlers, history=History(0, counted, time), trace=None,
        )
        self.buffer = memoryview(bytearray(1 << 16))
        self._ready: Callable[..., Any] = ReceivingHalf.on_ready if twin == "python" else COMPILED
        assert self.ready() is None  # after the first call, the half knows which checks it can skip

    def ready(self, mask: int = EVENT_READ, *, is_direct: bool = True) -> Any:
        """Have the half called as a turn does."""
        return self._ready(self.half, mask, self.buffer, NOW, is_direct)

    def arrives(self, data: bytes) -> None:
        """Send bytes, and wait until they can be received."""
        self.far.sendall(data)
        self.near.setblocking(True)
        waiting = 0
        while waiting < len(data):
            waiting = len(self.near.recv(1 << 16, socket.MSG_PEEK))
        self.near.setblocking(False)

    def taken(self) -> list[events.Event]:
        """Take everything that was posted."""
        taken = list[events.Event]()
        while entry := self.inbox.take():
            taken += entry[0]
        return taken

    def close(self) -> None:
        """Close both ends."""
        self.near.close()
        self.far.close()


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(twin: str) -> Iterator[Scene]:
    with closing(Scene(twin)) as one:
        yield one


def _texts(received: Sequence[events.Event]) -> list[str]:
    return [event.text for event in received if isinstance(event, events.Text)]


class TestAMessage:
    def test_is_left_to_the_reader_if_nothing_else_waits(self, scene: Scene) -> None:
        scene.arrives(frame(TEXT, b"one") + frame(TEXT, b"two"))
        assert scene.ready() is scene.inbox
        assert _texts(scene.inbox.last) == ["one", "two"]
        assert scene.half.heard == NOW
        assert not scene.inbox.has_backlog
        assert scene.calls == []

    def test_is_posted_if_the_reader_does_not_turn_the_loop(self, scene: Scene) -> None:
        scene.arrives(frame(TEXT, b"one"))
        assert scene.ready(is_direct=False) is None
        assert scene.half.heard == NOW
        assert _texts(scene.taken()) == ["one"]

    def test_is_posted_behind_those_that_wait(self, scene: Scene) -> None:
        for text in (b"one", b"two"):
            scene.arrives(frame(TEXT, text))
            assert scene.ready(is_direct=text == b"two") is None
        assert _texts(scene.taken()) == ["one", "two"]

    def test_is_handled_when_all_of_it_has_arrived(self, scene: Scene) -> None:
        data = frame(TEXT, b"both parts")
        scene.arrives(data[:5])
        assert scene.ready() is None
        assert not scene.inbox.last
        scene.arrives(data[5:])
        assert scene.ready() is scene.inbox
        assert _texts(scene.inbox.last) == ["both parts"]

    def test_ends_the_wait_for_the_answer_to_a_ping(self, scene: Scene) -> None:
        scene.pings_sent.append((b"mine", NOW - 1))
        scene.arrives(frame(TEXT, b"one"))
        assert scene.ready() is scene.inbox
        assert scene.pings_sent == []
        assert scene.half.keepalive.waiting_since is None
        scene.half.keepalive.sent(b"another", NOW)
        scene.arrives(frame(TEXT, b"two"))
        assert scene.ready() is scene.inbox
        assert scene.half.keepalive.waiting_since is None

    def test_before_a_ping_is_posted_and_the_ping_is_answered(self, scene: Scene) -> None:
        scene.arrives(frame(TEXT, b"one") + frame(PING, b"?"))
        assert scene.ready() is None
        assert [name for name, _ in scene.calls] == ["pong"]
        assert _texts(scene.taken()) == ["one"]

    def test_is_not_read_while_reading_is_paused(self, scene: Scene) -> None:
        scene.half._pause()
        scene.arrives(frame(TEXT, b"one"))
        assert scene.ready() is False
        assert not scene.inbox.last

    def test_that_fills_the_inbox_pauses_reading(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receiving, "INBOX_BYTES", 10)
        scene.arrives(frame(BINARY, bytes(100)))
        assert scene.ready(is_direct=False) is False
        assert scene.half.is_paused


class TestTheRest:
    def test_nothing_to_receive_changes_nothing(self, scene: Scene) -> None:
        assert scene.ready() is None
        assert scene.half.heard == 0.0
        assert not scene.inbox.last

    def test_the_end_of_the_stream_is_reported(self, scene: Scene) -> None:
        scene.far.shutdown(socket.SHUT_WR)
        scene.near.setblocking(True)
        assert scene.near.recv(1, socket.MSG_PEEK) == b""
        scene.near.setblocking(False)
        assert scene.ready() is False
        assert scene.half.at_eof
        assert scene.calls == [("ended", None), ("more", False)]

    def test_an_error_is_reported(self, scene: Scene) -> None:
        scene.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scene.far.close()
        assert scene.ready() is False
        (name, error), more = scene.calls
        assert (name, more) == ("ended", ("more", False))
        assert isinstance(error, ConnectionResetError)

    def test_an_exception_of_another_kind_propagates(self, scene: Scene) -> None:
        def failing(*_: Any) -> int:
            raise ZeroDivisionError

        scene.half._receive_into = failing
        with pytest.raises(ZeroDivisionError):
            scene.ready()
        assert scene.calls == []

    def test_a_blocked_queue_is_flushed_first(self, scene: Scene) -> None:
        scene.queue.is_blocked = True
        scene.arrives(frame(TEXT, b"one"))
        assert scene.ready(EVENT_READ | EVENT_WRITE) is False
        assert scene.calls == [("flush", NOW), ("more", False)]
        assert _texts(scene.taken()) == ["one"]

    def test_a_failed_queue_is_reported_to_the_loop(self, scene: Scene) -> None:
        scene.queue.failure = OSError("failed")
        assert scene.ready() is False
        assert scene.calls == [("more", False)]


def test_a_half_of_another_class_receives_too(twin: str) -> None:
    class Half(ReceivingHalf):
        __slots__ = ()

    with closing(Scene(twin, Half)) as scene:
        scene.arrives(frame(TEXT, b"one"))
        assert scene.ready() is scene.inbox
        assert _texts(scene.inbox.last) == ["one"]


@pytest.mark.skipif(COMPILED is None, reason="not built")
def test_wrong_arguments_are_refused() -> None:
    with closing(Scene("compiled")) as scene:
        for arguments in ((), (scene.half,), (scene.half, EVENT_READ, scene.buffer), (None,) * 5):
            with pytest.raises((TypeError, AttributeError)):
                COMPILED(*arguments)


@given(st.lists(st.integers(0, 400), max_size=10), st.data())
@pytest.mark.parametrize("twin", TWINS)
def test_any_split_of_the_bytes_gives_the_same_events(
    twin: str, sizes: list[int], data: st.DataObject
) -> None:
    sent = [b"x" * size for size in sizes]
    wire = b"".join(frame(TEXT, content) for content in sent)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    with closing(Scene(twin)) as scene:
        received = list[str]()
        for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            if begin < end:
                scene.arrives(wire[begin:end])
                is_direct = data.draw(st.booleans())
                if scene.ready(is_direct=is_direct) is scene.inbox:
                    received += _texts(scene.inbox.last)
                received += _texts(scene.taken())
        assert received == [content.decode() for content in sent]
