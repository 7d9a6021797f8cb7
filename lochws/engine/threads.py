"""Threads: a reader and its supervisors, private to one app or shared by many."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import NoReturn, Protocol

from ..clock import Clock, Rest, current
from ..options import check_range, refusing_unknown
from ..system import forks
from ..system.control import control_lock
from ..system.interpreters import with_advice
from ..system.report import report_aside
from .loop import Channel
from .reader import Reader
from .slots import Slots
from .supervisor import Supervisor
from .tasks import Tasks

#: How many attempts to connect may be under way at the same time, unless `Threads` is told otherwise.
ATTEMPTS = 800

_numbers = count(1)


class Tenant(Protocol):
    """The interface between a crew and a tenant, the life of an app."""

    def threads_failed(self, crew: Crew, error: BaseException) -> None:
        """End after a fatal error in one of the crew's threads. On the reader's thread, without locks."""


class Crew:
    """A running reader with its supervisors.

    `Threads` creates and ends crews. The supervisors watch the reader: while a handler runs for longer than
    the grace period, one of them stands in for the reader. After a fatal error in one of the threads, all of
    them end, and so do the apps that run on them.

    Args:
        name: part of the threads' names.
        supervisors: the maximum number of supervisor threads.
        clock: the clock of timers, jobs and the watch.
        retire: takes the crew out of use after a failure, and returns its tenants.
        attempts: how many attempts to connect may be under way at the same time.

    Attributes:
        tasks: the attempts of the tenants, as tasks of the loop.
        slots: the limit on these attempts, for the tasks.
    """

    def __init__(
        self,
        name: str,
        supervisors: int,
        clock: Clock,
        retire: Callable[[Crew], list[Tenant]],
        attempts: int = ATTEMPTS,
    ) -> None:
        self.clock = clock
        self._retire = retire
        self.reader = Reader(f"lochws-reader-{name}", self._watch, clock, self._failed)
        self.tasks = Tasks(self.reader.loop)
        self.slots = Slots(attempts, self.tasks)
        self.supervisor = Supervisor(f"lochws-supervisor-{name}", supervisors, clock, self.reader.fail)
        # One entry per run of an app: an app may begin its next run before the end of the last one was noted
        # here. Guarded by the lock of Threads.
        self.tenants: list[Tenant] = []
        # Only the watch touches these. There is one watch at a time, except for a moment now and then, when a
        # delivery begins just as the watch ends. Two do no harm: one gets the baton, and both end in a while.
        self._seen_delivery = 0
        self._seen_count = 0

    def ask_flush(self, channel: Channel, flush: Callable[[], object] | None) -> None:
        """Have a channel's queue flushed soon, by whichever thread is free. Any thread.

        Args:
            channel: the channel, which flushes when it is touched.
            flush: flushes on a supervisor's thread; None if only the loop can.
        """
        if flush is not None and self.reader.delivery and not self.reader.has_stand_in:
            # The reader may be in a handler for a long time, and gathered messages must not wait for it: a
            # supervisor flushes immediately. If the reader has a stand-in, that will see the touch; jobs
            # would only pile up behind it.
            self.supervisor.call_soon(flush)
        self.reader.loop.touch(channel)

    def stop(self) -> None:
        """Stop the threads once their current work is done."""
        self.reader.stop()
        self.supervisor.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads have ended. Return False if they have not."""
        end = None if timeout is None else monotonic() + timeout
        if not self.reader.join(timeout):
            return False
        return self.supervisor.join(None if end is None else max(0.0, end - monotonic()))

    def wake(self) -> None:
        """Make the threads read the clock again, because it was advanced."""
        self.reader.loop.look_at_clock()
        self.supervisor.wake()

    def rest(self, *, handlers: bool) -> Rest | None:
        """Return the state of the threads' wait; None while one of them is busy."""
        # The thread that watches over a delivery works again and again until nothing has been delivered for a
        # while. That is of interest only while there is a delivery.
        supervisor = self.supervisor.rest(away=self.reader.has_stand_in, aside=bool(self.reader.delivery))
        reader = self.reader.rest(handlers=handlers)
        return None if reader is None or supervisor is None else reader.beside(supervisor)

    def reset_after_fork(self) -> None:
        """Drop the parent's threads, jobs and channels in the child of a fork."""
        self.supervisor.reset_after_fork()
        self.reader.reset_after_fork()
        self.tasks.reset_after_fork()

    def _failed(self, error: BaseException) -> None:
        """End the apps, because the loop is no longer turned. On the reader's thread."""
        for tenant in self._retire(self):
            try:
                tenant.threads_failed(self, error)
            except BaseException as another:  # noqa: BLE001  it is reported, and the other apps end
                report_aside(logging.ERROR, "unexpected error while %r ends", tenant, error=another)

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
            # There was no delivery for a whole period: the next one will start the watch again.
            reader.is_watched = False
            if not reader.delivery or reader.is_watched:
                return
            reader.is_watched = True  # a delivery began before it could see that the watch has ended
        self._seen_delivery = reader.delivery
        self._look_again()


@refusing_unknown(
    supervisors="workers max_workers threads count size n",
    attempts="max_attempts max_connecting connecting concurrency",
)
class Threads:
    """Threads for apps to share. Without one, each app starts a pair of threads of its own.

    ``shared = Threads()`` and ``WebSocketApp(url, threads=shared)`` let one process hold thousands of
    connections on a handful of threads: one reader, which opens all connections and calls the handlers of all
    apps that share it, and a few supervisors. The threads start with the first app and end with the last.

    Hundreds of connections are opened at the same time. Only what may block runs on other threads: lookups of
    names (at most 16 at a time), the loading of certificates, and the functions given as options. Of the
    attempts that wait because others are under way, those of apps whose last attempt did not fail come first,
    and their hosts take turns; the others follow, beginning with the one that failed least recently, and get
    at most half of all `attempts`. An attempt whose server is silent makes room for one to another host. So
    hosts that do not answer do not delay the others.

    After a fatal error in one of the threads, for example if the selector fails, the apps that run on them
    end: each connection gets its final event, and the error is logged. An app that is started afterwards gets
    new threads.

    Args:
        supervisors: how many supervisor threads there may be, 2 or more. They start the next
            attempt of an app after its back-off, and one stands in for the reader while a handler is slow.
        attempts: how many attempts to connect may be under way at the same time, 1 or more. Those that have
            waited for a silent server for 0.05 to 0.1 s do not count while attempts to other hosts wait,
            unless all would take more than half of the descriptors that the process may have.
        name: becomes part of the threads' names.
        clock: the clock for keepalive, Poll, closing and back-off. None for the clock that `lochws.clock`
            uses when the threads start, which is the machine's unless a test has replaced it.

    Raises:
        TypeError: `supervisors` or `attempts` is not an int, `name` is not a str, or an argument is unknown.
        ValueError: `supervisors` is less than 2, or `attempts` is less than 1.
    """

    def __init__(
        self,
        supervisors: int = 4,
        *,
        attempts: int = ATTEMPTS,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_range("supervisors", supervisors, 2)
        check_range("attempts", attempts, 1)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}: expected a str, or None")
        self._supervisors = supervisors
        self._attempts = attempts
        self._name = name or f"shared-{next(_numbers)}"
        self._clock = clock
        self._lock = control_lock()  # reentrant, because a signal handler may start or end an app
        self._crew: Crew | None = None  # guarded by _lock
        forks.register(self)

    @classmethod
    def private(cls, name: str) -> Threads:
        """Create the pair of threads for one app, which never opens one connection while reading another."""
        threads = cls(name=f"{next(_numbers)}-{name}")
        threads._supervisors = 1
        return threads

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: a copy would keep using the threads after their end."""
        raise TypeError("Threads cannot be copied or pickled: make others with Threads()")

    def reset_after_fork(self) -> None:
        """Make the next app start new threads, in the child of a fork."""
        self._lock = control_lock()
        if self._crew is not None:
            self._crew.reset_after_fork()
        self._crew = None

    def attach(self, tenant: Tenant) -> Crew:
        """Start the threads for an app, or let it share running ones. For lochws itself.

        Raises:
            RuntimeError: no thread can be started.
            OSError: there are no descriptors left.
        """
        crew: Crew | None = None
        try:
            with self._lock:
                while True:
                    crew = self._crew or self._start()
                    crew.tenants.append(tenant)
                    if self._crew is crew:
                        return crew
                    crew.tenants.remove(tenant)  # a signal handler has ended the last app, and so the crew
        except BaseException:  # Ctrl-C: the caller gets no crew to detach the app from
            if crew is not None:
                self.detach(crew, tenant)
            raise

    def detach(self, crew: Crew, tenant: Tenant) -> None:
        """End an app's use of the threads; the last app ends them. For lochws itself."""
        with self._lock:
            with suppress(ValueError):
                crew.tenants.remove(tenant)
            if crew.tenants:
                return
            if self._crew is crew:
                self._crew = None
        crew.stop()

    # Under _lock.

    def _start(self) -> Crew:
        clock = self._clock or current()
        crew = Crew(self._name, self._supervisors, clock, self._retire, self._attempts)
        try:
            try:
                crew.reader.start()
            except RuntimeError as error:
                crew.reader.loop.close()
                raise with_advice(error) from error.__cause__
            if self._crew is not None:  # a signal handler has started a crew meanwhile
                crew.stop()
                return self._crew
            clock.attend(crew)
        except BaseException:  # Ctrl-C may strike when the reader is already running
            crew.stop()
            raise
        self._crew = crew
        return crew

    # Takes _lock.

    def _retire(self, crew: Crew) -> list[Tenant]:
        """Give the next app a new crew, and return the apps of this one."""
        with self._lock:
            if self._crew is crew:
                self._crew = None
            return list(dict.fromkeys(crew.tenants))
