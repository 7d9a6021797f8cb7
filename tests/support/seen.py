"""The events that tests see: those of an iteration, or of an app that notes them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from lochws import WebSocketApp
from lochws.events import Event

#: Seconds after which a test that waits for something has failed. The machine may stall meanwhile. The time
#: limit of pytest is longer, so that a failure says what the test waited for.
PATIENCE = 60.0


def names(events: Iterable[Event], *without: str) -> list[str]:
    """Return the names of events, except for those whose number depends on timing."""
    return [event.name for event in events if event.name not in without]


def take(connection: Any, name: str, count: int = 1) -> list[Any]:
    """Iterate until this many events of a name have occurred, and return them."""
    found = []
    for event in connection:
        if event.name == name:
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError(f"only {len(found)} events {name!r}")


def in_thread(function: Callable[[], object]) -> threading.Thread:
    """Run a function in another thread, which the caller joins."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class Noting(WebSocketApp):
    """An app that notes every event. Any thread may look at them, and wait for them.

    It notes an event before any handler runs, so that a test can look at what happens while one is running.
    The `EventLog` of lochws.testing notes it afterwards, which is what the test of an app wants.

    Attributes:
        events: the events so far, in order.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._arrived = threading.Condition()
        self.events: list[Event] = []
        super().__init__(*args, **kwargs)

    def on_event(self, event: Event) -> None:
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, which is checked after each event."""
        with self._arrived:
            assert self._arrived.wait_for(condition, PATIENCE), f"events so far: {self.events}"

    def wait_for(self, name: str, count: int = 1) -> Any:
        """Wait until an event has occurred this many times, and return the last of them."""
        self.wait_until(lambda: len(self.all(name)) >= count)
        return self.all(name)[count - 1]

    def all(self, name: str) -> list[Any]:
        """Return the events of a name so far."""
        return [event for event in self.events if event.name == name]

    def names(self, *without: str) -> list[str]:
        """Return the names so far, without some."""
        return names(self.events, *without)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds for which there is nothing to wait on."""
    pause = threading.Event()
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, "the condition did not hold in time"
        pause.wait(0.002)


def await_reports() -> None:
    """Wait until all that lochws reports from a thread of its own has been logged."""
    eventually(lambda: not any(thread.name == "lochws-log" for thread in threading.enumerate()))
