"""Keepers: the runners of an outbox's steps, on the caller's thread or on one of their own.

Neither holds a lock while it calls user code. The first runs steps under the control lock, since a finalizer
may need that one in the middle of a step; the thread of the second takes no lock at all. So a caller may wait
for either wherever it is: a signal handler, for instance, may have interrupted code that holds any lock.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from ...system.control import control_lock, start_thread
from ...system.interpreters import at_end, is_sub, new_thread, not_at_end
from ...system.rate_limit import RateLimit
from ...system.report import report
from .outbox_ledger import Close, Ledger, Step
from .outbox_messages import OutboxError

if TYPE_CHECKING:
    from .outbox_file import FileTable

#: Seconds between two attempts to write to a full disk.
RETRY_SECONDS = 1.0
#: The largest number of steps in one transaction.
MAX_STEPS = 10_000


class Keeper(Protocol):
    """Runs the steps of a ledger in order. Any thread, signal handler or finalizer may call the methods.

    Attributes:
        ledger: the ledger.
    """

    ledger: Ledger

    @property
    def is_here(self) -> bool:
        """True if the caller interrupts the thread that runs steps, and so must not wait for one."""

    def ask(self, step: Step) -> None:
        """Have a step run. It is done now or later."""

    def reset_after_fork(self) -> None:
        """Leave everything to the parent."""


class DirectKeeper:
    """Runs steps on the thread that asks, for a table in memory."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._asked: deque[Step] = deque()  # by calls that interrupt the run of a step
        self._make_lock()

    def _make_lock(self) -> None:
        self._lock = control_lock()  # a finalizer may need it while a step runs
        self._runner: int | None = None  # the thread that runs steps; guarded by the lock

    @property
    def is_here(self) -> bool:
        """True if the caller interrupts a run of steps on its own thread."""
        return self._runner == threading.get_ident()

    def ask(self, step: Step) -> None:
        """Run a step; if this interrupts the run of another one, leave it to that one's caller.

        No thread runs the steps of others: Ctrl-C on the main thread would end them, too.
        """
        mine = deque((step,))
        while mine or self._asked:
            done: list[Step] = []
            with self._lock:
                if self._runner is not None:
                    self._asked.extend(mine)
                    return
                try:
                    self._runner = threading.get_ident()
                    while mine or self._asked:
                        done += self.ledger.run([(mine or self._asked).popleft()])
                finally:
                    self._runner = None
            for one in done:
                one.done()

    def reset_after_fork(self) -> None:
        """Refuse everything in the child: the messages are the parent's."""
        self._make_lock()
        self._asked.clear()
        self.ledger.failure = _forked()


class ThreadKeeper:
    """Runs steps on a thread of its own, for a table in a file, and passes their results on by another one.

    All steps that were asked for during a transaction share the next one, and so its wait for the disk.

    Args:
        ledger: the ledger.
        table: its table.

    Raises:
        RuntimeError: no thread can be started.
    """

    def __init__(self, ledger: Ledger, table: FileTable) -> None:
        self.ledger = ledger
        self._table = table
        self._asked: SimpleQueue[Step] = SimpleQueue()
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lines = RateLimit(burst=1, per_second=1 / 60)
        self._thread = new_thread(self._run, "lochws-outbox")
        caller = new_thread(self._call, "lochws-outbox-calls")
        start_thread(caller)
        try:
            start_thread(self._thread)
        except RuntimeError:
            self._calls.put(None)
            raise
        if is_sub():  # in the main interpreter the thread is a daemon, and the file is complete at any moment
            at_end(self._close)

    @property
    def is_here(self) -> bool:
        """True in a finalizer that runs on the thread of the file."""
        return self._thread.ident == threading.get_ident()

    def ask(self, step: Step) -> None:
        """Have a step run soon."""
        self._asked.put(step)
        # Closed, or a copy in a forked child; without an ident it has yet to start.
        if self._thread.ident is not None and not self._thread.is_alive():
            self._refuse()

    def _close(self) -> None:
        self.ask(Close())

    def _refuse(self) -> None:
        while True:
            try:
                self._asked.get_nowait().settle(self.ledger.failure)
            except Empty:
                return

    def reset_after_fork(self) -> None:
        """Refuse everything in the child, and never close the file there."""
        self._table.abandon()
        self._asked, self._calls = SimpleQueue(), SimpleQueue()
        self.ledger.failure = _forked()

    def _run(self) -> None:
        ledger = self.ledger
        is_over = False
        while not is_over:
            steps = self._next()
            trouble, failure = ledger.trouble, ledger.failure
            done = ledger.run(steps)
            is_over = any(isinstance(step, Close) for step in steps)
            if not is_over and ledger.trouble is not None and ledger.trouble is not trouble:
                is_final = ledger.failure is not failure
                self._calls.put(partial(self._report, ledger.trouble, None if is_final else self._lines))
            if done:
                self._calls.put(partial(_tell, done))
        self._calls.put(None)
        self._refuse()
        not_at_end(self._close)

    def _next(self) -> list[Step]:
        """Wait for steps. Return none if it is time to retry those that could not be run."""
        steps: list[Step] = []
        try:
            steps.append(self._asked.get(timeout=RETRY_SECONDS if self.ledger.must_retry else None))
            while len(steps) < MAX_STEPS:
                steps.append(self._asked.get_nowait())
        except Empty:
            pass
        return steps

    def _call(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001  not even SystemExit may end this thread
                report(logging.ERROR, "a call of an outbox failed", error=error)

    def _report(self, trouble: OutboxError, limit: RateLimit | None) -> None:
        report(logging.ERROR, "%s", trouble, limit=limit)


def _tell(done: Sequence[Step]) -> None:
    for step in done:
        step.done()


def _forked() -> OutboxError:
    return OutboxError(
        "the outbox belongs to the parent of this forked process: make one with another path in the child"
    )
