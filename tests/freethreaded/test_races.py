"""The compiled parts, and what threads share without a lock, work when several threads use them at once.

These tests are most useful in a Python without a GIL, and with ThreadSanitizer.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lochws import Counters, WebSocketApp
from lochws.aio.coroutines import CoroutineHandlers
from lochws.connection.history import History
from lochws.connection.incoming import IncomingStream
from lochws.events import Binary, Event, Text
from lochws.feed.meter import LegMeter
from lochws.handlers._parts.departures import Departures
from lochws.handlers.recorder import Recorder
from lochws.protocol import compiled
from lochws.protocol.frames import build_frame_python, measure_python, pack_python
from lochws.protocol.scanning import scan_python

from ..support.seen import PATIENCE, eventually

THREADS = 4
ROUNDS = 300
KEYS = bytes(4) * 64

twins: Any = compiled.twins
needs_twins = pytest.mark.skipif(twins is None, reason="nothing was compiled for this Python")


def run_together(*functions: Callable[[], object]) -> None:
    """Run functions on a thread each, all beginning at once, and raise what one of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        try:
            barrier.wait(PATIENCE)
            function()
        except BaseException as error:  # noqa: BLE001  it is raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@needs_twins
def test_a_list_is_measured_while_other_threads_append_to_it() -> None:
    items: list[Any] = ["x"]

    def append() -> None:
        for _ in range(ROUNDS):
            items.append("x" * 50)  # noqa: PERF401  one at a time is the point

    def measure() -> None:
        before = 0
        for _ in range(ROUNDS):
            size = twins.measure(items, 0)
            assert size >= before
            before = size

    run_together(append, append, measure, measure)
    assert twins.measure(items, 0) == measure_python(items, 0)


@needs_twins
def test_a_list_is_packed_while_other_threads_append_to_it_and_remove_from_its_end() -> None:
    items: list[Any] = ["x" * 9]

    def change() -> None:
        for number in range(ROUNDS):
            items.append((b"a finished frame", None) if number % 3 else b"bytes")
            if number % 5 == 0:
                items.pop()

    def pack() -> None:
        for _ in range(ROUNDS):
            packed, end = twins.pack(items, 0, 1 << 16, KEYS, 0)
            assert end >= 1
            assert packed.startswith(build_frame_python(0x81, b"x" * 9, bytes(4)))

    run_together(change, change, pack, pack)
    assert twins.pack(items, 0, 1 << 16, KEYS, 0) == pack_python(items, 0, 1 << 16, KEYS, 0)


@needs_twins
def test_threads_scan_the_same_bytes_and_all_find_the_same_messages() -> None:
    data = b"".join(b"\x81\x05hell%d" % (number % 10) for number in range(50))
    expected: list[Any] = []
    scan_python(data, 0, 1 << 20, expected)
    found: list[list[Any]] = [[] for _ in range(THREADS)]

    def scan(events: list[Any]) -> None:
        for _ in range(ROUNDS // 10):
            events.clear()
            assert twins.scan(data, 0, 1 << 20, events) == len(data)

    run_together(*[lambda events=events: scan(events) for events in found])
    for events in found:
        assert [event.text for event in events] == [event.text for event in expected]


@needs_twins
def test_threads_append_events_to_one_list_and_none_is_lost() -> None:
    data, events = b"\x81\x01x" * 10, []  # type: ignore[var-annotated]

    def scan() -> None:
        for _ in range(ROUNDS):
            twins.scan(data, 0, 1 << 20, events)

    run_together(*[scan] * THREADS)
    assert len(events) == THREADS * ROUNDS * 10


@needs_twins
def test_frames_and_texts_are_made_on_several_threads_at_once() -> None:
    def make() -> None:
        for number in range(ROUNDS):
            payload = b"%d" % number
            assert twins.build_frame(0x82, payload, b"abcd") == build_frame_python(0x82, payload, b"abcd")
            assert twins.decode_payload(io.BytesIO("ü".encode())) == "ü"

    run_together(*[make] * THREADS)


@needs_twins
def test_a_large_payload_is_continued_by_one_thread_after_another() -> None:
    payload = twins.Payload(5000, 10)
    turns = [threading.Semaphore(number == 0) for number in range(THREADS)]

    def write(number: int) -> None:
        for index in range(number, 50, THREADS):
            assert turns[number].acquire(timeout=PATIENCE)
            payload.write(b"%02d" % index * 50)
            turns[(number + 1) % THREADS].release()

    run_together(*[lambda number=number: write(number) for number in range(THREADS)])
    assert payload.getvalue() == b"".join(b"%02d" % index * 50 for index in range(50))


def test_the_lags_of_a_feed_are_read_while_they_are_added() -> None:
    meter = LegMeter()

    def add() -> None:
        for number in range(ROUNDS * 20):
            meter.was_later(number)

    def read() -> None:
        for _ in range(ROUNDS):
            lag = meter.lag
            assert 0 <= lag.p50 <= lag.p99 <= lag.max

    run_together(add, read, read, read)


def test_each_message_sent_and_received_at_the_same_time_has_an_entry() -> None:
    class Connection:
        counters = Counters()

    history = History(3 * ROUNDS, Connection(), lambda: 1.0)

    def receive() -> None:
        for _ in range(ROUNDS):
            history.received([Binary(b"in")])

    def send() -> None:
        for _ in range(ROUNDS):
            history.sent((b"out",))

    run_together(receive, send)
    entries = history.taken()
    assert [entry.size for entry in entries if entry.direction == "received"] == [2] * ROUNDS
    assert [entry.size for entry in entries if entry.direction == "sent"] == [3] * ROUNDS


def test_a_stream_is_written_while_threads_begin_and_end_their_waits_for_it() -> None:
    class Listener:
        def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
            return False

        def stream_handled(self, stream: IncomingStream) -> None: ...

        def has_handler_for(self, kind: type[Event]) -> bool:
            return True

    stream = IncomingStream(False, lambda: None, Listener())

    def wait() -> None:
        for _ in range(ROUNDS):
            with pytest.raises(TimeoutError):
                stream.read(1 << 30, 1e-6)

    def write() -> None:
        for _ in range(ROUNDS * 10):
            stream.write(b"x")

    run_together(write, wait, wait)
    stream.end()
    assert stream.read(None, 0) == b"x" * ROUNDS * 10


def test_coroutine_handlers_are_added_and_removed_on_several_threads_and_none_is_lost() -> None:
    loop = asyncio.new_event_loop()
    app = WebSocketApp("ws://localhost")
    handlers = CoroutineHandlers(app._lochws.life, app._lochws.registry, loop)

    def change() -> None:
        async def kept(event: object) -> None: ...

        for _ in range(ROUNDS):
            async def handle(event: object) -> None: ...

            handlers.add(handle, frozenset({Text}))
            handlers.add(kept, frozenset({Binary}))
            assert handlers.remove(handle)
            assert handlers.remove(kept)

    run_together(*[change] * THREADS)
    assert handlers._handlers == ()
    loop.close()


def test_the_first_coroutine_handlers_of_a_loop_are_registered_on_several_threads_at_once() -> None:
    loop = asyncio.new_event_loop()

    async def handle(event: object) -> None: ...

    for _ in range(ROUNDS // 10):
        app = WebSocketApp("ws://localhost")
        run_together(*[lambda app=app: app.on("text", loop=loop)(handle)] * THREADS)
        ((_, handlers),) = app._lochws.registry.coroutines
        assert len(handlers._handlers) == THREADS
    loop.close()


def test_a_message_that_was_forgotten_while_it_left_does_not_stand_for_the_next_one() -> None:
    class Replacing(bytes):
        """While it is compared, the handlers' thread forgets it and sends another message."""

        def __eq__(self, other: object) -> bool:
            departures._waiting.clear()
            departures._waiting.append((b"next", lambda: None))
            return True

        __hash__ = bytes.__hash__

    departures = Departures(WebSocketApp("ws://localhost"))
    departures._waiting.append((Replacing(), lambda: None))
    departures._sent((b"",))
    assert [message for message, _ in departures._waiting] == [b"next"]


def test_an_entry_that_is_queued_as_the_writer_falls_asleep_is_written(tmp_path: Path) -> None:
    class Late(deque[Any]):
        """The writer finds nothing, and is about to wait, right before the entry is queued."""

        def append(self, entry: Any) -> None:
            recorder._is_idle = True
            super().append(entry)

    path = tmp_path / "a.jsonl"
    with Recorder(path) as recorder:
        recorder.on_event(Text("first"))
        eventually(lambda: "first" in path.read_text() and recorder._is_idle)
        recorder._is_idle = False  # the writer was still busy when this was read
        recorder._entries = Late()
        recorder.on_event(Text("second"))
        eventually(lambda: "second" in path.read_text())
