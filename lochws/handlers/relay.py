"""Relay: a handler that adds events to a Redis stream, a durable log that other machines read.

::

    app = WebSocketApp("wss://feed.example.org")
    with Relay(app, "feed", "redis://localhost:6379"):
        app.run_forever()

Needs redis-py: ``pip install 'lochws[redis]'``. Each event becomes an entry of the stream, with these fields:

==============  ========================================================================================
``id``          identifies the event, in whatever entry: the relay's run, the connection and the sequence
``event``       the name of the event, such as ``text``
``data``        the message as bytes, text in UTF-8; for other events their attributes as JSON
``time``        when the event was created, in seconds of the wall clock
``source``      the server's URL without credentials and without the values in its query, or `source`
``connection``  1 for the first attempt to connect, and so on
``sequence``    1 for the first event of that attempt, and so on; a missing number is a missing event
==============  ========================================================================================

An event counts as relayed once Redis has acknowledged it. How many events may wait for that is bounded. By
default the handler waits when Redis is slow or away: then nothing more is read, and TCP holds the server
back. Entries that were sent and not acknowledged are sent again, in the same order, so an entry may appear
twice: readers recognise it by its ``id``. Whether an acknowledged entry survives a crash of Redis depends on
its settings ``appendonly`` and ``appendfsync``.
"""

from __future__ import annotations

import atexit
import json
import logging
import secrets
import threading
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from time import monotonic
from typing import NamedTuple

from .. import WebSocketApp, events
from ..dispatch.naming import EventName
from ..options import MIB, check_range, check_seconds
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import join
from ..url import without_secrets
from ._parts.bounded_inbox import WhenFull
from ._parts.checks import check_app, wanted_events
from ._parts.redis_stream import Client, Entry, Sender, Unacknowledged, client_of

#: How often a handler that waits for room checks whether the app is stopping, in seconds.
LOOK_SECONDS = 0.2
#: How long the thread has to end after its connection to Redis was closed under it, in seconds.
_GRACE = 1.0


class RelayCounts(NamedTuple):
    """Counts of a relay's events by their fate.

    Attributes:
        received: how many events have arrived: the sum of the next three, and one in a handler that waits.
        relayed: events that Redis has acknowledged.
        waiting: events that Redis has not acknowledged yet.
        dropped: events dropped because too many waited (as `when_full` says), or that found no room before
            the app or the relay ended.
        failures: how many batches were not acknowledged; Redis may have received them all the same.
    """

    received: int
    relayed: int
    waiting: int
    dropped: int
    failures: int


class Relay:
    """A handler that relays the events of one app to a Redis stream. Registers itself with the app.

    A thread of its own talks to Redis. It starts with the first event, and ends with `close`, which is called
    at the end of a ``with`` block and at the end of the program.

    All methods may be called from any thread; only `close` waits.

    Args:
        app: the app.
        stream: the key of the stream.
        redis: a URL as for `redis.Redis.from_url`; or a client of redis-py, which is not closed, and whose
            own timeouts and retries apply.
        events: which events to relay, by name or class; ``["event"]`` for all.
        source: replaces the URL in the entries, to tell several relays apart.
        key: a function that returns the key of an event, for ``when_full="latest"``. Called on the handlers'
            thread. None: all events have the same key.
        when_full: what happens to an event if there is no room.
            ``"pause"``: the handler waits for room, and all later events wait behind it. Nothing is lost
            while Redis may still come back.
            ``"drop_oldest"``: the event that has waited longest is dropped.
            ``"latest"``: the oldest waiting event with the same key is dropped, or else one of another key of
            which newer ones wait; if there is none, the handler waits.
            Events that are being sent are not dropped.
        maxlen: about how many entries the stream keeps; None for all.
        batch: how many entries are sent at once at most. A batch is added whole or not at all (MULTI).
        max_events: how many events may wait for their acknowledgement.
        max_bytes: how many bytes of data these may have. One event may always wait.
        timeout: seconds that Redis may take to answer before it is asked again, over a new connection.
        min_wait, max_wait: seconds between two attempts; the wait doubles from the first to the second.
        close_timeout: seconds that the handler waits for room when the app is stopping, and that `close`
            waits for Redis.

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
        # What separates one connection from the next is needed in any case.
        bounds = () if "event" in self._wanted else ("connecting", "connect_fail", "disconnected")
        app.on(*self._wanted, *bounds)(self._take)

    @property
    def counts(self) -> RelayCounts:
        """Counts of the events by their fate."""
        queue = self._queue
        with queue.inbox.lock:
            waiting = len(queue.inbox)
            return RelayCounts(self._received, queue.relayed, waiting, self._dropped, queue.failures)

    @property
    def unrelayed(self) -> list[Entry]:
        """The events that Redis has not acknowledged, oldest first. After `close` they are not sent any more.

        Redis may have stored some of them without being able to acknowledge it.
        """
        return self._queue.inbox.values()

    def close(self, timeout: float | None = None) -> list[Entry]:
        """Wait until Redis has acknowledged everything that waits, and end. May be called again.

        In a handler it holds up the app meanwhile.

        Args:
            timeout: seconds to wait at most; None for `close_timeout`.

        Returns:
            The events that were not acknowledged in time, oldest first; their number is logged, too.
        """
        atexit.unregister(self.close)
        timeout = self._close_timeout if timeout is None else timeout
        queue = self._queue
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
            self._client.close()  # interrupts the thread, if it waits for Redis
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
        """Begin anew in the child of a fork: what waits is the parent's, and so is its thread."""
        self._run_id = secrets.token_hex(8)
        # The handlers' thread alone uses these.
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
            if self._is_over:  # otherwise it is a redirect
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
        """Append an entry to what is to be sent, once there is room."""
        queue, size = self._queue, len(entry.data)
        with queue.inbox.lock:
            self._received += 1
            if self._received == 1:
                atexit.register(self.close)
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
            queue.inbox.wait_for_room(size, LOOK_SECONDS)

    def _is_time_over(self) -> bool:
        """Return whether the app has been stopping for so long that an event without room is dropped."""
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
        """Start the thread if there is none; if that fails, the next event tries again."""
        queue = self._queue
        with queue.inbox.lock:
            if queue.thread is not None or queue.close_by is not None:
                return
            thread = threading.Thread(
                target=self._sender.run, args=(queue,), name="lochws-relay", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                failure = error
            else:
                queue.thread = thread
                return
        report(
            logging.ERROR, "events for the stream %s wait: no thread can be started", self._sender.stream,
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
