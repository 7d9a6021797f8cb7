"""Entries for a stream of Redis, which are sent until they are acknowledged."""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple, Protocol

from ...system.rate_limit import RateLimit
from ...system.report import report
from ...system.waits import Waiters


class Client(Protocol):
    """What is needed of a `redis.Redis`."""

    def pipeline(self, transaction: bool) -> Any:
        """Gather commands."""

    def close(self) -> None:
        """Close the connections."""


class Entry(NamedTuple):
    """An entry; `lochws.handlers.relay` says what the fields are."""

    id: str
    event: str
    data: bytes
    time: float
    source: str
    connection: int
    sequence: int


class Unacknowledged:
    """What waits for its acknowledgement, and how far the sending thread is. All guarded by its lock."""

    def __init__(self) -> None:
        # A leaf. Reentrant: a signal handler may look at the counts.
        self.lock = threading.RLock()
        self.changed = Waiters(self.lock)
        self.entries: deque[Entry] = deque()
        self.bytes = self.relayed = self.failures = 0
        self.thread: threading.Thread | None = None
        self.close_by: float | None = None  # when to give up; None while nobody has closed
        self.is_over = False  # what is acknowledged from now on comes too late

    def is_full(self, size: int, max_events: int, max_bytes: int) -> bool:
        """Whether there is no room for so many bytes."""
        return len(self.entries) >= max_events or bool(self.entries and self.bytes + size > max_bytes)

    def append(self, entry: Entry) -> None:
        """Append an entry."""
        self.entries.append(entry)
        self.bytes += len(entry.data)
        self.changed.notify_all()

    def acknowledge(self, count: int) -> None:
        """Remove the first entries: Redis has them."""
        if self.is_over:
            return
        for _ in range(count):
            self.bytes -= len(self.entries.popleft().data)
        self.relayed += count
        self.changed.notify_all()

    def next(self, count: int) -> list[Entry]:
        """Wait for something to send; nothing when the end has come."""
        while not self.entries and self.close_by is None:
            self.changed.wait()
        return [] if self._is_time_over() else list(islice(self.entries, count))

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt, or until the end has come."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0 and not self._is_time_over():
            rest = left if self.close_by is None else min(left, max(0.0, self.close_by - monotonic()))
            self.changed.wait(rest)

    def _is_time_over(self) -> bool:
        return self.is_over or (self.close_by is not None and monotonic() >= self.close_by)


class Sender:
    """Sends entries until they are acknowledged: what the relay's thread does."""

    def __init__(
        self, client: Client, stream: str, maxlen: int | None, batch: int, min_wait: float, max_wait: float
    ) -> None:
        self.stream = stream
        self._client = client
        self._maxlen, self._batch, self._min_wait, self._max_wait = maxlen, batch, min_wait, max_wait

    def begin(self) -> Unacknowledged:
        """A queue for a new thread."""
        self._log_limit = RateLimit(burst=3, per_second=1 / 60)
        return Unacknowledged()

    def run(self, queue: Unacknowledged) -> None:
        """Send what comes, until the queue is closed and empty, or the time for that is over."""
        wait = self._min_wait
        while True:
            with queue.lock:
                entries = queue.next(self._batch)
            if not entries:
                return
            try:
                self._add(entries)
            except Exception as error:  # noqa: BLE001  whatever it is: the entries are not acknowledged
                self._tell(queue, error)
                with queue.lock:
                    queue.failures += 1
                    queue.pause(wait)
                wait = min(2 * wait, self._max_wait)
            else:
                with queue.lock:
                    queue.acknowledge(len(entries))
                if wait != self._min_wait:
                    report(logging.INFO, "events are relayed to the stream %s again", self.stream)
                wait = self._min_wait

    def _add(self, entries: list[Entry]) -> None:
        with self._client.pipeline(transaction=True) as pipeline:
            for entry in entries:
                pipeline.xadd(self.stream, entry._asdict(), maxlen=self._maxlen)
            pipeline.execute()

    def _tell(self, queue: Unacknowledged, error: Exception) -> None:
        more = self._log_limit.take()
        if more is not None and not queue.is_over:
            report(
                logging.WARNING,
                "Redis has not acknowledged events for the stream %s; they are sent again: %s%s", self.stream,
                error or repr(error), more,
            )


def client_of(url: str, timeout: float | None) -> Client:
    """A client for a URL, which connects when it is used, and tries once.

    Args:
        url: as of `redis.Redis.from_url`; what its query says goes before the timeout.
        timeout: seconds that connecting may take, and each answer.

    Raises:
        ImportError: redis-py is not installed.
        ValueError: the URL is none of Redis.
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
