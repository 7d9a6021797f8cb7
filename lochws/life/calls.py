"""Calls that the handlers' thread is to make, now or later."""

from __future__ import annotations

from collections.abc import Callable
from threading import TIMEOUT_MAX
from typing import TypeAlias

from ..engine.inbox import Inbox
from ..engine.supervisor import Job
from ..engine.threads import Crew

Function: TypeAlias = Callable[[], object]


class ScheduledCall:
    """A function that the handlers' thread is going to call. Made by `WebSocketApp.call_later`.

    Args:
        function: what to call.
        make: calls it, on the handlers' thread.
    """

    __slots__ = ("_functions", "_job", "_make")

    def __init__(self, function: Function, make: Callable[[Function], object]) -> None:
        self._functions = [function]  # whoever pops it has it: the handlers' thread, or `cancel`
        self._make = make
        self._job: tuple[Crew, Job] | None = None

    def cancel(self) -> bool:
        """Take the call back. Any thread; never blocks.

        Returns:
            False if it has begun, or was taken back before.
        """
        try:
            self._functions.pop()
        except IndexError:
            return False
        if self._job is not None:
            crew, job = self._job
            crew.supervisor.cancel(job)
        return True

    def _schedule(self, crew: Crew, seconds: float) -> ScheduledCall:
        # An inbox of its own: those of connections have one thread that posts, and here any may.
        inbox = Inbox(lambda _: self._run(), crew.reader.loop.notify)
        if seconds <= 0:
            inbox.post((self,))
        else:
            when = crew.clock.monotonic() + min(seconds, TIMEOUT_MAX)  # an int may be larger than any float
            self._job = crew, crew.supervisor.call_at(when, lambda: inbox.post((self,)))
        return self

    def _run(self) -> None:
        try:
            function = self._functions.pop()
        except IndexError:
            return
        self._make(function)


def call_later(
    crew: Crew, seconds: float, function: Function, make: Callable[[Function], object]
) -> ScheduledCall:
    """Have the handlers' thread of a crew call a function, through `make`, after so many seconds.

    Raises:
        RuntimeError: no thread can be started to keep the time.
    """
    return ScheduledCall(function, make)._schedule(crew, seconds)
