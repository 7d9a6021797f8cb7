"""Clocks: the source of time for apps, and how a program replaces it.

Keepalive, Poll, the closing handshake and back-off use the clock. Opening a connection, the waits of users'
threads and the gathering of messages use real time. `lochws.testing` has a clock that a test moves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol


class Rest(NamedTuple):
    """The fact that something is waiting.

    Attributes:
        number: increases with everything it does: if it has not changed, nothing was done in between.
        until: when it continues by itself, in monotonic seconds of its clock; None for never.
    """

    number: int
    until: float | None

    def beside(self, other: Rest) -> Rest:
        """Return the common rest of two things that both wait."""
        ends = [end for end in (self.until, other.until) if end is not None]
        return Rest(self.number + other.number, min(ends, default=None))


class Timed(Protocol):
    """Something that waits by a clock: the threads of one or more apps. Any thread may call its methods."""

    def wake(self) -> None:
        """Look at the clock again, because it was moved."""

    def rest(self, *, handlers: bool) -> Rest | None:
        """Return how it waits, or None while it has something to do now.

        Args:
            handlers: whether a running handler counts as something to do.
        """


class Clock(Protocol):
    """A source of time. Any thread may call its methods."""

    @property
    def passes(self) -> bool:
        """True if time passes by itself, at the usual speed.

        If not, threads that wait do so until they are woken, and then look at the clock.
        """

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    def wall(self) -> float:
        """Seconds since 1970; somebody may set this clock."""

    def attend(self, timed: Timed) -> None:
        """Wake `timed` whenever this clock is moved, for as long as `timed` lives."""


class SystemClock:
    """This machine's clock."""

    passes = True
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def attend(self, timed: Timed) -> None:
        """Do nothing: this clock is never moved."""


#: This machine's clock, the default.
SYSTEM: Final[Clock] = SystemClock()

_in_use: Clock = SYSTEM


def current() -> Clock:
    """Return the clock of apps that are started now on threads without a clock of their own."""
    return _in_use


@contextmanager
def using(clock: Clock) -> Iterator[None]:
    """Give another clock to the apps that are started in the ``with`` block, by any thread.

    Apps that are already running keep theirs.
    """
    global _in_use  # noqa: PLW0603  one for the whole program
    before, _in_use = _in_use, clock
    try:
        yield
    finally:
        _in_use = before
