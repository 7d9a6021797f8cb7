"""The clock that apps go by, and how a program has them go by another one.

Keepalive, Poll, the closing handshake and back-off go by it. The opening of a connection, the waits of users'
threads and what gathers on its way out do not, for those take the time that they take. `lochws.testing` has a
clock that a test moves on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol


class Rest(NamedTuple):
    """That something waits.

    Attributes:
        number: grows with all that it does: the same number twice means that it has done nothing between.
        until: when it goes on by itself, in monotonic seconds of its clock; None for never.
    """

    number: int
    until: float | None

    def beside(self, other: Rest) -> Rest:
        """What two that belong together are, when both wait."""
        ends = [end for end in (self.until, other.until) if end is not None]
        return Rest(self.number + other.number, min(ends, default=None))


class Timed(Protocol):
    """What waits by a clock: the threads of one or more apps. Any thread may call its methods."""

    def wake(self) -> None:
        """The clock was moved on: whoever waits looks at it."""

    def rest(self, *, handlers: bool) -> Rest | None:
        """How it waits, or None while it has something to do that is no matter of time.

        Args:
            handlers: whether a handler that runs counts as something to do.
        """


class Clock(Protocol):
    """Tells the time. Any thread may call its methods."""

    @property
    def passes(self) -> bool:
        """Whether the time passes by itself, as fast as everywhere.

        If not, those who wait do so until they are woken, and then look at the clock.
        """

    def monotonic(self) -> float:
        """Seconds that are never set back."""

    def wall(self) -> float:
        """Seconds since 1970, which may be set."""

    def attend(self, timed: Timed) -> None:
        """Wake what waits by this clock whenever it is moved on, for as long as it lives."""


class SystemClock:
    """The clock of this machine."""

    passes = True
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def attend(self, timed: Timed) -> None:
        """Nobody has to be woken."""


#: The clock of this machine, which all goes by unless something else is said.
SYSTEM: Final[Clock] = SystemClock()

_in_use: Clock = SYSTEM


def current() -> Clock:
    """The clock by which apps go that are started now on threads that were made without a clock."""
    return _in_use


@contextmanager
def using(clock: Clock) -> Iterator[None]:
    """Have apps that are started in the ``with`` block, by whatever thread, go by another clock.

    Those that run already keep theirs.
    """
    global _in_use  # noqa: PLW0603  one for the whole program, as time is
    before, _in_use = _in_use, clock
    try:
        yield
    finally:
        _in_use = before
