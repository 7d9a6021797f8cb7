"""ReentrantEvent: what threading.Event does, and it may be set in the middle of being set."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from lochws.system.waits import ReentrantEvent

from ..support.interrupting import trace_once
from ..support.seen import PATIENCE


def test_it_is_an_event() -> None:
    event = ReentrantEvent()
    assert isinstance(event, threading.Event)
    assert not event.is_set()
    assert not event.wait(0.01)
    event.set()
    assert event.is_set()
    assert event.wait(PATIENCE)
    event.clear()
    assert not event.is_set()


def test_setting_it_wakes_every_thread_that_waits() -> None:
    event = ReentrantEvent()
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(event.wait(PATIENCE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [True] * 3


def test_it_may_be_set_wherever_set_is_interrupted() -> None:
    """As a signal handler does that closes the app while the code under it does the same."""
    interruptions = 0
    inside = False
    event = ReentrantEvent()

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal inside, interruptions
        frame.f_trace_opcodes = True
        if kind == "opcode" and not inside:
            inside = True
            interruptions += 1
            event.set()
            event.clear()
            inside = False
        return trace

    trace_once()
    sys.settrace(trace)
    try:
        event.set()
    finally:
        sys.settrace(None)
    assert interruptions > 10
