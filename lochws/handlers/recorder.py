"""Records a connection's events and what is sent, in order, to a file of JSON lines.

::

    with Recorder("talk.jsonl") as recorder:
        app.add_handler(recorder)
        app.run_forever()

The file can be played back into any handlers: see `lochws.handlers.replay`. docs/recording.md has the format.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from .. import events
from ..sent import Sent
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import Waiters, join, wait_for
from ._parts.recording_files import PartWriter
from ._parts.recording_lines import Redact, Scribe

if TYPE_CHECKING:
    from typing_extensions import Self

#: What comes in so many seconds is written in one go.
GATHER_SECONDS = 0.05
#: So many entries are written before room is made for others.
SLICE = 500
#: What an entry takes besides its payload, in bytes.
ENTRY_BYTES = 200
#: A file smaller than that would be little but its header.
LEAST_BYTES = 4096
#: How long the end of the interpreter waits for the disk.
EXIT_SECONDS = 5.0

#: When (monotonic), what (an event, what was sent, or how many are missing), when it was sent, bytes.
_Entry: TypeAlias = "tuple[float, events.Event | tuple[Sent, ...] | int, float, int]"


class Recorder:
    """A handler that records all events, and what leaves. For one app.

    Handlers only leave what has come; a thread of its own, ``lochws recorder``, writes it within 0.05 s. What
    cannot be recorded is counted, logged, and stands in the file as a line saying how many are missing. What
    was written survives the end of the process, however sudden. The files are for the user alone to read
    (mode 600).

    Args:
        path: the file. Its name ends as the user wants, in ``.jsonl`` or ``.jsonl.gz`` for instance.
        compress: ``"gzip"``; None for that if the name ends in ``.gz``, else for none.
        max_bytes: how large a file gets, at least 4096; then it is renamed (``talk.1.jsonl``) and another
            begins. None for one file however large.
        keep: how many files are kept, the newest included; None for all.
        redact: called with ``"in"`` or ``"out"`` and each payload (str or bytes), on the writing thread;
            returns what is recorded in its place, of the same type, or None to record its length only.
        payloads: False records of all messages, pings and pongs their length only.
        append: whether to continue a recording that is there, in another file of the set.
        secrets: whether values in the query of URLs, and of cookies, are recorded as they are.
        max_pending: how many bytes may wait to be written.
        when_full: what happens to an event when so many wait: ``"drop"``, it is not recorded; or ``"block"``,
            the handler waits, and so does the server. What is sent never waits, and may be twice as much.
        clock: monotonic seconds.

    Raises:
        TypeError, ValueError: an argument is wrong.
        FileExistsError: there is such a file, and not `append`.
        OSError: the file cannot be made.

    Attributes:
        path: the newest file.
        missing: how many events and sends could not be recorded so far.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        compress: str | None = None,
        max_bytes: int | None = None,
        keep: int | None = None,
        redact: Redact | None = None,
        payloads: bool = True,
        append: bool = False,
        secrets: bool = False,
        max_pending: int = 16 << 20,
        when_full: Literal["drop", "block"] = "drop",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        _check(compress, max_bytes, keep, append, redact, max_pending, when_full)
        self.path = Path(path)
        self._clock = clock
        self._began, self._started = time(), clock()
        self._scribe = Scribe(payloads, redact, secrets)
        self._log_limit = RateLimit(burst=1, per_second=1 / 60)
        self._files = PartWriter(
            self.path, compress=compress == "gzip" or (compress is None and self.path.suffix == ".gz"),
            max_bytes=max_bytes, keep=keep, append=append, header=self._header,
        )
        self._limit = max_pending
        self._waits = when_full == "block"
        # Guards all below. Reentrant: a signal handler may send or close while its own thread is in here.
        self._lock = threading.RLock()
        self._changed = Waiters(self._lock)
        self._entries: deque[_Entry] = deque()
        self._pending = 0  # bytes of what was left and is not written yet
        self._left = self._done = 0  # entries that were left; of these, those the writer is done with
        self._unsaid = 0  # how many are missing since the last line that said so
        self.missing = 0
        self._is_idle = False  # the writer waits for the next entry
        self._is_hurried = False  # somebody waits for the writer
        self._is_closed = False
        self._thread: threading.Thread | None = None
        forks.register(self)
        atexit.register(self._at_exit)

    # Handlers.

    def on_event(self, event: events.Event) -> None:
        """Leave an event for the writer."""
        size = ENTRY_BYTES
        if isinstance(event, events.Text):
            size += len(event.text)
        elif isinstance(event, events.Binary):
            size += len(event.data)
        if self._waits:
            self._wait_for_room(size)
        self._leave(event, 0.0, size, 1, self._limit)

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        """Leave what is about to be sent for the writer. Any thread."""
        size = sum(map(len, sent)) + ENTRY_BYTES * len(sent)
        self._leave(sent, time(), size, len(sent), 2 * self._limit if self._waits else self._limit)

    def _wait_for_room(self, size: int) -> None:
        with self._lock:
            wait_for(self._changed, lambda: self._has_room(size), None)

    def _has_room(self, size: int) -> bool:
        return (
            not self._pending or self._pending + size <= self._limit
            or self._is_closed or self._thread is None  # then nobody makes room
        )

    def _leave(
        self, what: events.Event | tuple[Sent, ...], when: float, size: int, count: int, limit: int
    ) -> None:
        at = self._clock()
        failure = None
        with self._lock:
            if self._is_closed:
                return
            if self._thread is None:
                failure = self._start()
            if self._pending and self._pending + size > limit:
                self.missing += count
                self._unsaid += count
                return
            if self._unsaid:
                self._entries.append((at, self._unsaid, time(), 0))
                self._unsaid = 0
            self._entries.append((at, what, when, size))
            self._pending += size
            self._left += 1
            is_much = self._pending > self._limit // 4
            if self._is_idle or (is_much and not self._is_hurried):
                self._is_idle, self._is_hurried = False, is_much
                self._changed.notify_all()
        if failure is not None:
            self._tell("no thread can be started, what comes waits for one, or for close", failure)

    def _start(self) -> RuntimeError | None:
        """Start the writer's thread, or say why there is none; then the next entry tries again."""
        thread = threading.Thread(target=self._run_once, name="lochws recorder", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            return error
        self._thread = thread
        return None

    # Users, on any thread.

    def flush(self, timeout: float | None = 10.0) -> bool:
        """Wait until all that has happened so far is in the file. Returns False if that takes longer."""
        with self._lock:
            left = self._left
            self._is_hurried = self._done < left
            self._changed.notify_all()
            wait_for(self._changed, lambda: self._done >= left, timeout)
        return self._done >= left

    def close(self, timeout: float | None = 10.0) -> bool:
        """Write what waits, and end the file; what happens afterwards is not recorded. May be called again.

        Returns:
            False if that takes longer than `timeout` seconds; it goes on nevertheless.
        """
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            if not was_closed:
                self._run()
            return True
        return thread is not threading.current_thread() and join(thread, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def reset_after_fork(self) -> None:
        """In the child of a fork: the recording is the parent's."""
        self._lock = threading.RLock()
        self._changed = Waiters(self._lock)
        self._entries.clear()
        self._pending = 0
        self._done = self._left
        self._is_closed = True
        self._thread = None
        self._files.reset_after_fork()
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        if not self.close(EXIT_SECONDS):
            report(logging.ERROR, "recording to %s: the disk took too long, the end is missing", self.path)

    # The writer's thread.

    def _run_once(self) -> None:
        thread = threading.current_thread()
        with self._lock:
            # Ctrl-C may have come behind the start: then there may be another one, or close has written all.
            if self._thread is None and not self._is_closed:
                self._thread = thread
            if self._thread is not thread:
                return
        self._run()

    def _run(self) -> None:
        while entries := self._next_entries():
            self._write(entries)
            with self._lock:
                self._pending -= sum(entry[3] for entry in entries)
                self._done += sum(not isinstance(entry[1], int) for entry in entries)
                self._is_hurried = self._is_hurried and bool(self._entries)
                self._changed.notify_all()
        self._finish()

    def _next_entries(self) -> list[_Entry]:
        """Wait for the next entries, and for company. None are left if this is over."""
        with self._lock:
            if not self._entries:
                self._is_idle = not self._is_closed
                wait_for(self._changed, lambda: self._entries or self._is_closed, None)
                self._is_idle = False
            if len(self._entries) < SLICE:
                wait_for(self._changed, lambda: self._is_hurried or self._is_closed, GATHER_SECONDS)
            return [self._entries.popleft() for _ in range(min(SLICE, len(self._entries)))]

    def _write(self, entries: list[_Entry]) -> None:
        lines: list[bytes] = []
        for at, what, when, _ in entries:
            try:
                lines += self._lines(at - self._started, what, when)
            except Exception as error:  # noqa: BLE001  the others can be recorded
                self._lost(len(what) if isinstance(what, tuple) else 1)
                # Not what it is: it may be a message, long or secret.
                self._tell(f"cannot record one {type(what).__name__}", error)
        lost, failure = self._files.write(lines)
        if failure is not None:
            self._lost(lost)
            self._tell(f"{lost} lines could not be written; {failure}")

    def _lines(self, at: float, what: events.Event | tuple[Sent, ...] | int, when: float) -> list[bytes]:
        if isinstance(what, int):
            self._tell(f"{what} events and sends are missing")
            return [self._scribe.missing(at, when, what)]
        if isinstance(what, tuple):
            return [self._scribe.sent(at, when, one) for one in what]
        return [self._scribe.event(at, what)]

    def _lost(self, count: int) -> None:
        with self._lock:
            self.missing += count
            self._unsaid += count

    def _tell(self, what: str, error: BaseException | None = None) -> None:
        more = self._log_limit.take()
        if more is not None:
            report(logging.ERROR, "recording to %s: %s%s", self.path, what, more, error=error)

    def _finish(self) -> None:
        atexit.unregister(self._at_exit)
        try:
            if self._unsaid:
                self._files.write(self._lines(self._clock() - self._started, self._unsaid, time()))
            self._files.close()
        except OSError as error:
            report(logging.ERROR, "recording to %s: its end could not be written; %s", self.path, error)

    def _header(self, part: int) -> bytes:
        return self._scribe.header(self._began, self._clock() - self._started, part)


def _check(
    compress: str | None, max_bytes: int | None, keep: int | None, append: bool, redact: object,
    max_pending: int, when_full: str,
) -> None:
    if compress not in (None, "gzip"):
        raise ValueError(f"compress={compress!r}: expected 'gzip', or None")
    if when_full not in ("drop", "block"):
        raise ValueError(f"when_full={when_full!r}: expected 'drop' or 'block'")
    for name, value, least in (
        ("max_bytes", max_bytes, LEAST_BYTES), ("keep", keep, 1), ("max_pending", max_pending, 1)
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name}={value!r}: expected a whole number")
        if value is not None and value < least:
            raise ValueError(f"{name}={value!r}: expected {least} or more")
    if keep is not None and max_bytes is None and not append:
        raise ValueError(f"keep={keep!r} without max_bytes: there would be one file only")
    if redact is not None and not callable(redact):
        raise TypeError(f"redact={redact!r}: expected a function, or None")
