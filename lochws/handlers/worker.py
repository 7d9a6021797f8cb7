"""Worker: a handler that has an executor process events, in threads, in processes or on other machines.

::

    with ThreadPoolExecutor(4) as executor:
        worker = Worker(store, executor, key=lambda event: event.json["product"])
        app = WebSocketApp("wss://feed.example.org")
        app.add_handler(worker)
        app.run_forever()
        worker.drain()

`store` is called with each message: in order for the same product, in parallel for different ones. Any
`concurrent.futures.Executor` will do: those of the standard library, or ``client.get_executor(pure=False)``
of a `dask.distributed.Client`. Several workers may share one.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from .. import events
from ..dispatch.callables import check_callable
from ..dispatch.naming import CLASSES, EventName, methods_of
from ..options import MIB, check_range
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import is_interrupt, report
from ..system.waits import wait_for
from ._parts.bounded_inbox import BoundedInbox, Turn, WhenFull
from ._parts.checks import wanted_events

#: Called with an event and the completed future of the work on it.
OnDone: TypeAlias = Callable[[events.Event, "Future[Any]"], object]


class WorkCounts(NamedTuple):
    """Counts of a worker's events by their fate.

    Attributes:
        received: how many events have arrived: the sum of all others, and those in handlers that wait for
            room.
        waiting: how many events wait in the inbox.
        running: how many events the executor has.
        done: how many events were processed.
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
    """An event, and what the work gets for it."""

    event: events.Event
    argument: Any


class Worker:
    """A handler that has an executor process events, in order and within bounds.

    Events with the same key are processed one after another, in order. Without `key` all of a worker's events
    keep their order; give each app a worker of its own, and the apps' events are processed in parallel.

    Exceptions raised by the work are logged, and so are dropped events, both at a limited rate. A worker has
    no thread of its own: each completed job hands over the next one. So work continues after the app has
    stopped, until none is left; `drain` waits for that.

    Processes and Dask get copies of the work and of the events, so both must be picklable, and only the
    result of the work comes back, in the future that `on_done` gets.

    All methods may be called from any thread; all but `take` and `drain` return at once.

    Args:
        work: a function that takes one argument, the event; or an object with methods for events, as for
            `WebSocketApp.add_handler` (but without ``on_error``, ``on_batch`` and ``on_sent``).
        executor: where the work is called.
        events: which events a function gets, by name or class; by default text and binary messages. An object
            gets the events that it has methods for.
        key: a function that returns the key of an event; events with the same key stay in order. Called on
            the handlers' thread. None: all events have the same key.
        payload: a function that returns what the work gets instead of the event. Called on the handlers'
            thread.
        when_full: what happens to an event if the inbox is full.
            ``"pause"``: the handler waits for room, and all later events wait behind it. Nothing is lost:
            soon nothing more is read, and TCP holds the server back. Pings are still answered.
            ``"drop_oldest"``: the event that has waited longest is dropped.
            ``"latest"``: the oldest waiting event with the same key is dropped, or else one of another key of
            which newer ones wait. So each key keeps its latest event. If there is no room for one event of
            each key, the handler waits.
        max_events: how many events may wait.
        max_bytes: how much memory the messages that wait may take, in bytes. One may always wait.
        parallel: how many events the executor may have at once: at least as many as it has threads or
            processes. These are not dropped any more.
        on_done: called with each event and its completed future, on the thread that did the work, before the
            next event of the same key begins. The future fails if the work raised, was cancelled, or could
            not be handed over. `on_done` must not use the executor, which may hold a lock while it reports a
            failure.

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
            # The registry finds methods of objects too, so no events are created that nothing would handle.
            setattr(self, f"on_{name}", self.take)
        forks.register(self)

    @property
    def counts(self) -> WorkCounts:
        """Counts of the events by their fate."""
        with self._inbox.lock:
            waiting = len(self._inbox)
            return WorkCounts(
                self._received, waiting, self._running, self._done, self._failed, self._dropped
            )

    def take(self, event: events.Event) -> None:
        """Queue an event, as the handler does: for loops that iterate a `WebSocket`.

        Waits, if the rule is to wait, until there is room or the worker is closed. What `key` and `payload`
        raise is raised here.
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
            if threading.get_ident() in self._handing:
                inbox.append(job, cost, key)  # a finalizer, which would wait for its own thread
                break
            inbox.wait_for_room(cost)
        self._hand_over()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all work is done. Called from within the work it would wait for itself.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether all work is done.
        """
        inbox = self._inbox
        with inbox.lock:
            wait_for(inbox.changed, lambda: not (len(inbox) or self._running), timeout)
        return not (len(inbox) or self._running)

    def close(self) -> int:
        """Drop all waiting events, and those that still arrive. What the executor has, continues.

        Returns at once. A handler that waits for room continues, so nothing keeps the app from ending.

        Returns:
            How many events were dropped; they are counted and logged.
        """
        dropped = len(self._inbox.close())
        with self._inbox.lock:
            self._dropped += dropped
        if dropped:
            report(logging.WARNING, "a worker was closed and dropped %d waiting events", dropped)
        return dropped

    def reset_after_fork(self) -> None:
        """Begin anew in the child of a fork: what waits and runs is the parent's."""
        self._inbox = self._make_inbox()  # its lock guards the numbers below, too
        self._running = self._received = self._done = self._failed = self._dropped = 0
        self._handing: set[int] = set()  # threads that are in _hand_over
        self._called_again: set[int] = set()  # those that were to hand over meanwhile
        self._drop_lines, self._failure_lines = RateLimit(), RateLimit()

    def _hand_over(self) -> None:
        """Give the executor as much as it may have.

        A job may be done as soon as it is handed over, and then calls this on the same thread. Only the
        outermost call goes on, so that the stack does not grow.
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
                self._submit(turn.value).add_done_callback(partial(self._ended, turn, turn.value))
        finally:
            self._handing.discard(thread)
            if thread in self._called_again:  # by a signal handler, say, after the last look into the inbox
                self._hand_over()

    def _submit(self, job: _Job) -> Future[Any]:
        work = self._work.get(job.event.name, self._any)
        try:
            return self._executor.submit(work, job.argument)  # type: ignore[arg-type]  # one of them is there
        except Exception as error:  # noqa: BLE001  it is shut down or broken, or cannot pickle this
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
            self._end_turn(turn, error)

    def _end_turn(self, turn: Turn[_Job], error: BaseException | None) -> None:
        with self._inbox.lock:
            self._running -= 1
            if error is None:
                self._done += 1
            else:
                self._failed += 1
            self._inbox.end_turn(turn)
        if isinstance(error, (CancelledError, BrokenExecutor)) and threading.get_ident() not in self._handing:
            # The executors of the standard library report these while they hold a lock that `submit` takes.
            threading.Thread(target=self._hand_over, name="lochws-worker", daemon=True).start()
        else:
            self._hand_over()


def _memory_of(event: events.Event) -> int:
    """About how many bytes of memory the payload of an event takes; a character may take four."""
    if isinstance(event, events.Text):
        text = event.text
        return len(text) if text.isascii() else sys.getsizeof(text)
    return len(getattr(event, "data", b""))


def _work_by_event(
    work: Callable[[Any], object] | object, wanted: Iterable[EventName] | None
) -> dict[str, Callable[[Any], object]]:
    """Return what to call for each event, by name; picklable if `work` is."""
    if callable(work):
        check_callable(work)
        return dict.fromkeys(wanted_events(("text", "binary") if wanted is None else wanted), work)
    if wanted is not None:
        raise TypeError(f"events={wanted!r}: an object gets the events that it has methods for")
    methods: dict[str, list[Callable[[Any], object]]] = {}
    for name, method in methods_of(work):
        if name not in CLASSES and name != "event":
            raise TypeError(f"{work!r} has on_{name}, which a worker does not call; on_done gets failures")
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
