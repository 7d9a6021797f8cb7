"""Pacing: the loop's timer for the items that wait for the budget of one connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sized

from ..system.control import interrupts
from .paced import PacedOutgoing


class Pacing:
    """The part of a send queue that exists only with a budget. Guarded by the queue's lock.

    Args:
        outgoing: the items that wait.
        lock: the queue's lock.
        dropped_off: the messages that the holder of the lock will queue.
        is_idle: returns whether only the loop would write more. Called with the lock held.

    Attributes:
        has_timer: whether the loop will flush when the budget allows more. For the queue, with the lock held.
    """

    __slots__ = ("_dropped_off", "_is_idle", "_lock", "_outgoing", "has_timer")

    def __init__(
        self, outgoing: PacedOutgoing, lock: threading.Lock, dropped_off: Sized, is_idle: Callable[[], bool]
    ) -> None:
        self._outgoing = outgoing
        self._lock = lock
        self._dropped_off = dropped_off
        self._is_idle = is_idle
        self.has_timer = False

    def wait(self) -> float:
        """Return how many seconds a message sent now would wait for the budget. Any thread."""
        while self._lock.locked() and interrupts():
            try:
                return self._outgoing.wait(len(self._dropped_off))
            except RecursionError:
                raise
            except RuntimeError:  # another thread, which holds the lock, was changing the window
                continue
        with self._lock:
            return self._outgoing.wait(len(self._dropped_off))

    def wake_at(self) -> float | None:
        """Return when the loop must flush because the budget then allows more, or None. Loop only."""
        if self._lock.locked() and interrupts():
            return self._outgoing.next_look()  # the interrupted call may rely on the earlier timer
        with self._lock:
            when = self._outgoing.next_time() if self._is_idle() else None
            self.has_timer = when is not None
            return when

    @property
    def holds_ping(self) -> bool:
        """True if a ping or pong waits for the budget. Loop only."""
        if self._lock.locked() and interrupts():
            return False
        with self._lock:  # a thread that has written changes the window under it
            return self._outgoing.holds_ping
