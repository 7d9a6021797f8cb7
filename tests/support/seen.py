"""What tests see of a WebSocket: the events of an iteration, or of an app that notes them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from lochws import WebSocketApp
from lochws.events import Event

#: Seconds that anything may take in a test before it has failed.
PATIENCE = 10.0


def names(events: Iterable[Event], *without: str) -> list[str]:
    """The events' names, without those whose number is a matter of timing."""
    return [event.name for event in events if event.name not in without]


def take(connection: Any, name: str, count: int = 1) -> list[Any]:
    """Iterate up to the event of that name that makes so many, leave, and return those."""
    found = []
    for event in connection:
        if event.name == name:
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError(f"only {len(found)} events {name!r}")


def in_thread(function: Callable[[], object]) -> threading.Thread:
    """Run a function in another thread; the caller joins it."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class Noting(WebSocketApp):
    """An app that notes every event; any thread may look, and wait.

    It notes them before any other handler runs, so that a test can look at what happens while one does. The
    `Recorder` of lochws.testing notes them after that: what a test of an app wants, and most of ours.

    Attributes:
        events: what has happened so far, in order.
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
        """Wait until the condition holds; it is looked at after each event."""
        with self._arrived:
            assert self._arrived.wait_for(condition, PATIENCE), f"in vain; there were {self.events}"

    def wait_for(self, name: str, count: int = 1) -> Any:
        """Wait until an event has come so many times, and return the last of them."""
        self.wait_until(lambda: len(self.all(name)) >= count)
        return self.all(name)[count - 1]

    def all(self, name: str) -> list[Any]:
        """The events of that name so far."""
        return [event for event in self.events if event.name == name]

    def names(self, *without: str) -> list[str]:
        """The names so far; see `names`."""
        return names(self.events, *without)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that announces itself to nobody."""
    pause = threading.Event()
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, "in vain"
        pause.wait(0.002)


def await_reports() -> None:
    """Wait until all that lochws reports from a thread of its own has been logged."""
    eventually(lambda: not any(thread.name == "lochws-log" for thread in threading.enumerate()))
