"""Reports: log records that are written without risk to the reporting thread.

Log handlers, filters and the ``__repr__`` of what is logged are the user's code: they may raise, wait for a
lock, call lochws again, or not return for minutes. So nothing else in lochws calls a logger. `report` logs on
the calling thread and raises nothing. `report_aside` logs on a thread of its own: it is for callers that hold
the loop's baton, that write to a socket, or that others wait for.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from time import time
from types import CodeType

from ..base.records import record
from ..text import escaped, escaped_block
from . import forks
from .control import control_lock, start_thread
from .interpreters import new_thread
from .rate_limit import RateLimit
from .waits import join

logger = logging.getLogger("lochws")

#: Reports inside reports, on one thread, that are still logged: a log handler may itself use lochws.
MAX_DEPTH = 2
#: Reports that may wait for the thread that logs them; further reports are counted and omitted.
MAX_WAITING = 1000
#: Seconds that the end of the program waits for the reports that are still to be logged.
EXIT_SECONDS = 1.0

_PLACEHOLDER = r"%[^a-zA-Z]*([a-zA-Z])"
_depth = threading.local()


def is_enabled(level: int) -> bool:
    """Return whether a report of this level would be logged. Any thread, also while it holds a lock.

    `logging.Logger.isEnabledFor` may wait for a lock of `logging`, which is held while a program configures
    its log handlers; and the constructor of one of those may be waiting for us.
    """
    return level >= logger.getEffectiveLevel() and level > logger.manager.disable


def report(
    level: int,
    message: str,
    *args: object,
    error: BaseException | None = None,
    limit: RateLimit | None = None,
    fields: Mapping[str, object] | None = None,
) -> None:
    """Log a message on the calling thread. Only a signal handler can make it raise.

    Args:
        level: one of `logging`'s, such as ``logging.ERROR``.
        message: the text, with ``%`` placeholders for `args`; an argument whose `str` fails is shown as its
            type.
        error: an exception, whose traceback is logged too.
        limit: decides which of several similar messages are logged.
        fields: attributes of the log record, for structured logging. Their names begin with ``ws_``, so that
            they cannot clash with others. Numbers, truth values and None stay as they are; anything else
            becomes text that is safe to show.
    """
    suffix = limit.take() if limit is not None else ""
    if suffix is not None:
        _log(_report_of(level, message + suffix, args, error, fields))


def report_aside(
    level: int,
    message: str,
    *args: object,
    error: BaseException | None = None,
    limit: RateLimit | None = None,
    fields: Mapping[str, object] | None = None,
) -> None:
    """Log a message on a thread of its own. Never blocks, never raises. Arguments: those of `report`."""
    suffix = limit.take() if limit is not None else ""
    if suffix is not None:
        _aside.put(_report_of(level, message + suffix, args, error, fields))


def flush_reports(seconds: float = EXIT_SECONDS) -> None:
    """Wait until the reports of `report_aside` have been logged, for that many seconds at most."""
    _aside.flush(seconds)


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception may come from a signal handler, as Ctrl-C does, and must propagate.

    Signal handlers run on the main thread alone. Anywhere else a SystemExit, say, is an error like any other.
    """
    return not isinstance(error, Exception) and threading.get_ident() == threading.main_thread().ident


def safe_str(value: object) -> str:
    """Return ``str(value)``, or a substitute if that raises."""
    return _text(value, str)


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, or a substitute if that raises."""
    return _text(value, repr)


def safe_name(function: object) -> str:
    """Return the name of a function, or a substitute for a callable that has none."""
    try:
        name = getattr(function, "__qualname__", None)
    except BaseException as error:
        if is_interrupt(error):
            raise
        name = None
    return name if isinstance(name, str) else safe_repr(function)


def _text(value: object, convert: Callable[[object], str]) -> str:
    try:
        return convert(value)
    except BaseException as error:
        if is_interrupt(error):
            raise
        return f"<{type(value).__name__}: its text cannot be shown>"


class _Text(str):
    """The text of an argument at the time it was logged; a record is read later, and elsewhere."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Block(str):
    """An argument of a report that is shown on lines of its own: its line ends and tabs stay as they are."""

    __slots__ = ()


def _shown(message: str, args: tuple[object, ...]) -> tuple[object, ...]:
    """Return the arguments of a message: numbers as they are, everything else as text that is safe to show.

    A server may have chosen the words: they must neither forge lines of the log nor take over a terminal.
    """
    kinds = re.findall(_PLACEHOLDER, message.replace("%%", ""))
    return tuple(_safe(value, kind) for value, kind in zip(args, kinds, strict=False))


def _safe(value: object, kind: str) -> object:
    if type(value) in (int, float):
        return value
    if isinstance(value, Block):
        return escaped_block(value)
    return _Text(escaped(_text(value, repr if kind == "r" else str)))


@record(frozen=True)
class _Report:
    """One report, with the place in lochws and the thread that made it."""

    level: int
    message: str
    args: tuple[object, ...]
    error: BaseException | None
    caller: CodeType
    line: int
    thread: str
    ident: int | None
    created: float
    fields: Mapping[str, object] | None


def _report_of(
    level: int, message: str, args: tuple[object, ...], error: BaseException | None,
    fields: Mapping[str, object] | None,
) -> _Report:
    frame = sys._getframe(2)
    thread = threading.current_thread()
    return _Report(
        level, message, args, error, frame.f_code, frame.f_lineno, thread.name, thread.ident, time(), fields
    )


def _field(value: object) -> object:
    """Return the value of a field as it is, or as text that is safe to show."""
    return value if value is None or type(value) is bool else _safe(value, "s")


def _log(entry: _Report) -> None:
    depth = getattr(_depth, "value", 0)
    if depth >= MAX_DEPTH:
        return
    try:
        _depth.value = depth + 1
        if not logger.isEnabledFor(entry.level):
            return
        error = entry.error
        info = None if error is None else (type(error), error, error.__traceback__)
        record = logger.makeRecord(
            logger.name, entry.level, entry.caller.co_filename, entry.line,
            entry.message, _shown(entry.message, entry.args), info, entry.caller.co_name,
            {name: _field(value) for name, value in (entry.fields or {}).items()},
        )
        record.threadName, record.thread = entry.thread, entry.ident  # it may be logged by another thread
        record.relativeCreated -= (record.created - entry.created) * 1000  # and later
        record.created, record.msecs = entry.created, int(entry.created % 1 * 1000) + 0.0
        logger.handle(record)
    except BaseException as failure:
        if is_interrupt(failure):
            raise
        _complain(entry, failure)
    finally:
        _depth.value = depth


def _complain(entry: _Report, failure: BaseException) -> None:
    """Say on stderr that a report could not be logged, as `logging` itself does."""
    try:
        if not logging.raiseExceptions or sys.stderr is None or _complaints.take() is None:
            return
        message = entry.message % _shown(entry.message, entry.args)
        trace = "".join(traceback.format_exception(type(failure), failure, failure.__traceback__))
        sys.stderr.write(f"lochws: {message}\n--- Not logged, because a log handler failed: ---\n{trace}")
    except BaseException as error:
        if is_interrupt(error):
            raise


class _Aside:
    """The reports that wait for a thread to log them, and that thread, which ends when none is left."""

    def __init__(self) -> None:
        self._lock = control_lock()  # a signal handler or a finalizer may report inside a report
        self._waiting: deque[_Report] = deque()  # guarded by _lock, as is what follows
        self._left_out = 0
        self._thread: threading.Thread | None = None
        forks.register(self)

    def put(self, entry: _Report) -> None:
        with self._lock:
            # Messages at level DEBUG leave room for those that matter more.
            if len(self._waiting) >= (MAX_WAITING if entry.level > logging.DEBUG else MAX_WAITING // 2):
                self._left_out += 1
                return
            self._waiting.append(entry)
            if self._thread is not None:
                return
            thread = self._thread = new_thread(self._run, "lochws-log")
            try:
                start_thread(thread)
            except BaseException as error:
                self._thread = None  # the next report tries again
                if not isinstance(error, RuntimeError):
                    raise  # Ctrl-C, say

    def flush(self, seconds: float) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            join(thread, seconds)

    def reset_after_fork(self) -> None:
        self._lock = control_lock()
        self._waiting.clear()
        self._thread = None

    def _run(self) -> None:
        while True:
            with self._lock:
                left_out, self._left_out = self._left_out, 0
                entry = self._waiting.popleft() if self._waiting else None
                if entry is None and not left_out:
                    self._thread = None
                    return
            if left_out:
                report(logging.WARNING, "%d reports were left out: the log handlers are too slow", left_out)
            if entry is not None:
                _log(entry)


_complaints = RateLimit()
_aside = _Aside()
atexit.register(flush_reports)
