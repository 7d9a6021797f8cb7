"""Work on events elsewhere than on the reader's thread: in threads, in processes, on other machines.

::

    with ThreadPoolExecutor(4) as executor:
        worker = Worker(store, executor, key=lambda event: event.json["product"])
        app = WebSocketApp("wss://feed.example.org")
        app.add_handler(worker)
        app.run_forever()
        worker.drain()

`store` is called with each message, for one product in order and for different ones at the same time. Any
`concurrent.futures.Executor` will do: those of the standard library, or ``client.get_executor(pure=False)``
of a `dask.distributed.Client`. Several workers may share one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from .. import events
from ..dispatch.callables import check_callable
from ..dispatch.naming import CLASSES, EventName, methods_of
from ..options import MIB, check_choice, check_range
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import Waiters, slice_of, wait_for
from ._parts.checks import wanted_events
from ._parts.worker_queue import OLDEST, Chain, Chains, Entry

#: Called with an event and the future of the work on it, which is done.
OnDone: TypeAlias = Callable[[events.Event, "Future[Any]"], object]


class WorkCounts(NamedTuple):
    """What became of the events; the first is the sum of all others.

    Attributes:
        received: events that came.
        waiting: those that wait now.
        running: those that are with the executor now.
        done: those that were worked on.
        failed: those on which the work raised, or which the executor did not take.
        dropped: those that a full inbox left no room for, or that came or still waited when it was closed.
    """

    received: int
    waiting: int
    running: int
    done: int
    failed: int
    dropped: int


class Worker:
    """A handler that has an executor do the work, in order and within bounds.

    Events with the same key are worked on one after another, in order, each when the one before is done.
    Without `key` all have the same: a worker for each app keeps the app's order, and apps run side by side.

    What the work raises is logged, and so are dropped events, both at a limited rate. The handler has no
    thread of its own (but for moments when an executor breaks): what waits goes to the executor on the thread
    that has done the work before. So work goes on after the app is over, until none is left: `drain` waits
    for that.

    With processes and with Dask the work is a copy of what was given here, and so are the events: both have
    to be picklable, and only what the work returns comes back, in the future that `on_done` gets.

    Args:
        work: a function of one argument, the event; or an object with methods for events, as for
            `add_handler` (but not ``on_error``, ``on_batch`` and ``on_sent``).
        executor: where it is called.
        events: which events a function gets, by name or class; an object gets those that it has methods for.
        key: finds in an event what its order is kept by. Called on the reader's thread.
        payload: makes of an event what the work gets in its place. Called on the reader's thread.
        when_full: what happens to an event that finds no room:
            ``"pause"``: it waits, and so do all events behind it. Nothing is lost: soon nothing more is read,
            and TCP holds the server back. Pings are still answered.
            ``"drop_oldest"``: the event that has waited longest is dropped.
            ``"latest"``: the oldest event of the same key is dropped, or else of another one of which several
            wait. So each key keeps its latest. If there is no room for all keys, it is as with pause.
        max_events: how many events may wait.
        max_bytes: how many bytes, or characters, the messages that wait may have; one may always wait.
        parallel: how many events may be with the executor at once; better not fewer than it has threads or
            processes. What is with it is not dropped any more.
        on_done: gets each event with its future, on the thread that has done the work, before the next of the
            same key begins. The future fails if the work raised, was cancelled, or could not be handed over.
            It must not use the executor: that may have a lock held while it tells of a failure.

    Raises:
        TypeError, ValueError: an argument is wrong; the message says which and what would be right.
    """

    def __init__(
        self,
        work: Callable[[Any], object] | object,
        executor: Executor,
        *,
        events: Iterable[EventName] | None = None,
        key: Callable[[Any], Hashable] | None = None,
        payload: Callable[[Any], Any] | None = None,
        when_full: Literal["pause", "drop_oldest", "latest"] = "pause",
        max_events: int = 1000,
        max_bytes: int = 16 * MIB,
        parallel: int = 32,
        on_done: OnDone | None = None,
    ) -> None:
        if not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor={executor!r}: expected a concurrent.futures.Executor")
        check_choice("when_full", when_full, ("pause", "drop_oldest", "latest"))
        check_range("max_events", max_events, 1)
        check_range("max_bytes", max_bytes, 1)
        check_range("parallel", parallel, 1)
        self._work = _work_by_event(work, events)
        self._any = self._work.get("event")
        self._executor = executor
        self._key, self._payload, self._on_done = key, payload, on_done
        self._when_full = when_full
        self._max_events, self._max_bytes, self._parallel = max_events, max_bytes, parallel
        self._begin()
        for name in self._work:
            # The registry takes methods of objects too: no event that nobody asked for is made for this one.
            setattr(self, f"on_{name}", self.take)
        forks.register(self)

    def _begin(self) -> None:
        # Guards all below; a leaf. Reentrant: a signal handler may close, or look at `counts`.
        self._lock = threading.RLock()
        self._changed = Waiters(self._lock)
        self._inbox = Chains()
        self._running = self._received = self._done = self._failed = self._dropped = 0
        self._closed = False
        self._handing: set[int] = set()  # threads that are in _hand_over
        self._drops, self._failures = RateLimit(), RateLimit()

    @property
    def counts(self) -> WorkCounts:
        """What has become of the events so far. Any thread."""
        with self._lock:
            return WorkCounts(
                self._received, len(self._inbox), self._running, self._done, self._failed, self._dropped
            )

    def take(self, event: events.Event) -> None:
        """Take an event, as the handler does: for loops that iterate a `WebSocket`.

        Waits, if there is no room, until there is or the worker is closed.
        """
        key = None if self._key is None else self._key(event)
        hash(key)  # one that has none is refused before it is waited for
        argument = event if self._payload is None else self._payload(event)
        entry = Entry(event, argument)
        with self._lock:
            self._received += 1
            dropped = self._make_room(key, entry.cost)
            if self._closed:
                dropped += 1
            else:
                self._inbox.put(key, entry)
            self._dropped += dropped
            more = self._drops.take() if dropped else None
        if more is not None:
            why = "was closed" if self._closed else f"is full ({self._when_full})"
            report(logging.WARNING, "an event was dropped, for the inbox of a worker %s%s", why, more)
        self._hand_over()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits and nothing runs. Not for the work itself, which would wait for itself.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether all work is done.
        """
        with self._lock:
            return wait_for(self._changed, lambda: not (len(self._inbox) or self._running), timeout)

    def close(self) -> int:
        """Drop what waits, and what still comes. What is with the executor goes on. Never blocks.

        A handler that waits for room goes on at once: so nothing keeps the app from ending.

        Returns:
            How many events were dropped; they are counted and logged.
        """
        with self._lock:
            self._closed = True
            dropped = self._inbox.clear()
            self._dropped += dropped
            self._changed.notify_all()
        if dropped:
            report(
                logging.WARNING, "a worker was closed while %d events were waiting: they are dropped", dropped
            )
        return dropped

    def reset_after_fork(self) -> None:
        """In the child of a fork: what waits and runs is the parent's."""
        self._begin()

    def _make_room(self, key: Hashable, cost: int) -> int:
        """Wait or drop until there is room, and return how many were dropped. The lock is held."""
        inbox, dropped = self._inbox, 0
        while not self._closed and (
            len(inbox) >= self._max_events or (len(inbox) and inbox.cost + cost > self._max_bytes)
        ):
            if self._when_full == "pause" or not inbox.drop(key if self._when_full == "latest" else OLDEST):
                self._changed.wait(slice_of(None))
            else:
                dropped += 1
        return dropped

    def _hand_over(self) -> None:
        """Give the executor as much as it may have.

        Work can be done as soon as it is handed over, and then calls this on the same thread: only the outer
        call goes on, so that the stack does not grow.
        """
        thread = threading.get_ident()
        if thread in self._handing:
            return
        self._handing.add(thread)
        try:
            while True:
                with self._lock:
                    chain = self._inbox.next() if self._running < self._parallel else None
                    if chain is None:
                        return
                    entry = self._inbox.take(chain)
                    self._running += 1
                    self._changed.notify_all()  # there is room
                self._submit(entry).add_done_callback(partial(self._ended, chain, entry))
        finally:
            self._handing.discard(thread)

    def _submit(self, entry: Entry) -> Future[Any]:
        work = self._work.get(entry.event.name, self._any)
        try:
            return self._executor.submit(work, entry.argument)  # type: ignore[arg-type]  # one of them is there
        except Exception as error:  # noqa: BLE001  that it is shut down, broken, or cannot pickle this
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _ended(self, chain: Chain, entry: Entry, future: Future[Any]) -> None:
        error = CancelledError("cancelled") if future.cancelled() else future.exception()
        with self._lock:
            more = None if error is None else self._failures.take()
        if more is not None:
            report(logging.ERROR, "work on the event %s has failed%s", entry.event.name, more, error=error)
        if self._on_done is not None:
            try:
                self._on_done(entry.event, future)
            except Exception as unexpected:  # noqa: BLE001  it is reported
                report(logging.ERROR, "unexpected error in on_done of a worker", error=unexpected)
        with self._lock:
            self._running -= 1
            self._inbox.release(chain)
            if error is None:
                self._done += 1
            else:
                self._failed += 1
            self._changed.notify_all()
        if isinstance(error, (CancelledError, BrokenExecutor)) and threading.get_ident() not in self._handing:
            # The executors of the standard library tell of these with a lock held that `submit` takes.
            threading.Thread(target=self._hand_over, name="lochws-worker", daemon=True).start()
        else:
            self._hand_over()


def _work_by_event(
    work: Callable[[Any], object] | object, wanted: Iterable[EventName] | None
) -> dict[str, Callable[[Any], object]]:
    """What to call for which event, picklable if what was given is."""
    if callable(work):
        check_callable(work)
        return dict.fromkeys(wanted_events(("text", "binary") if wanted is None else wanted), work)
    if wanted is not None:
        raise TypeError(f"events={wanted!r}: an object gets the events that it has methods for")
    methods: dict[str, list[Callable[[Any], object]]] = {}
    for name, method in methods_of(work):
        if name not in CLASSES and name != "event":
            raise TypeError(f"{work!r} has on_{name}, which a worker does not call; on_done gets what fails")
        methods.setdefault(name, []).append(method)
    if not methods:
        raise TypeError(f"{work!r} is no function, and has no method on_<event>, such as on_text")
    first = methods.get("event", [])
    return {name: _all_of(first + own if name != "event" else own) for name, own in methods.items()}


def _all_of(functions: list[Callable[[Any], object]]) -> Callable[[Any], object]:
    return functions[0] if len(functions) == 1 else partial(_call_each, functions)


def _call_each(functions: list[Callable[[Any], object]], argument: Any) -> None:
    for function in functions:
        function(argument)
