"""Relay: a handler that adds events to a Redis stream, a durable log that other machines can read.

::

    app = WebSocketApp("wss://feed.example.org")
    with Relay(app, "feed", "redis://localhost:6379"):
        app.run_forever()

Needs redis-py: ``pip install 'lochws[redis]'``. Each event becomes an entry of the stream, with these fields:

==============  ========================================================================================
``id``          identifies the event across repeated entries: the relay's run, connection and sequence
``event``       the name of the event, such as ``text``
``data``        the message as bytes, text as UTF-8; for any other event its attributes as JSON
``time``        when the event was created, in seconds since the epoch
``source``      the server's URL without credentials and without the values in its query, or `source`
``connection``  1 for the first attempt to connect, and so on
``sequence``    1 for the first event of that attempt, and so on; a gap means that events are missing
==============  ========================================================================================

An event counts as relayed once Redis has acknowledged it. The number of unacknowledged events is bounded. By
default the handler waits while Redis is slow or unavailable: no more data is read, so TCP backpressure slows
the server down. Entries that were sent but not acknowledged are sent again, in the same order, so an entry
may appear twice; readers can detect duplicates by their ``id``. Whether an acknowledged entry survives a
crash of Redis depends on its settings ``appendonly`` and ``appendfsync``.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from math import inf
from time import monotonic
from typing import NamedTuple

from .. import WebSocketApp, events
from ..dispatch.naming import EventName
from ..engine.bounded_inbox import WhenFull
from ..options import MIB, as_timeout, check_number, check_range, check_seconds
from ..system import forks
from ..system.control import check_may_wait, start_thread
from ..system.interpreters import at_end, new_thread, not_at_end
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import join
from ..url import without_secrets
from ._parts.checks import check_app, wanted_events
from ._parts.redis_stream import Client, Entry, Sender, Unacknowledged, client_of

#: The interval at which a handler waiting for room checks whether the app is stopping, in seconds.
LOOK_SECONDS = 0.2
#: The time allowed for the thread to end after its Redis connection has been closed, in seconds.
_GRACE = 1.0


class RelayCounts(NamedTuple):
    """Counts of a relay's events by outcome.

    Attributes:
        received: events that have arrived: the sum of the next three, plus one while the handler waits.
        relayed: events that Redis has acknowledged.
        waiting: events that Redis has not acknowledged yet.
        dropped: events dropped according to `when_full`, or because there was still no room when the app or
            the relay ended.
        failures: batches that were not acknowledged; Redis may have received them nevertheless.
    """

    received: int
    relayed: int
    waiting: int
    dropped: int
    failures: int


class Relay:
    """A handler that relays the events of one app to a Redis stream. Registers itself with the app.

    The relay's own thread talks to Redis. It starts with the first event and ends with `close`, which is
    called at the end of a ``with`` block and at interpreter shutdown.

    All methods may be called from any thread; only `close` waits.

    Args:
        app: the app.
        stream: the key of the stream.
        redis: a URL in the format of `redis.Redis.from_url`; or a redis-py client, whose own timeouts and
            retries apply, and which the relay never closes.
        events: which events to relay, by name or class; ``["event"]`` for all.
        source: the ``source`` field of the entries, to tell several relays apart; None for the URL.
        key: a function that returns the key of an event, for ``when_full="latest"``. Called on the handlers'
            thread. None: all events have the same key.
        when_full: what happens to an event if there is no room.
            ``"pause"``: the handler waits for room, and so do all later events. Nothing is lost if Redis
            recovers in time.
            ``"drop_oldest"``: the event that has waited longest is dropped.
            ``"latest"``: the oldest waiting event with the same key is dropped; failing that, one of another
            key that has newer events waiting; failing that, the handler waits.
            Events that are being sent are never dropped.
        maxlen: the approximate maximum number of entries in the stream; None for no limit.
        batch: the maximum number of entries sent at once. A batch is added completely or not at all (MULTI).
        max_events: the maximum number of unacknowledged events.
        max_bytes: the maximum size of their data in bytes. A single event is accepted whatever its size.
        timeout: seconds that Redis may take to answer before the relay retries on a new connection.
        min_wait, max_wait: the shortest and the longest wait between two attempts, in seconds; the wait
            doubles from one to the other.
        close_timeout: how long the handler waits for room while the app is stopping, and how long `close`
            waits for Redis, in seconds.

    Raises:
        ImportError: redis-py is not installed.
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    def __init__(
        self,
        app: WebSocketApp,
        stream: str,
        redis: str | Client = "redis://127.0.0.1:6379",
        *,
        events: Iterable[EventName] = ("ready", "text", "binary", "disconnected"),
        source: str | None = None,
        key: Callable[[events.Event], Hashable] | None = None,
        when_full: WhenFull = "pause",
        maxlen: int | None = None,
        batch: int = 100,
        max_events: int = 10_000,
        max_bytes: int = 16 * MIB,
        timeout: float | None = 5.0,
        min_wait: float = 0.1,
        max_wait: float = 5.0,
        close_timeout: float = 10.0,
    ) -> None:
        check_app(app)
        if not isinstance(stream, str) or not stream:
            raise TypeError(f"stream={stream!r}: expected the key of a stream, a str")
        if not (key is None or callable(key)):
            raise TypeError(f"key={key!r}: expected a function of one argument, or None")
        check_range("batch", batch, 1)
        if maxlen is not None:
            check_range("maxlen", maxlen, 1)
        for name, value in (("timeout", timeout), ("close_timeout", close_timeout)):
            check_seconds(name, value)
        for name, value in (("min_wait", min_wait), ("max_wait", max_wait)):
            check_number(name, value, 0)
        if not 0 < min_wait <= max_wait:
            raise ValueError(f"min_wait={min_wait!r}, max_wait={max_wait!r}: expected 0 < min <= max")
        self._app = app
        self._wanted = frozenset(wanted_events(events))
        self._key, self._source, self._close_timeout = key, source, close_timeout
        self._make_queue = partial(Unacknowledged, when_full, max_events, max_bytes)
        self.reset_after_fork()
        self._is_ours = isinstance(redis, str)
        self._client = client_of(redis, timeout) if isinstance(redis, str) else redis
        self._sender = Sender(self._client, stream, maxlen, batch, min_wait, max_wait)
        forks.register(self)
        # These events tell connections apart, so they are needed whatever `events` contains.
        bounds = () if "event" in self._wanted else ("connecting", "connect_fail", "disconnected")
        app.on(*self._wanted, *bounds)(self._take)

    @property
    def counts(self) -> RelayCounts:
        """The counts of the events by outcome."""
        queue = self._queue
        with queue.inbox.lock:
            waiting = len(queue.inbox)
            return RelayCounts(self._received, queue.relayed, waiting, self._dropped, queue.failures)

    @property
    def unrelayed(self) -> list[Entry]:
        """The events that Redis has not acknowledged, oldest first. They are no longer sent after `close`.

        Redis may have stored some of them even though its acknowledgement never arrived.
        """
        return self._queue.inbox.values()

    def close(self, timeout: float | None = None) -> list[Entry]:
        """Wait until Redis has acknowledged all waiting events, and stop. May be called again.

        Calling it in a handler blocks the app's other handlers meanwhile.

        Args:
            timeout: seconds to wait at most; None for `close_timeout`.

        Returns:
            The events that were not acknowledged in time, oldest first; their number is also logged.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: called by a signal handler or finalizer that interrupts lochws, with a timeout
                other than 0.
        """
        timeout = as_timeout("close", self._close_timeout if timeout is None else timeout)
        timeout = inf if timeout is None else timeout
        queue = self._queue
        if timeout != 0 and not queue.is_over and queue.thread is not None:
            check_may_wait("close")
        not_at_end(self.close)
        with queue.inbox.lock:
            if queue.is_over:
                return queue.inbox.values()
            queue.close_by = monotonic() + timeout
            queue.inbox.changed.notify_all()
            thread = queue.thread
        is_idle = thread is None or join(thread, timeout)
        with queue.inbox.lock:
            queue.is_over = True
            queue.inbox.changed.notify_all()
            unrelayed = queue.inbox.values()
        if self._is_ours:
            self._client.close()  # interrupts the thread if it is waiting for Redis
            if thread is not None and not is_idle:
                join(thread, _GRACE)
        if unrelayed:
            report(
                logging.ERROR,
                "%d events were not relayed to the stream %s: Redis did not acknowledge %s to %s",
                len(unrelayed), self._sender.stream, unrelayed[0].id, unrelayed[-1].id,
            )
        return unrelayed

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the relay."""
        self.close()

    def reset_after_fork(self) -> None:
        """Start afresh in the child of a fork: the waiting events and the thread belong to the parent."""
        self._run_id = secrets.token_hex(8)
        # Used only by the handlers' thread.
        self._url = ""
        self._connection = self._sequence = 0
        self._is_over = True
        self._stop_by: float | None = None
        # Guarded by the lock of the inbox.
        self._queue = self._make_queue()
        self._received = self._dropped = 0
        self._drop_lines, self._pause_lines = RateLimit(), RateLimit(burst=3, per_second=1 / 60)

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.Connecting):
            self._url = without_secrets(event.url)
            if self._is_over:  # otherwise this is a redirect
                self._connection, self._sequence, self._is_over = self._connection + 1, 0, False
        elif isinstance(event, (events.ConnectFail, events.Disconnected)):
            self._is_over = True
        if event.name not in self._wanted and "event" not in self._wanted:
            return
        key = None if self._key is None else self._key(event)
        hash(key)  # an unhashable key is refused before anything is counted
        self._sequence += 1
        number = f"{self._run_id}-{self._connection}-{self._sequence}"
        source = self._url if self._source is None else self._source
        self._put(key, Entry(
            number, event.name, _data(event), event.received_time, source, self._connection, self._sequence
        ))

    def _put(self, key: Hashable, entry: Entry) -> None:
        """Queue an entry for sending, waiting for room first."""
        queue, size = self._queue, len(entry.data)
        with queue.inbox.lock:
            self._received += 1
            if self._received == 1:
                at_end(self.close)
        while True:
            self._start_thread()
            is_settled, dropped = (True, [entry]) if queue.close_by is not None else (
                queue.inbox.offer(entry, size, key)
            )
            if not is_settled and self._is_time_over():
                is_settled, dropped = True, [*dropped, entry]
            self._count_dropped(dropped)
            if is_settled:
                return
            report(
                logging.WARNING, "a relay waits for Redis, with %d events: the receiver pauses",
                len(queue.inbox), limit=self._pause_lines,
            )
            with queue.inbox.lock:
                queue.inbox.wait_for_room(size, LOOK_SECONDS)

    def _is_time_over(self) -> bool:
        """Return whether the app has been stopping for `close_timeout`, so that the event must be dropped."""
        if not self._app.is_stopping:
            self._stop_by = None
            return False
        if self._stop_by is None:
            self._stop_by = monotonic() + self._close_timeout
        return monotonic() >= self._stop_by

    def _count_dropped(self, dropped: list[Entry]) -> None:
        if dropped:
            with self._queue.inbox.lock:
                self._dropped += len(dropped)
            report(
                logging.ERROR, "the event %s was not relayed to the stream %s: there was no room",
                dropped[0].id, self._sender.stream, limit=self._drop_lines,
            )

    def _start_thread(self) -> None:
        """Start the thread if it is not running; if that fails, the next event tries again."""
        queue = self._queue
        with queue.inbox.lock:
            if queue.thread is not None or queue.close_by is not None:
                return
            # First, since the lock is free while the thread starts.
            queue.thread = new_thread(self._sender.run, "lochws-relay", queue)
            try:
                start_thread(queue.thread)
                return
            except BaseException as error:
                queue.thread = None
                if not isinstance(error, RuntimeError):
                    raise  # Ctrl-C
                failure = error
        report(
            logging.ERROR, "events for the stream %s wait: cannot start a thread", self._sender.stream,
            error=failure, limit=self._pause_lines,
        )


def _data(event: events.Event) -> bytes:
    if isinstance(event, events.Text):
        return event.text.encode()
    if isinstance(event, (events.Binary, events.Ping, events.Pong)):
        return event.data
    names = sorted(name for kind in type(event).__mro__ for name in getattr(kind, "__slots__", ()))
    attributes = {name: getattr(event, name) for name in names if name not in ("received_time", "_json")}
    for name in ("url", "proxy", "reason", "received_reason", "advice"):  # reasons quote URLs
        if attributes.get(name):
            attributes[name] = without_secrets(attributes[name])
    plain = (str, int, float, type(None))
    shown = {name: value for name, value in attributes.items() if isinstance(value, plain)}
    return json.dumps(shown).encode()
