"""The compiled parts, and what threads share without a lock, work when several threads use them at once.

These tests are most useful in a Python without a GIL, and with ThreadSanitizer.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws.feed.meter import LegMeter
from lochws.protocol import compiled
from lochws.protocol.frames import build_frame_python, measure_python, pack_python
from lochws.protocol.scanning import scan_python

from ..support.seen import PATIENCE

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
