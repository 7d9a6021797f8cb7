"""Recorder: a handler that writes all events and everything sent to a JSON Lines file, in order.

::

    with Recorder("talk.jsonl") as recorder:
        app.add_handler(recorder)
        app.run_forever()

`lochws.handlers.replay` plays such a file back into any handlers. docs/recording.md describes the format.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from .. import events
from ..base.callables import check_takes
from ..options import MIB, as_timeout, check_choice, check_range
from ..sent import Sent
from ..system import forks
from ..system.control import check_may_wait, control_lock, may_wait, start_thread
from ..system.interpreters import at_end, new_thread, not_at_end
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import Waiters, join, wait_for
from ._parts.recording_files import LineWriter
from ._parts.recording_lines import Redact, Scribe, described

if TYPE_CHECKING:
    from typing_extensions import Self

#: Entries that arrive within this many seconds are written together.
GATHER_SECONDS = 0.05
#: How many entries are written before their space in the queue is freed.
SLICE = 500
#: The size of an entry without its payload, in bytes.
ENTRY_BYTES = 200
#: How long interpreter shutdown waits for the disk, in seconds.
EXIT_SECONDS = 5.0


class _Reopen:
    """A marker in the queue: the entries after it belong in a new file."""


#: The time (monotonic), the event or the items sent, the time of sending (wall clock), and the size in bytes.
#: An int in second place is the number of missing events and sends.
_Entry: TypeAlias = "tuple[float, events.Event | tuple[Sent, ...] | int | _Reopen, float, int]"


class Recorder:
    """A handler that records all events and everything that is sent. For one app.

    The handler only queues each entry; the recorder's own thread, ``lochws recorder``, writes it within 0.05
    s. Anything that cannot be recorded is counted, logged, and replaced in the file by a line that says how
    many events are missing. Lines already written survive even a sudden end of the process. New files are
    readable only by their owner (mode 600).

    All methods may be called from any thread and in signal handlers; only `flush` and `close` wait.

    Args:
        path: the file. Any name will do; ``.jsonl`` and ``.jsonl.gz`` are customary.
        compress: ``"gzip"`` to compress the file. None: compress it if its name ends in ``.gz``.
        redact: called on the writing thread with ``"in"`` or ``"out"`` and each payload, a str or bytes. It
            returns the replacement to record, of the same type, or None to record only the length.
        payloads: False to record only the lengths of all messages, pings and pongs.
        append: whether to continue an existing recording: its file is renamed (``talk.1.jsonl``), and
            `Replay` reads both. By default an existing file is refused.
        secrets: True to record cookies and the values in the query of URLs; by default they are left out.
        max_pending: how many bytes may wait to be written.
        when_full: what to do with an event if `max_pending` bytes are waiting.
            ``"drop"``: the event is not recorded.
            ``"pause"``: the handler waits for the disk, so TCP backpressure slows the server down. Sending
            never waits; up to twice `max_pending` bytes of sent items are queued.
        clock: a function that returns monotonic seconds.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
        FileExistsError: the recording exists and `append` was not given, or `path` is not a regular file.
        OSError: the file cannot be created.

    Attributes:
        path: the file.
        missing: the number of events and sends that could not be recorded so far.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        compress: str | None = None,
        redact: Redact | None = None,
        payloads: bool = True,
        append: bool = False,
        secrets: bool = False,
        max_pending: int = 16 * MIB,
        when_full: Literal["drop", "pause"] = "drop",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if compress is not None:
            check_choice("compress", compress, ("gzip",))
        check_choice("when_full", when_full, ("drop", "pause"))
        check_range("max_pending", max_pending, 1)
        if redact is not None:
            if not callable(redact):
                raise TypeError(f"redact={redact!r}: expected a function, or None")
            check_takes("redact", redact, 2)
        self.path = Path(path)
        self._clock = clock
        self._began, self._started = time(), clock()
        self._scribe = Scribe(payloads, redact, secrets)
        self._log_limit = RateLimit(burst=1, per_second=1 / 60)
        self._files = LineWriter(
            self.path, compress=compress == "gzip" or (compress is None and self.path.suffix == ".gz"),
            append=append, header=self._header,
        )
        self._limit = max_pending
        self._pauses = when_full == "pause"
        # Guards the numbers below. Signal handlers and finalizers may send, and therefore record, wherever
        # they interrupt a thread.
        self._lock = control_lock()
        self._entries: deque[_Entry] = deque()  # changed by atomic operations, without the lock
        self._pending = 0  # bytes of the entries that are not written yet
        self._left = self._done = 0  # how many entries were queued, and how many the writer has finished
        self._unsaid = 0  # missing entries that no line of the file has reported yet
        self.missing = 0
        self._is_idle = False  # the writer is waiting for the next entry
        self._is_hurried = False  # another thread is waiting for the writer
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._is_starting = False
        # Releasing it wakes the writer.
        self._signal = threading.Lock()
        self._signal.acquire()
        # Notifies threads that wait for the writer.
        self._written = Waiters(self._lock)
        forks.register(self)
        at_end(self._at_exit)

    # Handlers.

    def on_event(self, event: events.Event) -> None:
        """Queue an event for the writer."""
        size = ENTRY_BYTES
        if isinstance(event, events.Stream):
            event = described(event)
        if isinstance(event, events.Text):
            size += len(event.text)
        elif isinstance(event, events.Binary):
            size += len(event.data)
        if self._pauses and not self._has_room(size) and may_wait():
            self._wait_for_room(size)
        self._leave(event, 0.0, size, 1, self._limit)

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        """Queue items that are about to be sent for the writer. Called on any thread."""
        size = sum(map(len, sent)) + ENTRY_BYTES * len(sent)
        self._leave(sent, time(), size, len(sent), 2 * self._limit if self._pauses else self._limit)

    def _wait_for_room(self, size: int) -> None:
        with self._lock:
            wait_for(self._written, lambda: self._has_room(size), None)

    def _has_room(self, size: int) -> bool:
        return (
            not self._pending or self._pending + size <= self._limit
            or self._is_closed or self._thread is None  # then waiting would be pointless
        )

    def _leave(
        self, what: events.Event | tuple[Sent, ...], when: float, size: int, count: int, limit: int
    ) -> None:
        at = self._clock()
        if self._thread is None:
            self._start()
        with self._lock:
            if self._is_closed:
                return
            if self._pending and self._pending + size > limit:
                self.missing += count
                self._unsaid += count
                return
            unsaid = self._unsaid
            self._unsaid = 0
            self._pending += size
            self._left += 1
            is_much = self._pending > self._limit // 4
            wakes = self._is_idle or (is_much and not self._is_hurried)
            if wakes:
                self._is_idle = False
                self._is_hurried = is_much
        if unsaid:
            self._entries.append((at, unsaid, time(), 0))
        self._entries.append((at, what, when, size))
        if wakes or self._is_idle:  # the writer may have found nothing just before that
            self._wake()

    def _start(self) -> None:
        """Start the writer thread; if that fails, the next entry tries again."""
        is_mine = False
        try:
            with self._lock:
                if not (self._is_starting or self._is_closed):
                    self._is_starting = is_mine = True
            if is_mine:
                start_thread(new_thread(self._run_once, "lochws recorder"))
        except RuntimeError as error:
            self._tell("cannot start a thread; entries stay queued until one starts, or until close()", error)
        finally:
            if is_mine:
                self._is_starting = False

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the writer has been woken already, and has not run yet
            self._signal.release()

    # Called by users, on any thread.

    def reopen(self) -> None:
        """Start a new file after the current one has been renamed or removed, by logrotate for example.

        Everything up to now goes to the old file, and the rest to a new one at `path`; no event is lost or
        split. If the file has not been renamed, it is simply continued, so call this after renaming it. If
        the new file cannot be created, the failure is logged and recording continues in the old one.

        May be called from any thread and in a signal handler; returns at once. Call `flush` to wait until the
        old file is complete, in order to compress it, for instance::

            os.rename("talk.jsonl", "talk.1.jsonl")     # Replay("talk.jsonl") reads both
            recorder.reopen()
            recorder.flush()
        """
        if self._thread is None:
            self._start()
        with suppress(IndexError):  # none is waiting
            if isinstance(self._entries[-1][1], _Reopen):
                return
        with self._lock:
            if self._is_closed:
                return
            self._left += 1
            self._is_idle = False
            self._is_hurried = True
        self._entries.append((self._clock(), _Reopen(), 0.0, 0))
        self._wake()

    def flush(self, timeout: float | None = 10.0) -> bool:
        """Wait until everything up to now has been written to the file.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether everything was written in time.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: called while entries are left, by a signal handler or finalizer that interrupts
                lochws, with a timeout other than 0.
        """
        timeout = as_timeout("flush", timeout)
        if timeout != 0 and self._done < self._left:
            check_may_wait("flush")
        with self._lock:
            left = self._left
            self._is_hurried = self._done < left
        self._wake()
        with self._lock:
            wait_for(self._written, lambda: self._done >= left, timeout)
        return self._done >= left

    def close(self, timeout: float | None = 10.0) -> bool:
        """Write all queued entries and close the file. Nothing is recorded afterwards. May be called again.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            False if writing takes longer than `timeout`; it continues in the background.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: called while the recorder writes, by a signal handler or finalizer that interrupts
                lochws, with a timeout other than 0.
        """
        timeout = as_timeout("close", timeout)
        if timeout != 0 and self._thread is not None:
            check_may_wait("close")
        with self._lock:
            was_closed = self._is_closed
            self._is_closed = True
            thread = self._thread
            self._written.notify_all()
        self._wake()
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
        """Close the recording."""
        self.close()

    def reset_after_fork(self) -> None:
        """Stop recording in the child of a fork: the file is the parent's."""
        self._lock = control_lock()
        self._written = Waiters(self._lock)
        self._entries.clear()
        self._pending = 0
        self._done = self._left
        self._is_closed = True
        self._thread = None
        self._files.reset_after_fork()
        not_at_end(self._at_exit)

    def _at_exit(self) -> None:
        if not self.close(EXIT_SECONDS):
            report(logging.ERROR, "recording to %s: the end is missing: the disk was too slow", self.path)

    # The writer thread.

    def _run_once(self) -> None:
        thread = threading.current_thread()
        with self._lock:
            # Another thread may have started, or close() may have written everything.
            if self._thread is None and not self._is_closed:
                self._thread = thread
            if self._thread is not thread:
                return
        self._run()

    def _run(self) -> None:
        while entries := self._next_entries():
            self._write(entries)
            size = sum(entry[3] for entry in entries)
            done = sum(not isinstance(entry[1], int) for entry in entries)
            with self._lock:
                self._pending -= size
                self._done += done
                if not self._entries:
                    self._is_hurried = False
                self._written.notify_all()
        self._finish()

    def _next_entries(self) -> list[_Entry]:
        """Wait for entries, and briefly for more to follow. Return an empty list once closed."""
        while not (self._entries or self._is_closed):
            self._is_idle = True
            if not (self._entries or self._is_closed):
                self._signal.acquire()
        self._is_idle = False
        until = monotonic() + GATHER_SECONDS
        while len(self._entries) < SLICE and not (self._is_hurried or self._is_closed):
            if (left := until - monotonic()) <= 0:
                break
            self._signal.acquire(timeout=left)
        return [self._entries.popleft() for _ in range(min(SLICE, len(self._entries)))]

    def _write(self, entries: list[_Entry]) -> None:
        lines: list[bytes] = []
        for at, what, when, _ in entries:
            if isinstance(what, _Reopen):
                self._write_lines(lines)
                lines = []
                self._begin_another()
                continue
            try:
                lines += self._lines(at - self._started, what, when)
            except Exception as error:  # noqa: BLE001  the other entries can still be recorded
                self._lost(len(what) if isinstance(what, tuple) else 1)
                # Only the type is logged: the value may be a long or secret message.
                self._tell(f"cannot record one {type(what).__name__}", error)
        self._write_lines(lines)

    def _write_lines(self, lines: list[bytes]) -> None:
        lost, failure = self._files.write(lines)
        if failure is not None:
            self._lost(lost)
            self._tell(f"{lost} lines could not be written: {failure}")

    def _begin_another(self) -> None:
        try:
            self._files.reopen()
        except OSError as error:
            self._tell(f"the new file cannot be created: {error}")

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
        report(logging.ERROR, "recording to %s: %s", self.path, what, error=error, limit=self._log_limit)

    def _finish(self) -> None:
        not_at_end(self._at_exit)
        try:
            if self._unsaid:
                self._files.write(self._lines(self._clock() - self._started, self._unsaid, time()))
            self._files.close()
        except OSError as error:
            report(logging.ERROR, "recording to %s: the end could not be written: %s", self.path, error)

    def _header(self, part: int) -> bytes:
        return self._scribe.header(self._began, self._clock() - self._started, part)
