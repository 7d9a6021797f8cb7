"""The content of a stream, between the connection that writes and the threads that read."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws import events
from lochws.connection.incoming import SMALL_PART, STREAM_BUFFER, IncomingStream, IncomingStreams
from lochws.engine.inbox import Inbox
from lochws.errors import WebSocketClosed, WebSocketError

from ..support.seen import PATIENCE, eventually, in_thread


class Wanting:
    """A listener whose handlers want streams, and whose loop another thread turns."""

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
        """Leave the loop to the other thread."""
        return False

    def stream_handled(self, stream: IncomingStream) -> None:
        """Keep nothing."""

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Want everything."""
        return True


class Touched:
    """Counts the touches of a connection."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def stream_of(*parts: Any, touch: Callable[[], None] = lambda: None, complete: bool = True) -> IncomingStream:
    stream = IncomingStream(isinstance(parts[0], str), touch, Wanting())
    for part in parts:
        stream.write(part)
    if complete:
        stream.end()
    return stream


PARTS = st.one_of(
    st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=9),
    st.lists(st.binary(min_size=1, max_size=9) | st.just(bytes(2 * SMALL_PART)), min_size=1, max_size=9),
)
READS = st.lists(st.none() | st.just("chunk") | st.integers(0, 12), max_size=12)


@given(parts=PARTS, reads=READS, late=st.integers(0, 9))
def test_any_reads_return_the_content(parts: list[Any], reads: list[Any], late: int) -> None:
    """Some of the parts arrive before the first read, and one of the others before each further read."""
    content = type(parts[0])().join(parts)
    stream = stream_of(*parts[: late + 1], complete=False)
    rest, read = parts[late + 1 :], []
    for size in reads:
        if rest:
            stream.write(rest.pop(0))
        else:
            stream.end()
        try:
            one = stream.poll() if size == "chunk" else stream.read(size, 0)
        except TimeoutError:
            continue
        if one is not None:
            read.append(one)
        if size not in (None, "chunk") and one is not None and not stream.is_complete:
            assert len(one) == size
    for part in rest:
        stream.write(part)
    stream.end()
    read.append(stream.read(None, 0))
    assert type(parts[0])().join(read) == content
    assert stream.waiting == 0
    assert stream.is_done


def test_small_parts_are_joined() -> None:
    stream = stream_of(*[b"x"] * 10_000)
    assert len(stream._parts) <= 10_000 // SMALL_PART + 1
    assert stream.read(None, 0) == b"x" * 10_000


def test_the_connection_is_told_when_it_may_receive_again_and_when_all_is_read() -> None:
    touched, part = Touched(), bytes(STREAM_BUFFER // 8)
    stream = stream_of(*[part] * 9, touch=touched)
    assert stream.is_full
    for _ in range(4):
        stream.chunk()
        assert touched.count == 0
    stream.chunk()
    assert stream.waiting == STREAM_BUFFER // 2
    stream.chunk()
    assert touched.count == 1
    assert stream.is_low
    while stream.chunk():
        pass
    assert touched.count == 2
    assert stream.is_done


def test_a_reader_that_wants_more_than_the_buffer_gets_it() -> None:
    touched = Touched()
    stream = stream_of(bytes(STREAM_BUFFER), touch=touched, complete=False)
    assert stream.is_full
    read: list[Any] = []
    reader = in_thread(lambda: read.append(stream.read(3 * STREAM_BUFFER, PATIENCE)))
    eventually(lambda: touched.count == 1)
    assert stream.is_low
    assert not stream.is_full
    for _ in range(3):
        stream.write(bytes(STREAM_BUFFER))
    reader.join(PATIENCE)
    assert len(read[0]) == 3 * STREAM_BUFFER
    assert stream.waiting == STREAM_BUFFER
    assert stream.is_full


def test_each_read_that_times_out_makes_room_for_one_more_buffer() -> None:
    stream = stream_of(bytes(STREAM_BUFFER), complete=False)
    for buffers in range(1, 4):
        assert stream.is_full
        with pytest.raises(TimeoutError):
            stream.read(None, 0)
        assert stream.is_low
        stream.write(bytes(STREAM_BUFFER))
        assert stream.waiting == (buffers + 1) * STREAM_BUFFER
    assert stream.is_full
    stream.end()
    assert len(stream.read(None, 0)) == 4 * STREAM_BUFFER


def test_an_exception_in_the_middle_of_a_read_closes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may have struck between taking a part and returning it, so the content has a hole."""
    stream = stream_of(b"abc", b"def", complete=False)

    class Interrupting:
        def join(self, parts: list[bytes]) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(stream, "_empty", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        stream.chunk()
    assert stream.is_done
    with pytest.raises(WebSocketError, match="the stream was closed"):
        stream.chunk()


def test_a_failure_comes_after_what_has_arrived_and_never_after_the_end() -> None:
    broken, whole = stream_of(b"abc", complete=False), stream_of(b"abc")
    for stream in (broken, whole):
        stream.fail(WebSocketClosed("on purpose"))
        stream.write(b"ignored") if stream is broken else None
    assert whole.read(None, 0) == b"abc"
    with pytest.raises(WebSocketClosed, match=r"read\(\): on purpose"):
        broken.read(None, 0)
    assert broken.chunk() == b"abc"
    with pytest.raises(WebSocketClosed):
        broken.chunk()


class TestWhatWaitsBehindAStream:
    def streams(self) -> tuple[IncomingStreams, list[list[str]]]:
        posted: list[list[str]] = []
        inbox = Inbox(lambda events: posted.append([event.name for event in events]), lambda inbox: None)
        return IncomingStreams(inbox, lambda: None, Wanting()), posted

    def stream(self, streams: IncomingStreams) -> tuple[events.Stream, IncomingStream]:
        source = streams.open(is_text=False)
        source.write(b"x")
        source.end()
        return events.Stream(False, source), source

    def test_it_is_posted_in_order_one_stream_after_another(self) -> None:
        streams, posted = self.streams()
        (first, one), (second, two) = self.stream(streams), self.stream(streams)
        after: list[str] = []
        received = [events.Text("a"), first, events.Ping(b""), second, events.Text("b")]
        streams.post(received, 5, lambda: after.append("after"))
        streams.post([events.Closing(None, "")], 0, None)
        for source, expected in (
            (one, [["text", "stream"]]),
            (two, [["text", "stream"], ["ping", "stream"]]),
        ):
            streams._inbox.deliver()
            assert posted == expected
            assert not after
            source.chunk()
            streams.release()
        streams._inbox.deliver()
        assert posted[2:] == [["text"], ["closing"]]
        assert after == ["after"]
        assert streams._inbox.backlog == 0

    def test_at_the_end_everything_is_posted(self) -> None:
        streams, posted = self.streams()
        event, _ = self.stream(streams)
        streams.post([event, events.Text("a")], 5, None)
        streams.post([events.Text("b")], 7, None)
        assert streams._held_cost == 7
        streams.release(everything=True)
        streams._inbox.deliver()
        assert posted == [["stream"], ["text"], ["text"]]

    def test_a_stream_that_is_forgotten_makes_way(self) -> None:
        streams, posted = self.streams()
        event, _ = self.stream(streams)
        streams.post([event, events.Text("a")], 5, None)
        del event
        streams._inbox.deliver()
        streams.release()
        streams._inbox.deliver()
        assert posted == [["stream"], ["text"]]

    def test_a_stream_that_is_done_takes_no_memory(self) -> None:
        streams, _ = self.streams()
        event, source = self.stream(streams)
        streams.post([event], 5, None)
        streams._inbox.deliver()
        gone = weakref.ref(source)
        del event, source
        streams.release()
        assert gone() is None

    def test_what_arrives_of_a_closed_stream_is_dropped(self) -> None:
        stream = stream_of(b"abc", complete=False)
        stream.abandon()
        stream.write(b"def")
        assert not stream._parts

    def test_too_much_behind_a_stream_pauses_reading_unless_we_close(self) -> None:
        streams, _ = self.streams()
        event, source = self.stream(streams)
        streams.post([event], 5, None)
        streams.post([events.Text("a")], 100, None)
        assert not streams.check(105)
        assert streams.check(99)
        assert not streams.is_low(99)
        streams.is_closing = True
        assert not streams.check(200)
        assert streams._held_cost == 100
        streams.check(99)
        assert streams._held_cost == 0
        assert source.chunk() == b"x"


def test_many_threads_read_each_part_once() -> None:
    stream = stream_of(b"0", complete=False)
    assert stream.chunk() == b"0"
    read: list[list[Any]] = [[] for _ in range(4)]
    readers = [in_thread(lambda one=one: one.extend(iter(lambda: stream.read(4, None), b""))) for one in read]  # type: ignore[misc]
    pause = threading.Event()
    for number in range(0, 2000, 5):
        stream.write(b"".join(b"%04d" % one for one in range(number, number + 5)))
        if number % 100 == 0:
            pause.wait(0.001)
    stream.end()
    for reader in readers:
        reader.join(PATIENCE)
    assert sorted(int(part) for one in read for part in one) == list(range(2000))
