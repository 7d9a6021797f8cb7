"""Worker: a handler that passes events to an executor, for work in threads, processes or other machines.

::

    with ThreadPoolExecutor(4) as executor:
        worker = Worker(store, executor, key=lambda event: event.json["product"])
        app = WebSocketApp("wss://feed.example.org")
        app.add_handler(worker)
        app.run_forever()
        worker.drain()

`store` is called with each message: in order for the same product, in parallel for different ones. Any
`concurrent.futures.Executor` can be used: those of the standard library, or
``client.get_executor(pure=False)`` of a `dask.distributed.Client`. Several workers may share an executor.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet

from .. import events
from ..dispatch.callables import check_callable
from ..dispatch.naming import CLASSES, EventName, methods_of
from ..engine.bounded_inbox import BoundedInbox, Turn, WhenFull
from ..options import MIB, as_timeout, check_range
from ..system import forks
from ..system.control import check_may_wait, may_wait, start_thread
from ..system.interpreters import new_thread
from ..system.rate_limit import RateLimit
from ..system.report import is_interrupt, report
from ..system.waits import wait_for
from ._parts.checks import wanted_events
from ._parts.executor_threads import Place, place_of_caller

#: A function called with an event and the completed future of its work.
OnDone: TypeAlias = Callable[[events.Event, "Future[Any]"], object]


class WorkCounts(NamedTuple):
    """Counts of a worker's events by outcome.

    Attributes:
        received: events that have arrived: the sum of all others, plus those whose handlers are waiting for
            room.
        waiting: events waiting in the inbox.
        running: events handed to the executor and not completed.
        done: events that were processed.
        failed: events whose work raised an exception or was cancelled, or that the executor refused.
        dropped: events dropped because the inbox was full or the worker was closed.
    """

    received: int
    waiting: int
    running: int
    done: int
    failed: int
    dropped: int


class _Job(NamedTuple):
    """An event, and the argument with which the work is called for it."""

    event: events.Event
    argument: Any


class Worker:
    """A handler that passes events to an executor, in order and within bounds.

    Events with the same key are processed one after another, in order. Without `key` all of a worker's events
    are processed in order; to process the events of several apps in parallel, give each app its own worker.

    Exceptions raised by the work are logged, and so are dropped events, both at a limited rate. A worker has
    no thread of its own: each completed job hands over the next one. So work continues after the app has
    stopped, until the inbox is empty; `drain` waits for that.

    Processes and Dask receive copies of the work and of the events, so both must be picklable. Only the
    result of the work is returned, in the future that is passed to `on_done`.

    All methods may be called from any thread; all but `take` and `drain` return at once.

    Args:
        work: a function that takes one argument, the event; or an object with methods for events, as for
            `WebSocketApp.add_handler` (but without ``on_error``, ``on_batch`` and ``on_sent``).
        executor: the executor that runs the work.
        events: the events passed to a function, by name or class; text and binary messages by default. An
            object receives the events that it has methods for.
        key: a function that returns the key of an event; events with the same key stay in order. Called on
            the handlers' thread. None: all events have the same key.
        payload: a function that returns the argument for the work, in place of the event. Called on the
            handlers' thread.
        when_full: what happens to an event if the inbox is full.
            ``"pause"``: the handler waits for room, and so do all later events. Nothing is lost: lochws soon
            stops reading, and TCP backpressure slows the server down. Pings are still answered.
            ``"drop_oldest"``: the event that has waited longest is dropped.
            ``"latest"``: the oldest waiting event with the same key is dropped; failing that, one of another
            key that has newer events waiting. So each key keeps its latest event. If there is no room for one
            event per key, the handler waits.
        max_events: the maximum number of waiting events.
        max_bytes: the maximum memory for the messages of waiting events, in bytes. A single event is accepted
            whatever its size.
        parallel: the maximum number of events that the executor has at once; at least its number of threads
            or processes. These events are no longer dropped.
        on_done: called with each event and its completed future, on the thread that did the work, before the
            next event with the same key is started. The future fails if the work raised an exception, was
            cancelled, or could not be submitted. `on_done` must not use the executor, which may hold a lock
            while it reports a failure.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    def __init__(
        self,
        work: Callable[[Any], object] | object,
        executor: Executor,
        *,
        events: Iterable[EventName] | None = None,
        key: Callable[[Any], Hashable] | None = None,
        payload: Callable[[Any], Any] | None = None,
        when_full: WhenFull = "pause",
        max_events: int = 1000,
        max_bytes: int = 16 * MIB,
        parallel: int = 32,
        on_done: OnDone | None = None,
    ) -> None:
        if not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor={executor!r}: expected a concurrent.futures.Executor")
        check_range("parallel", parallel, 1)
        self._work = _work_by_event(work, events)
        self._any = self._work.get("event")
        self._executor = executor
        self._key, self._payload, self._on_done = key, payload, on_done
        self._when_full, self._parallel = when_full, parallel
        self._make_inbox: Callable[[], BoundedInbox[_Job]] = partial(
            BoundedInbox, when_full, max_events, max_bytes
        )
        self.reset_after_fork()
        for name in self._work:
            # The registry also finds methods of objects, so events that nothing handles are not created.
            setattr(self, f"on_{name}", self.take)
        forks.register(self)

    @property
    def counts(self) -> WorkCounts:
        """The counts of the events by outcome."""
        with self._inbox.lock:
            waiting = len(self._inbox)
            return WorkCounts(
                self._received, waiting, self._running, self._done, self._failed, self._dropped
            )

    def take(self, event: events.Event) -> None:
        """Queue an event, as the handler does; for use in loops that iterate a `WebSocket`.

        If the inbox is full and `when_full` requires waiting, it waits until there is room or the worker is
        closed. The work may call it, too, and waits for other jobs of this worker to make room. `on_done`
        never waits, and neither does the work if no other job can make room, nor a signal handler or
        finalizer that interrupts lochws: the event is then queued beyond the limits. Exceptions raised by
        `key` and `payload` propagate.
        """
        key = None if self._key is None else self._key(event)
        hash(key)  # an unhashable key is refused before anything is counted
        job = _Job(event, event if self._payload is None else self._payload(event))
        cost = _memory_of(event)
        inbox = self._inbox
        with inbox.lock:
            self._received += 1
        while True:
            is_settled, dropped = inbox.offer(job, cost, key)
            if dropped:
                with inbox.lock:
                    self._dropped += len(dropped)
                why = "was closed" if inbox.is_closed else f"is full ({self._when_full})"
                report(
                    logging.WARNING, "a worker dropped an event: its inbox %s", why, limit=self._drop_lines
                )
            if is_settled:
                break
            if not self._wait_for_room(cost):
                inbox.append(job, cost, key)
                break
        self._hand_over()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all work is done. Must not be called by the work, which would wait for itself.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether all work is done.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: called while work is left, by a signal handler or finalizer that interrupts
                lochws, with a timeout other than 0.
        """
        timeout = as_timeout("drain", timeout)
        inbox = self._inbox
        if timeout != 0 and (len(inbox) or self._running):
            check_may_wait("drain")
        with inbox.lock:
            wait_for(inbox.changed, lambda: not (len(inbox) or self._running), timeout)
        return not (len(inbox) or self._running)

    def close(self) -> int:
        """Drop all waiting events and all that arrive later. Events already in the executor are completed.

        Returns at once. Handlers that are waiting for room continue, so that the app can stop.

        Returns:
            The number of events dropped; they are counted and logged.
        """
        dropped = len(self._inbox.close())
        with self._inbox.lock:
            self._dropped += dropped
        if dropped:
            report(logging.WARNING, "a worker was closed and dropped %d waiting events", dropped)
        return dropped

    def reset_after_fork(self) -> None:
        """Start afresh in the child of a fork: waiting and running events belong to the parent."""
        self._inbox = self._make_inbox()  # its lock also guards the numbers below
        self._running = self._received = self._done = self._failed = self._dropped = 0
        self._running_futures: set[Future[Any]] = set()
        # All of them, since a thread may still be busy with one that has ended.
        self._futures: WeakSet[Future[Any]] = WeakSet()
        self._held_up = 0  # jobs whose work waits for room
        self._handing: set[int] = set()  # threads that are in _hand_over
        self._called_again: set[int] = set()  # those of them that were called again meanwhile
        self._drop_lines, self._failure_lines = RateLimit(), RateLimit()

    def _wait_for_room(self, cost: int) -> bool:
        """Wait until there may be room; return False at once if the caller would wait for itself.

        These threads are needed to make room: one that hands over jobs or ends one, which may call this in a
        finalizer; one that holds a lock; and one that does a job, unless there is another job that
        is not waiting here itself.
        """
        if threading.get_ident() in self._handing or not may_wait():
            return False
        with self._inbox.lock:  # no other thread can change the numbers before the wait
            place = place_of_caller(self._running_futures, self._futures)
            if place is Place.INSIDE or (place is Place.AT_WORK and self._running - self._held_up < 2):
                return False
            self._held_up += place is Place.AT_WORK
            try:
                self._inbox.wait_for_room(cost)
            finally:
                self._held_up -= place is Place.AT_WORK
        return True

    def _hand_over(self) -> None:
        """Submit jobs until the executor has `parallel` of them, or none is waiting.

        A job may complete as soon as it is submitted, and then calls this on the same thread. Only the
        outermost call continues, so that the stack does not grow.
        """
        thread = threading.get_ident()
        if thread in self._handing:
            self._called_again.add(thread)
            return
        self._handing.add(thread)
        try:
            while True:
                self._called_again.discard(thread)
                with self._inbox.lock:
                    turn = self._inbox.take_turn() if self._running < self._parallel else None
                    if turn is None:
                        return
                    self._running += 1
                future = self._submit(turn.value)
                with self._inbox.lock:
                    self._running_futures.add(future)
                    self._futures.add(future)
                    self._inbox.changed.notify_all()  # its work may wait already, as if it were anybody's
                future.add_done_callback(partial(self._ended, turn, turn.value))
        finally:
            self._handing.discard(thread)
            if thread in self._called_again:  # by a signal handler, say, after the inbox was found empty
                self._hand_over()

    def _submit(self, job: _Job) -> Future[Any]:
        work = self._work.get(job.event.name, self._any)
        try:
            return self._executor.submit(work, job.argument)  # type: ignore[arg-type]  # never None here
        except Exception as error:  # noqa: BLE001  shut down or broken, or the job cannot be pickled
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _ended(self, turn: Turn[_Job], job: _Job, future: Future[Any]) -> None:
        error = CancelledError("cancelled") if future.cancelled() else future.exception()
        if error is not None:
            words = "the work on an event failed: %s"
            report(logging.ERROR, words, job.event.name, error=error, limit=self._failure_lines)
        try:
            if self._on_done is not None:
                self._on_done(job.event, future)
        except BaseException as unexpected:
            if is_interrupt(unexpected):
                raise
            words = "on_done of a worker failed"
            report(logging.ERROR, words, error=unexpected, limit=self._failure_lines)
        finally:
            self._end_turn(turn, future, error)

    def _end_turn(self, turn: Turn[_Job], future: Future[Any], error: BaseException | None) -> None:
        with self._inbox.lock:
            self._running_futures.discard(future)
            self._running -= 1
            if error is None:
                self._done += 1
            else:
                self._failed += 1
            self._inbox.end_turn(turn)
        if isinstance(error, (CancelledError, BrokenExecutor)) and threading.get_ident() not in self._handing:
            # The standard library's executors report these while holding a lock that `submit` needs.
            start_thread(new_thread(self._hand_over, "lochws-worker"))
        else:
            self._hand_over()


def _memory_of(event: events.Event) -> int:
    """Return the approximate memory of an event's payload, in bytes; a character may take four."""
    if isinstance(event, events.Text):
        text = event.text
        return len(text) if text.isascii() else sys.getsizeof(text)
    return len(getattr(event, "data", b""))


def _work_by_event(
    work: Callable[[Any], object] | object, wanted: Iterable[EventName] | None
) -> dict[str, Callable[[Any], object]]:
    """Return the function to call for each event, by name; picklable if `work` is."""
    if callable(work):
        check_callable(work)
        return dict.fromkeys(wanted_events(("text", "binary") if wanted is None else wanted), work)
    if wanted is not None:
        raise TypeError(f"events={wanted!r}: an object receives the events that it has methods for")
    methods: dict[str, list[Callable[[Any], object]]] = {}
    for name, method in methods_of(work):
        if not isinstance(name, str):
            raise TypeError(f"{work!r} has a {name!r}, which a worker does not call: add it to the app")
        if name not in CLASSES and name != "event":
            raise TypeError(f"{work!r} has on_{name}, which a worker does not call; failures go to on_done")
        methods.setdefault(name, []).append(method)
    if not methods:
        raise TypeError(
            f"work={work!r}: expected a function, or an object with methods on_<event>, such as on_text"
        )
    first = methods.get("event", [])
    return {name: _all_of(first + own if name != "event" else own) for name, own in methods.items()}


def _all_of(functions: list[Callable[[Any], object]]) -> Callable[[Any], object]:
    return functions[0] if len(functions) == 1 else partial(_call_each, functions)


def _call_each(functions: list[Callable[[Any], object]], argument: Any) -> None:
    for function in functions:
        function(argument)
