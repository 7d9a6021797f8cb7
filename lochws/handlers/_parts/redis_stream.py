"""Entries for a Redis stream, which are sent again until Redis acknowledges them."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import Any, NamedTuple, Protocol

from ...engine.bounded_inbox import BoundedInbox, WhenFull
from ...system.rate_limit import RateLimit
from ...system.report import report


class Client(Protocol):
    """The part of `redis.Redis` that a relay uses."""

    def pipeline(self, transaction: bool) -> Any:
        """Return an object that collects commands and executes them together."""

    def close(self) -> None:
        """Close the connections."""


class Entry(NamedTuple):
    """An entry of the stream; `lochws.handlers.relay` describes the fields."""

    id: str
    event: str
    data: bytes
    time: float
    source: str
    connection: int
    sequence: int


class Unacknowledged:
    """The entries that Redis has not acknowledged, and the state of the thread that sends them.

    Attributes:
        inbox: the entries; its lock guards everything here.
        relayed, failures: counts for `RelayCounts`.
        thread: the sending thread, once it has been started.
        close_by: when to give up (monotonic); None until `close` has been called.
        is_over: whether any further acknowledgement is too late to count.
    """

    def __init__(self, when_full: WhenFull, max_events: int, max_bytes: int) -> None:
        self.inbox: BoundedInbox[Entry] = BoundedInbox(when_full, max_events, max_bytes)
        self.relayed = self.failures = 0
        self.thread: threading.Thread | None = None
        self.close_by: float | None = None
        self.is_over = False

    def next_batch(self, count: int) -> list[Entry]:
        """Wait for entries to send, and return them. Return an empty list once it is time to stop."""
        inbox = self.inbox
        with inbox.lock:
            while not len(inbox) and self.close_by is None:
                inbox.changed.wait()
            return [] if self._is_time_over() else inbox.take_batch(count)

    def acknowledge(self) -> None:
        """Count the batch as relayed, and free its space."""
        with self.inbox.lock:
            if not self.is_over:
                self.relayed += len(self.inbox.batch)
                self.inbox.end_batch()

    def pause(self, seconds: float) -> None:
        """Count a failure, and wait before the next attempt, or until it is time to stop."""
        until = monotonic() + seconds
        with self.inbox.lock:
            self.failures += 1
            while (left := until - monotonic()) > 0 and not self._is_time_over():
                closing = left if self.close_by is None else max(0.0, self.close_by - monotonic())
                self.inbox.changed.wait(min(left, closing))

    def _is_time_over(self) -> bool:
        return self.is_over or (self.close_by is not None and monotonic() >= self.close_by)


class Sender:
    """Sends entries until they are acknowledged, on the relay's own thread.

    Args:
        client: the client of Redis.
        stream: the key of the stream.
        maxlen: the approximate maximum number of entries in the stream; None for no limit.
        batch: the maximum number of entries sent at once.
        min_wait, max_wait: the shortest and the longest wait between two attempts, in seconds; the wait
            doubles from one to the other.
    """

    def __init__(
        self, client: Client, stream: str, maxlen: int | None, batch: int, min_wait: float, max_wait: float
    ) -> None:
        self.stream = stream
        self._client = client
        self._maxlen, self._batch, self._min_wait, self._max_wait = maxlen, batch, min_wait, max_wait
        self._failure_lines = RateLimit(burst=3, per_second=1 / 60)

    def run(self, queue: Unacknowledged) -> None:
        """Send entries until the relay is closed and none is left, or its close timeout has passed."""
        wait = self._min_wait
        while entries := queue.next_batch(self._batch):
            try:
                self._add(entries)
            except Exception as error:  # noqa: BLE001  after any error, the entries count as not acknowledged
                self._report(queue, error)
                queue.pause(wait)
                wait = min(2 * wait, self._max_wait)
            else:
                queue.acknowledge()
                if wait != self._min_wait:
                    report(logging.INFO, "Redis is acknowledging events for the stream %s again", self.stream)
                wait = self._min_wait

    def _add(self, entries: list[Entry]) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            for entry in entries:
                pipeline.xadd(self.stream, entry._asdict(), maxlen=self._maxlen)
            pipeline.execute()

    def _report(self, queue: Unacknowledged, error: Exception) -> None:
        if not queue.is_over:
            report(
                logging.WARNING, "Redis did not acknowledge events for the stream %s; trying again: %s",
                self.stream, error if str(error) else repr(error), limit=self._failure_lines,
            )


def client_of(url: str, timeout: float | None) -> Client:
    """Create a client for a URL. It connects on first use, and does not retry by itself.

    Args:
        url: a URL in the format of `redis.Redis.from_url`. Its query may override the timeout.
        timeout: the time limit for connecting and for each answer, in seconds.

    Raises:
        ImportError: redis-py is not installed.
        ValueError: the URL is not a Redis URL.
    """
    try:
        import redis  # noqa: PLC0415  optional
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("lochws.handlers.relay needs redis-py: pip install 'lochws[redis]'") from error
    client: Client = redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )
    return client
