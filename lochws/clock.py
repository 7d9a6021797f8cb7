"""Clocks: the source of time for apps, which a program can replace.

Keepalive, Poll, the closing handshake and back-off use the clock. Opening a connection, waits in users'
threads and the gathering of messages use real time. `lochws.testing` has a clock that a test advances.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from .base.records import record


@record(frozen=True)
class Rest:
    """The state of something that is waiting.

    Attributes:
        number: a count that increases with every action: if it has not changed, nothing was done in between.
        until: when the wait ends by itself, in monotonic seconds of its clock; None for never.
    """

    number: int
    until: float | None

    def beside(self, other: Rest) -> Rest:
        """Return the combined state of two things that both wait."""
        ends = [end for end in (self.until, other.until) if end is not None]
        return Rest(self.number + other.number, min(ends, default=None))


class Timed(Protocol):
    """Something that waits by a clock, namely the threads of one or more apps. All methods: any thread."""

    def wake(self) -> None:
        """Read the clock again, because it was advanced."""

    def rest(self, *, handlers: bool) -> Rest | None:
        """Return the state of the wait, or None while there is something to do now.

        Args:
            handlers: whether a running handler counts as something to do.
        """


class Clock(Protocol):
    """A source of time. Any thread may call its methods."""

    @property
    def passes(self) -> bool:
        """True if time passes by itself, at the usual speed.

        If not, waiting threads wait until they are woken, and then read the clock.
        """

    def monotonic(self) -> float:
        """Return a time in seconds that never goes backwards."""

    def wall(self) -> float:
        """Return the seconds since 1970; this clock may be set."""

    def attend(self, timed: Timed) -> None:
        """Wake `timed` whenever this clock is advanced, for as long as `timed` exists."""


class SystemClock:
    """This machine's clock."""

    passes = True
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def attend(self, timed: Timed) -> None:
        """Do nothing: this clock is never advanced by hand."""


#: This machine's clock, the default.
SYSTEM: Final[Clock] = SystemClock()

_in_use: Clock = SYSTEM


def current() -> Clock:
    """Return the clock for apps that are started now on threads without their own clock."""
    return _in_use


@contextmanager
def using(clock: Clock) -> Iterator[None]:
    """Use another clock for the apps that any thread starts during the ``with`` block.

    Apps that are already running keep theirs.
    """
    global _in_use  # noqa: PLW0603  one for the whole program
    before, _in_use = _in_use, clock
    try:
        yield
    finally:
        _in_use = before
