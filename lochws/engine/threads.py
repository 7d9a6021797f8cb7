"""Threads: a reader and its supervisors, private to one app or shared by many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from ..clock import Clock, Rest, current
from ..system import forks
from .loop import Channel
from .reader import Reader
from .supervisor import Supervisor

_numbers = count(1)


class Crew:
    """One reader with its supervisors, running.

    Made and ended by `Threads`. The supervisors watch over the reader: while it is away in a handler
    for longer than the grace period, one of them stands in for it.
    """

    def __init__(self, name: str, supervisors: int, clock: Clock) -> None:
        self.clock = clock
        self.supervisor = Supervisor(f"lochws-supervisor-{name}", supervisors, clock)
        self.reader = Reader(f"lochws-reader-{name}", self._watch, clock)
        self.users = 0  # guarded by Threads' lock
        # Only the watch touches these. There is one at a time but for a moment now and then, when a delivery
        # begins just as the watch ends. Two do no harm: one gets the baton, and both end when all is quiet.
        self._seen_delivery = 0
        self._seen_count = 0

    def ask_flush(self, channel: Channel, flush: Callable[[], object] | None) -> None:
        """Have a channel's queue flushed soon, by whichever thread is free. Any thread.

        Args:
            channel: the channel, which flushes when it is touched.
            flush: flushes on a supervisor's thread; None if only the loop can.
        """
        if flush is not None and self.reader.delivery and not self.reader.has_stand_in:
            # The reader is in a handler, perhaps for long; what gathers must not wait for it. A
            # supervisor comes at once. One that stands in for the reader will see the touch instead:
            # jobs would only pile up behind it.
            self.supervisor.call_soon(flush)
        self.reader.loop.touch(channel)

    def stop(self) -> None:
        """Let the threads end when they have done what they are at."""
        self.reader.stop()
        self.supervisor.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads have ended. Returns False if they have not."""
        end = None if timeout is None else monotonic() + timeout
        if not self.reader.join(timeout):
            return False
        return self.supervisor.join(None if end is None else max(0.0, end - monotonic()))

    def wake(self) -> None:
        """Have the threads look at the clock, which was moved on."""
        self.reader.loop.look_at_clock()
        self.supervisor.wake()

    def rest(self, *, handlers: bool) -> Rest | None:
        """How the threads wait; None while one does anything else. See `lochws.clock.Timed`."""
        # Who watches over a delivery is at work again and again until nothing was delivered for a while.
        # Only while there is one that is of any interest.
        supervisor = self.supervisor.rest(away=self.reader.has_stand_in, aside=bool(self.reader.delivery))
        reader = self.reader.rest(handlers=handlers)
        return None if reader is None or supervisor is None else reader.beside(supervisor)

    # The watch: on the reader's thread first, on a supervisor's from then on.

    def _watch(self) -> None:
        self._seen_delivery = self.reader.delivery
        self._look_again()

    def _look_again(self) -> None:
        self._seen_count = self.reader.deliveries
        self.supervisor.call_at(self.clock.monotonic() + self.reader.grace, self._look, aside=True)

    def _look(self) -> None:
        reader = self.reader
        delivery = reader.delivery
        if delivery and delivery == self._seen_delivery:
            reader.stand_in(delivery)
        elif not delivery and reader.deliveries == self._seen_count:
            # Quiet for a whole period: the next delivery will ask for a watch again.
            reader.is_watched = False
            if not reader.delivery or reader.is_watched:
                return
            reader.is_watched = True  # a delivery began before it could see that nobody watches
        self._seen_delivery = reader.delivery
        self._look_again()


class Threads:
    """The threads that apps run on. Without one, each app makes its own pair.

    ``shared = Threads()`` and ``WebSocketApp(url, threads=shared)`` let one process hold thousands of
    connections on a handful of threads: one reader, which calls the handlers of all apps that share
    it, and a few supervisors. The threads start with the first app and end with the last.

    Args:
        supervisors: how many supervisor threads there may be; so many connections but one are opened
            at a time.
        name: goes into the threads' names.
        clock: what keepalive, Poll, closing and back-off go by; None for the one that `lochws.clock` has
            in use when the threads start, which is the machine's unless a test has put another in its place.

    Raises:
        ValueError: fewer than 2 supervisors: one is always kept free to stand in for the reader.
    """

    def __init__(
        self, supervisors: int = 4, *, name: str | None = None, clock: Clock | None = None
    ) -> None:
        if isinstance(supervisors, bool) or not isinstance(supervisors, int) or supervisors < 2:
            raise ValueError(f"supervisors={supervisors!r}: expected a whole number from 2 up")
        self._supervisors = supervisors
        self._name = name or f"shared-{next(_numbers)}"
        self._clock = clock
        self._lock = threading.Lock()
        self._crew: Crew | None = None  # guarded by _lock
        forks.register(self)

    @classmethod
    def private(cls, name: str) -> Threads:
        """A pair for one app, which never dials and reads at the same time."""
        threads = cls(name=f"{next(_numbers)}-{name}")
        threads._supervisors = 1
        return threads

    def reset_after_fork(self) -> None:
        """In the child of a fork: the next app gets threads of its own."""
        self._lock = threading.Lock()
        self._crew = None

    def attach(self) -> Crew:
        """Start the threads, or share them. For lochws itself.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            crew = self._crew
            if crew is None:
                clock = self._clock or current()
                crew = Crew(self._name, self._supervisors, clock)
                try:
                    crew.reader.start()
                except BaseException:
                    crew.reader.loop.close()
                    raise
                clock.attend(crew)
                self._crew = crew
            crew.users += 1
            return crew

    def detach(self, crew: Crew) -> None:
        """Give the threads back; the last one to do so ends them. For lochws itself."""
        with self._lock:
            crew.users -= 1
            if crew.users:
                return
            if self._crew is crew:
                self._crew = None
        crew.stop()
