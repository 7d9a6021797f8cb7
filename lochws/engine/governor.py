"""Governor: a limit on how often, and how many at a time, apps try to connect."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic
from typing import NoReturn

from ..options import check_number, check_range, refusing_unknown
from ..system import forks
from ..system.control import control_lock
from ..system.deadline import Deadline
from ..system.steps import Steps, Wait


class _Line(OrderedDict[Deadline, None]):
    """Attempts that wait for the same thing, in order, each by the deadline that wakes it."""

    @property
    def first(self) -> Deadline | None:
        """The one whose turn it is."""
        return next(iter(self), None)


@refusing_unknown(per_second="rate limit max_rate", per_host="max_per_host concurrency limit_per_host")
class Governor:
    """A limit on attempts to connect, for any number of apps to share.

    ``shared = Governor(per_second=50)`` and ``WebSocketApp(url, governor=shared)`` keep thousands of apps
    that lose their server at the same moment from bringing it down again when it returns. Attempts over the
    limit wait in order of arrival, and their `open_timeout` begins afterwards. The apps may
    share threads or not, and connect to any hosts. Waits follow the machine's clock, even with a virtual one.

    Args:
        per_second: how many attempts may begin per second, at regular intervals; None for no limit.
        per_host: how many attempts to one host and port may be under way at the same time. RFC 6455 section
            4.1 asks for 1, which makes thousands of connections slow: each waits for the round trips of those
            before it. None for no limit. The RFC counts attempts by IP address. Here they are counted by the
            host and port of the URL, since an attempt may try several addresses at the same time, a proxy may
            be the only one that knows them, and many sites may share those of one load balancer. An app whose
            URL is a function counts as a host of its own.

    Raises:
        TypeError: an argument is not a number, or is unknown.
        ValueError: `per_second` is less than 0.001, or `per_host` is less than 1.
    """

    def __init__(self, per_second: float | None = 100.0, *, per_host: int | None = None) -> None:
        if per_second is not None:
            check_number("per_second", per_second, 0.001)
        if per_host is not None:
            check_range("per_host", per_host, 1)
        self._interval = 0.0 if per_second is None else 1.0 / per_second
        self._per_host = per_host
        self.reset_after_fork()
        forks.register(self)

    def reset_after_fork(self) -> None:
        """Forget the attempts of the parent, in the child of a fork. For lochws itself."""
        self._lock = control_lock()
        # All below is guarded by _lock.
        self._next = 0.0  # when the next attempt may begin
        self._waiting = _Line()  # attempts that wait for that time
        self._running: dict[Hashable, int] = {}  # by host
        self._lines: dict[Hashable, _Line] = {}  # attempts that wait for another one to end, by host

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: a copy would not share its limits with the original."""
        raise TypeError("a Governor cannot be copied or pickled: make another one with Governor()")

    def enter(self, host: Hashable, deadline: Deadline) -> Steps[None]:
        """Wait until an attempt may begin. Call `leave` at its end. For lochws itself.

        Raises:
            Cancelled: the deadline was cancelled.
            TimeoutError: the deadline has passed.
        """
        if self._per_host is not None:
            yield from self._enter_host(host, deadline, self._per_host)
        if not self._interval:
            return
        try:
            yield from self._enter_time(deadline)
        except BaseException:
            self.leave(host)
            raise

    def leave(self, host: Hashable) -> None:
        """Note that an attempt has ended. For lochws itself."""
        if self._per_host is None:
            return
        with self._lock:
            left = self._running.pop(host, 1) - 1
            if left:
                self._running[host] = left
            following = self._lines[host].first if host in self._lines else None
        if following is not None:
            following.wake()

    def _enter_host(self, host: Hashable, deadline: Deadline, most: int) -> Steps[None]:
        with self._lock:
            line = self._lines.setdefault(host, _Line())
            line[deadline] = None
        try:
            while True:
                with self._lock:
                    running = self._running.get(host, 0)
                    if line.first is deadline and running < most:
                        self._running[host] = running + 1
                        return
                yield Wait((), deadline.until())
        finally:
            with self._lock:
                line.pop(deadline, None)
                following = line.first
                if following is None and self._lines.get(host) is line:
                    del self._lines[host]
            if following is not None:
                following.wake()

    def _enter_time(self, deadline: Deadline) -> Steps[None]:
        with self._lock:
            self._waiting[deadline] = None
        try:
            while True:
                until = deadline.until()
                with self._lock:
                    if self._waiting.first is deadline:
                        now = monotonic()
                        if self._next <= now:
                            self._next = now + self._interval
                            return
                        until = self._next if until is None else min(until, self._next)
                yield Wait((), until)
        finally:
            with self._lock:
                self._waiting.pop(deadline, None)
                following = self._waiting.first
            if following is not None:
                following.wake()
