"""Scheduled calls: functions that the handlers' thread will call, now or later."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import TIMEOUT_MAX
from typing import TypeAlias

from ..base.callables import check_runs
from ..dispatch.callables import needs_arguments
from ..engine.inbox import Inbox
from ..engine.supervisor import Job
from ..engine.threads import Crew

Function: TypeAlias = Callable[[], object]


class ScheduledCall:
    """A function that the handlers' thread will call. Made by `WebSocketApp.call_later`.

    Args:
        function: the function to call.
        make: calls the function; itself called on the handlers' thread.
    """

    __slots__ = ("_functions", "_job", "_make")

    def __init__(self, function: Function, make: Callable[[Function], object]) -> None:
        self._functions = [function]  # popped by the handlers' thread or by `cancel`: one of them gets it
        self._make = make
        self._job: tuple[Crew, Job] | None = None

    def cancel(self) -> bool:
        """Cancel the call. May be called from any thread; never blocks.

        Returns:
            True if this prevented the call; False if the function was called or cancelled before.
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
        # A separate inbox, because any thread may call this, but only one may post to a connection's inbox.
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
    """Have the handlers' thread of a crew call a function later.

    Args:
        crew: the crew; its reader is the handlers' thread.
        seconds: the delay from now; 0 or less means immediately.
        function: the function to call.
        make: calls the function; itself called on the handlers' thread.

    Raises:
        RuntimeError: the thread that keeps the time cannot be started.
    """
    return ScheduledCall(function, make)._schedule(crew, seconds)


def check_call(seconds: float, function: Function) -> None:
    """Raise TypeError or ValueError unless these are valid arguments of `call_later`."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"call_later: seconds={seconds!r}: expected a number")
    if not -inf < seconds < inf:
        raise ValueError(f"call_later: seconds={seconds!r}: expected a finite number")
    if not callable(function):
        raise TypeError(f"call_later: function={function!r}: expected a callable")
    check_runs(f"call_later: {getattr(function, '__qualname__', repr(function))}", function)
    if needs_arguments(function):
        raise TypeError(f"call_later: function={function!r}: expected a function without arguments")
