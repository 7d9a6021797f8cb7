"""A file with the last number of each stream, replaced as a whole so that a crash leaves a complete one."""

from __future__ import annotations

import inspect
import json
import logging
import os
import threading
from collections.abc import Hashable, Mapping
from pathlib import Path

from ...system.control import control_lock, may_wait, start_thread
from ...system.interpreters import new_thread
from ...system.rate_limit import RateLimit
from ...system.report import report
from ...system.waits import Waiters, wait_for
from .numbering import NUMBER_LIMIT

_FORMAT = "lochws sequence 1"


class NumberFile:
    """Saves numbers in a file, on a thread that exists only while there is something to save.

    All methods may be called from any thread.

    Args:
        path: the file. Its directory must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Leave saving to the parent."""
        self._lock = control_lock()
        self._changed = Waiters(self._lock)
        self._wanted: dict[Hashable, int] | None = None  # not saved yet
        self._is_busy = False
        self._thread: threading.Thread | None = None
        self._lines = RateLimit(burst=1, per_second=1 / 60)

    @property
    def has_failed(self) -> bool:
        """True if the latest numbers could not be saved, and no thread is trying to save them."""
        return self._wanted is not None and not self._is_busy

    def load(self) -> dict[Hashable, int]:
        """Return the numbers in the file; none if it does not exist.

        Raises:
            ValueError: the file is damaged, or is not one of these.
            OSError: it cannot be read.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(text)
            if found["format"] != _FORMAT:
                raise ValueError("unknown format")
            numbers: dict[Hashable, int] = dict(found["numbers"])
            for key, number in numbers.items():
                if not (is_savable(key) and type(number) is int and -NUMBER_LIMIT <= number < NUMBER_LIMIT):
                    raise ValueError("a key or its number is not valid")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"state={str(self.path)!r} is not a valid state file ({error}); remove it to begin anew"
            ) from error
        return numbers

    def save(self, numbers: Mapping[Hashable, int]) -> None:
        """Save these numbers soon, in place of all that are in the file. Never blocks."""
        self._start(dict(numbers))

    def flush(self, timeout: float | None) -> bool:
        """Repeat a failed save, wait for the end, and return whether everything has been saved in time."""
        if self._is_interrupted():
            return False  # it would wait for the call that it interrupts
        if self.has_failed:
            self._start(None)
        timeout = timeout if may_wait() else 0.0
        with self._lock:
            wait_for(self._changed, lambda: not self._is_busy, timeout)
            return self._wanted is None and not self._is_busy

    def _start(self, numbers: dict[Hashable, int] | None) -> None:
        with self._lock:
            self._wanted = self._wanted if numbers is None else numbers
            if self._is_busy:
                return
            self._is_busy = True
        try:
            self._thread = new_thread(self._run, "lochws-sequence")
            start_thread(self._thread)
        except BaseException as error:
            with self._lock:
                self._is_busy = False
                self._changed.notify_all()
            if not isinstance(error, RuntimeError):
                raise
            self._failed(error)  # there is no room for a thread, or the interpreter is exiting

    def _is_interrupted(self) -> bool:
        """Return whether the caller, a finalizer or signal handler, interrupts this object on its thread."""
        frame = inspect.currentframe()
        for _ in range(2):  # this method and `flush`
            frame = None if frame is None else frame.f_back
        while frame is not None:
            if frame.f_globals.get("__name__") in (__name__, "threading"):
                owner = frame.f_locals.get("self")
                if owner is self or (owner is not None and owner is self._thread):
                    return True
            frame = frame.f_back
        return False

    def _run(self) -> None:
        error = None
        while True:
            with self._lock:
                if self._wanted is None or error is not None:
                    self._is_busy = False
                    self._changed.notify_all()
                    break
                numbers, self._wanted = self._wanted, None
            try:
                self._write(numbers)
            except Exception as raised:  # noqa: BLE001  a full disk, for example
                error = raised
                with self._lock:
                    self._wanted = numbers if self._wanted is None else self._wanted
        if error is not None:
            self._failed(error)

    def _write(self, numbers: dict[Hashable, int]) -> None:
        text = json.dumps({"format": _FORMAT, "numbers": list(numbers.items())})
        draft = self.path.with_name(f"{self.path.name}.new")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        if os.name == "posix":  # the new name, too, survives a power cut
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _failed(self, error: Exception) -> None:
        words = "the numbers of a sequence cannot be saved in %s"
        report(logging.ERROR, words, self.path, error=error, limit=self._lines)


def is_savable(key: object) -> bool:
    """Return whether a key can be saved: a str, an int or None."""
    return key is None or (isinstance(key, (str, int)) and not isinstance(key, bool))
