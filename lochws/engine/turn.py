"""Turn: a loop's wait for its descriptors, with the clocks that are read after it.

Most turns end with a single descriptor that can be read, and its channel has nothing to report afterwards.
Such a turn is one call of `Turn.run`: on Linux, with the machine's clock, of the compiled twin, otherwise of
`TurnPython`.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from selectors import EVENT_READ
from typing import Any, Protocol

from ..clock import SYSTEM, Clock
from ..system import syscalls
from ..system.compiled import choose
from ..system.waits import LONGEST_SECONDS
from .inbox import Inbox
from .poller import EpollPoller, Poller
from .timers import Timers

#: If the two clocks diverge by this much between two turns, or a wait ends this late, in seconds, the loop
#: checks for a suspension.
SUSPICIOUS_SECONDS = 1.0


class TurnsLoop(Protocol):
    """The loop that a turn belongs to."""

    def turn(self, until: None, /) -> Inbox | None:
        """Do whatever a turn of the reader has to do."""


class Turn(Protocol):
    """The wait of a loop. For the baton holder; any thread may read `is_asleep`, `number` and `due`.

    Attributes:
        is_asleep: whether the thread is waiting, or is about to. It is set before the deques are checked for
            the last time, so no thread that appends to one of them and then reads the flag can be missed.
        is_ending: whether turns must no longer wait. Any thread may set it.
        number: the number of turns so far.
        due: when this turn's wait ends at the latest, in monotonic seconds, or None.
        now, wall: the time after the last wait, by both clocks.
        ahead: by how many seconds the wall clock was ahead at the last comparison without suspicion.
        is_suspicious: whether the machine may have been suspended during the last wait.
        timers: the loop's timers.
    """

    is_asleep: bool
    is_ending: bool
    number: int
    now: float
    wall: float
    ahead: float
    is_suspicious: bool
    timers: Timers[Any]

    @property
    def due(self) -> float | None:
        """The latest end of this turn's wait, in monotonic seconds, or None."""

    def run(
        self, until: Callable[[], bool] | None, limit: float | None, when: float | None, has_more: bool, /
    ) -> list[tuple[int, int]] | tuple[Any, object] | Inbox | None:
        """Wait, and call the channel that is ready if it is the only one and can only be read.

        A signal may end the wait early.

        Args:
            until: called right before the wait, which is skipped if it returns True. None for the reader,
                which does not wait while there is mail, or once `is_ending` is set.
            limit: seconds to wait at most, or None for no limit.
            when: the next deadline of a timer, in monotonic seconds, or None.
            has_more: whether the loop will call other channels in this turn, too.

        Returns:
            None if nothing is left to do in this turn, or an inbox if, besides that, the reader must handle
            the inbox's `last` items after the turn. If a channel was called and more is left to do, a pair:
            the channel, and the value that it has returned or the exception that it has raised. Otherwise the
            descriptors that are ready, with their events, as `Poller.poll` returns them. If the result is a
            pair or a list, timers may be due.
        """

    def turn(self, loop: TurnsLoop, /) -> Inbox | None:
        """Do what `loop.turn(None)` does. Most turns of a reader need nothing else of the loop."""


class TurnPython:
    """The Python twin of `Turn`.

    Args:
        poll: waits for descriptors, as `Poller.poll` does.
        clock: the clock to read.
        mail, touched, added: the deques whose items end the wait.
        timers: the loop's timers.
        watched: the channels by descriptor.
        buffer: the memory that a channel receives into.
    """

    def __init__(
        self, poll: Callable[[float | None, int], list[tuple[int, int]]], clock: Clock, mail: Sized,
        touched: Sized, added: Sized, timers: Timers[Any], watched: dict[int, Any], buffer: memoryview,
    ) -> None:
        self._poll, self._clock, self.timers, self._buffer = poll, clock, timers, buffer
        self._mail, self._touched, self._added, self._watched = mail, touched, added, watched
        self._monotonic, self._wall = clock.monotonic, clock.wall
        self.is_asleep = self.is_ending = self.is_suspicious = False
        self.number = 0
        self.due: float | None = None
        self.now, self.wall = clock.monotonic(), clock.wall()
        self.ahead = self.wall - self.now

    def run(
        self, until: Callable[[], bool] | None, limit: float | None, when: float | None, has_more: bool, /
    ) -> list[tuple[int, int]] | tuple[Any, object] | Inbox | None:
        """Wait, and call the channel that is ready if it is the only one and can only be read."""
        now, timeout = self._monotonic(), limit
        if when is not None:
            timeout = min(max(when - now, 0.0), LONGEST_SECONDS)
            if limit is not None and limit < timeout:
                timeout = limit
        self.number += 1
        self.due = due = None if timeout is None else now + timeout
        self.is_asleep = True
        try:
            is_over = self._mail or self.is_ending if until is None else until()
            if is_over or self._touched or self._added:
                timeout, due = 0.0, now
            most = len(self._watched) + 1
            ready = self._poll(timeout if not timeout or self._clock.passes else None, most)
        finally:
            self.is_asleep = False
        self.now, self.wall = now, wall = self._monotonic(), self._wall()
        ahead = wall - now
        is_late = due is not None and now - due > SUSPICIOUS_SECONDS
        self.due = due
        self.is_suspicious = is_late or ahead - self.ahead > SUSPICIOUS_SECONDS
        if not self.is_suspicious:
            self.ahead = ahead
            if len(ready) == 1 and ready[0][1] == EVENT_READ:
                channel = self._watched.get(ready[0][0])
                if channel is not None:
                    return self._call(channel, until is None, when is not None and when <= now, has_more)
        return ready

    def turn(self, loop: TurnsLoop, /) -> Inbox | None:
        """Do what `loop.turn(None)` does."""
        return loop.turn(None)

    def _call(
        self, channel: Any, is_reader: bool, is_due: bool, has_more: bool
    ) -> list[tuple[int, int]] | tuple[Any, object] | Inbox | None:
        is_direct = is_reader and not (is_due or has_more or self._mail)
        try:
            more = channel.on_ready(EVENT_READ, self._buffer, self.now, is_direct)
        except BaseException as error:  # noqa: BLE001  the loop handles it
            return channel, error
        if isinstance(more, Inbox):
            return more
        if more is not None or has_more:
            return channel, more
        return [] if is_due else None


_Turn: Callable[..., Turn] | None = choose(syscalls.twins, "Turn", None)


def new_turn(
    poller: Poller, poll: Callable[[float | None, int], list[tuple[int, int]]], clock: Clock, mail: Sized,
    touched: Sized, added: Sized, again: dict[Any, None], timers: Timers[Any], watched: dict[int, Any],
    buffer: memoryview,
) -> Turn:
    """Return the turn of a loop.

    Args:
        poller: the loop's poller.
        poll: waits for descriptors, as `Poller.poll` does.
        again: the channels that have more to do immediately.
        clock, mail, touched, added, timers, watched, buffer: see `TurnPython`.
    """
    if _Turn is not None and clock is SYSTEM and type(poller) is EpollPoller:
        return _Turn(
            poller.epoll, mail, touched, added, again, timers, watched, buffer, LONGEST_SECONDS,
            SUSPICIOUS_SECONDS,
        )
    return TurnPython(poll, clock, mail, touched, added, timers, watched, buffer)
