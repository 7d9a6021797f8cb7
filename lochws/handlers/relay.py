"""Events into a durable log that other machines read: a stream of Redis.

::

    app = WebSocketApp("wss://feed.example.org")
    with Relay(app, "feed", "redis://localhost:6379"):
        app.run_forever()

Needs redis-py: ``pip install 'lochws[redis]'``. Each event is an entry of the stream, with these fields:

==============  ========================================================================================
``id``          names the event, whatever entry it is in: run of the relay, connection and sequence
``event``       the name of the event, such as ``text``
``data``        the message in bytes, text as UTF-8; for other events what they tell, as JSON
``time``        when it came, in seconds of the wall clock
``source``      the server's URL without credentials and without the values in its query, or your own word
``connection``  1 for the first attempt to connect, and so on
``sequence``    1 for the first event of that, and so on: where a number is missing an event is
==============  ========================================================================================

An event counts as relayed when Redis has acknowledged it, and not before. What waits for that is bounded:
when Redis is slow or away the handler waits, nothing more is read, and TCP holds the server back. What was
sent and not acknowledged is sent again, in the same order, so an entry can come twice: readers go by ``id``.
Whether an acknowledged entry outlives Redis is Redis's matter: see its ``appendonly`` and ``appendfsync``.
"""

from __future__ import annotations

import atexit
import json
import logging
import secrets
import threading
from collections.abc import Iterable
from time import monotonic
from typing import NamedTuple

from .. import WebSocketApp, events
from ..dispatch.naming import EventName
from ..options import MIB, check_range, check_seconds
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import join, slice_of
from ..url import without_secrets
from ._parts.checks import check_app, wanted_events
from ._parts.redis_stream import Client, Entry, Sender, client_of

#: How often a handler that waits for room looks whether the app is to end, in seconds.
LOOK_SECONDS = 0.2
#: How long a thread has to end whose connection to Redis was closed under it, in seconds.
_GRACE = 1.0



class RelayCounts(NamedTuple):
    """What became of the events; the first is the sum of the three behind it.

    Attributes:
        received: events that came.
        relayed: those that Redis has acknowledged.
        waiting: those that it has not acknowledged yet.
        lost: those that found no room until the app or the relay was to end. Logged, too.
        failures: how many batches were not acknowledged, and so may have been sent in vain, or twice.
    """

    received: int
    relayed: int
    waiting: int
    lost: int
    failures: int


class Relay:
    """Relays the events of one app to a stream of Redis. Registers itself with the app.

    A thread of its own speaks to Redis; it begins with the first event and ends with `close`, which is called
    at the end of a ``with`` block, and at that of the program.

    Args:
        app: the app.
        stream: the key of the stream.
        redis: a URL as of `redis.Redis.from_url`, or a client of redis-py, which is not closed and keeps its
            own times and attempts.
        events: which events, by name or class; ``["event"]`` for all.
        source: what tells the streams of several relays apart, in place of the URL.
        maxlen: keep about so many entries in the stream; None for all.
        batch: how many entries to send at once at most. A batch is added whole or not at all (MULTI).
        max_events: how many events may wait for their acknowledgement.
        max_bytes: and how many bytes of data; one event may always wait.
        timeout: seconds that Redis may take to answer, before it is asked again on a new connection.
        min_wait, max_wait: seconds between two attempts, from the first doubling to the second.
        close_timeout: seconds to wait for Redis when the app is to end, and again when the relay is.

    Raises:
        ImportError: redis-py is not installed.
        TypeError, ValueError: an argument is wrong; the message says which and what would be right.
    """

    def __init__(
        self,
        app: WebSocketApp,
        stream: str,
        redis: str | Client = "redis://127.0.0.1:6379",
        *,
        events: Iterable[EventName] = ("ready", "text", "binary", "disconnected"),
        source: str | None = None,
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
        check_range("batch", batch, 1)
        check_range("max_events", max_events, 1)
        check_range("max_bytes", max_bytes, 1)
        if maxlen is not None:
            check_range("maxlen", maxlen, 1)
        for name, value in (("timeout", timeout), ("close_timeout", close_timeout)):
            check_seconds(name, value)
        if not 0 < min_wait <= max_wait:
            raise ValueError(f"min_wait={min_wait!r}, max_wait={max_wait!r}: expected 0 < min <= max")
        self._app = app
        self._wanted = frozenset(wanted_events(events))
        self._max_events, self._max_bytes, self._close_timeout = max_events, max_bytes, close_timeout
        self._is_ours = isinstance(redis, str)
        self._client = client_of(redis, timeout) if isinstance(redis, str) else redis
        self._sender = Sender(self._client, stream, maxlen, batch, min_wait, max_wait)
        self._source = source
        self._begin()
        forks.register(self)
        # What tells one connection from the next is looked at in any case.
        bounds = () if "event" in self._wanted else ("connecting", "connect_fail", "disconnected")
        app.on(*self._wanted, *bounds)(self._take)

    def _begin(self) -> None:
        self._run_id = secrets.token_hex(8)
        # Where we are; the reader's thread alone.
        self._url = ""
        self._connection = self._sequence = 0
        self._is_over = True
        self._lost_lines, self._pause_lines = RateLimit(), RateLimit(burst=3, per_second=1 / 60)
        self._queue = self._sender.begin()
        self._received = self._lost = 0
        self._stop_by: float | None = None

    @property
    def counts(self) -> RelayCounts:
        """What has become of the events so far. Any thread."""
        queue = self._queue
        with queue.lock:
            waiting = len(queue.entries)
            return RelayCounts(self._received, queue.relayed, waiting, self._lost, queue.failures)

    @property
    def unrelayed(self) -> list[Entry]:
        """What Redis has not acknowledged, oldest first. After `close` nothing is done about it. Any thread.

        Redis may have got some of it all the same: what it did not acknowledge nobody knows.
        """
        with self._queue.lock:
            return list(self._queue.entries)

    def close(self, timeout: float | None = None) -> list[Entry]:
        """Wait until Redis has acknowledged all that waits, and end. May be called again. Not for handlers.

        Args:
            timeout: seconds to wait at most; None for `close_timeout`.

        Returns:
            What was not acknowledged in time, as `unrelayed`; it is logged, too.
        """
        atexit.unregister(self.close)
        timeout = self._close_timeout if timeout is None else timeout
        queue = self._queue
        with queue.lock:
            if queue.is_over:
                return list(queue.entries)
            queue.close_by = monotonic() + timeout
            queue.changed.notify_all()
            thread = queue.thread
        is_idle = thread is None or join(thread, timeout)
        with queue.lock:
            queue.is_over = True
            queue.changed.notify_all()
            unrelayed = list(queue.entries)
        if self._is_ours:
            self._client.close()  # ends what the thread waits for
            if thread is not None and not is_idle:
                join(thread, _GRACE)
        if unrelayed:
            report(
                logging.ERROR,
                "Redis has not acknowledged %d events for the stream %s, from %s to %s: not relayed",
                len(unrelayed), self._sender.stream, unrelayed[0].id, unrelayed[-1].id,
            )
        return unrelayed

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def reset_after_fork(self) -> None:
        """In the child of a fork: what waits is the parent's, and so is its thread."""
        self._begin()

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.Connecting):
            self._url = without_secrets(event.url)
            if self._is_over:  # else a redirect has led there
                self._connection, self._sequence, self._is_over = self._connection + 1, 0, False
        elif isinstance(event, (events.ConnectFail, events.Disconnected)):
            self._is_over = True
        if event.name not in self._wanted and "event" not in self._wanted:
            return
        self._sequence += 1
        number = f"{self._run_id}-{self._connection}-{self._sequence}"
        source = self._url if self._source is None else self._source
        self._put(Entry(
            number, event.name, _data(event), event.received_time, source, self._connection, self._sequence
        ))

    def _put(self, entry: Entry) -> None:
        """Append an entry to what is to be sent, when there is room."""
        queue = self._queue
        with queue.lock:
            waiting = len(queue.entries)
            is_full = queue.is_full(len(entry.data), self._max_events, self._max_bytes)
        if is_full and (more := self._pause_lines.take()) is not None:
            report(logging.WARNING, "the receiver pauses: %d events wait for Redis%s", waiting, more)
        with queue.lock:
            self._received += 1
            if self._received == 1:
                atexit.register(self.close)
            lost_line = None
            failure = self._start_thread()
            if not self._wait_for_room(len(entry.data)):
                self._lost += 1
                lost_line = self._lost_lines.take()
            else:
                queue.append(entry)
        if failure is not None and (more := self._pause_lines.take()) is not None:
            report(
                logging.ERROR, "events for the stream %s wait, for no thread can be started%s",
                self._sender.stream, more, error=failure,
            )
        if lost_line is not None:
            report(
                logging.ERROR, "the event %s was not relayed to the stream %s, which takes no more%s",
                entry.id, self._sender.stream, lost_line,
            )

    def _start_thread(self) -> RuntimeError | None:
        """Start the thread if there is none, or say why it cannot be: the queue's lock is held."""
        queue = self._queue
        if queue.thread is not None or queue.close_by is not None:
            return None
        thread = threading.Thread(target=self._sender.run, args=(queue,), name="lochws-relay", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            return error
        queue.thread = thread
        return None

    def _wait_for_room(self, size: int) -> bool:
        """Wait until there is room, and return whether there is. The queue's lock is held."""
        queue = self._queue
        while queue.close_by is None and queue.is_full(size, self._max_events, self._max_bytes):
            if not self._app.is_stopping:
                self._stop_by = None
            elif self._stop_by is None:
                self._stop_by = monotonic() + self._close_timeout
            elif monotonic() >= self._stop_by:
                return False
            queue.changed.wait(slice_of(LOOK_SECONDS))
            self._start_thread()
        return queue.close_by is None


def _data(event: events.Event) -> bytes:
    if isinstance(event, events.Text):
        return event.text.encode()
    if isinstance(event, (events.Binary, events.Ping, events.Pong)):
        return event.data
    names = sorted(name for kind in type(event).__mro__ for name in getattr(kind, "__slots__", ()))
    told = {name: getattr(event, name) for name in names if name not in ("received_time", "_json")}
    for name in ("url", "proxy", "reason", "advice"):  # the words of a failure have its URL in them
        if told.get(name):
            told[name] = without_secrets(told[name])
    plain = (str, int, float, type(None))
    return json.dumps({name: value for name, value in told.items() if isinstance(value, plain)}).encode()
