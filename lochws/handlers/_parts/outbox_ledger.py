"""Ledger: all decisions about the messages that an outbox keeps: bounds, expiry and replacement.

Any thread asks for steps; the keeper (`lochws.handlers._parts.outbox_keepers`) runs them, several in one
transaction, on one thread at a time. What a step changes in memory, it changes after the commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import time
from typing import Literal, TypeAlias

from ...errors import QueueFull
from ...system.report import report
from .outbox_messages import FATES, Fate, OutboxError, OutboxMessage
from .outbox_tables import Table

WhenFull: TypeAlias = Literal["raise", "block", "drop_oldest"]
WHEN_FULL: tuple[WhenFull, ...] = ("raise", "block", "drop_oldest")

#: Messages that the sending side may hold. It gets no more while removals cannot be written to the disk.
MAX_TAKEN = 10_000


class Step:
    """A step of the ledger, which one thread asks for and another may run.

    Attributes:
        error: why it failed, or None.
        is_done: whether it has succeeded or failed.
        is_left: whether the caller did not wait, because it interrupts the thread that runs the steps.
        writes: whether it changes the table.
        is_durable: whether its changes must survive a power cut before it is done.
    """

    writes = True
    is_durable = False

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_done = False
        self.is_left = False
        # Not an Event: its lock could be held by a call that a signal handler has interrupted.
        self._turnstile = threading.Lock()
        self._turnstile.acquire()

    def apply(self, ledger: Ledger) -> bool:
        """Change or read the table; return False to be applied again later, without having changed it."""
        raise NotImplementedError

    def committed(self, ledger: Ledger) -> None:
        """Change what the ledger has in memory."""

    def settle(self, error: Exception | None = None) -> None:
        """Note that the step is done, and let those continue that wait for it."""
        self.error = error
        self.is_done = True
        if self._turnstile.locked():
            self._turnstile.release()

    def wait(self, timeout: float) -> bool:
        """Wait until it is done, for that many seconds at most; return whether it is."""
        if not self.is_done and self._turnstile.acquire(timeout=timeout):
            self._turnstile.release()  # for others
        return self.is_done

    def done(self) -> None:
        """Pass the result on. Called without locks, on a thread that may wait."""


class Put(Step):
    """Keep messages, all of them or none. Those of one step have different keys, or none.

    Args:
        messages: the messages.
        may_wait: whether the caller waits for room.
        kept: called when they are kept, if the caller has not waited for that.
    """

    is_durable = True

    def __init__(
        self, messages: Sequence[OutboxMessage], may_wait: bool, kept: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__()
        self.messages = messages
        self._kept = kept
        self.size = sum(message.size for message in messages)
        self.may_wait = may_wait
        self._replaced: list[OutboxMessage] = []
        self._outdated: list[int] = []
        self._dropped: list[OutboxMessage] = []

    def apply(self, ledger: Ledger) -> bool:
        """Insert the messages if there is room, and remove those that they replace."""
        self._replaced, self._outdated, self._dropped = [], [], []
        table = ledger.table
        # What is replaced makes room, even for a message that would not fit beside it.
        for key in (message.supersedes for message in self.messages if message.supersedes is not None):
            for old in table.with_key(key):
                if old.number in ledger.taken:
                    self._outdated.append(old.number)
                else:
                    self._replaced.append(old)
        count = table.count - len(self._replaced) + len(self.messages)
        size = table.size - sum(old.size for old in self._replaced) + self.size
        if ledger.is_over(count, size):
            if ledger.when_full == "drop_oldest":
                self._find_oldest(ledger, count, size)
            elif self.may_wait and not ledger.is_over(len(self.messages), self.size):
                return False
            else:
                raise ledger.full(len(self.messages), self.size)
        for old in (*self._replaced, *self._dropped):
            table.remove(old)
        for message in self.messages:
            table.insert(message._replace(number=table.last + 1))
        return True

    def _find_oldest(self, ledger: Ledger, count: int, size: int) -> None:
        replaced = {old.number for old in self._replaced}
        for old in ledger.table.read():
            if not ledger.is_over(count, size):
                return
            if old.number not in ledger.taken and old.number not in replaced:
                self._dropped.append(old)
                count, size = count - 1, size - old.size
        if ledger.is_over(count, size):
            raise ledger.full(len(self.messages), self.size)

    def committed(self, ledger: Ledger) -> None:
        """Count them."""
        ledger.put += len(self.messages)
        ledger.counts["superseded"] += len(self._replaced)
        ledger.counts["dropped"] += len(self._dropped)
        ledger.outdated.update(self._outdated)

    def done(self) -> None:
        """Log a failure that the caller could not wait for."""
        if self.is_left and self.error is None:
            self._kept()
        elif self.is_left:
            report(logging.ERROR, "%d messages that a call put into an outbox were not kept: %s",
                   len(self.messages), self.error)


class Withdraw(Step):
    """Give up a `Put` that waits for room."""

    def __init__(self, put: Put) -> None:
        super().__init__()
        self._put = put

    def apply(self, ledger: Ledger) -> bool:
        """Make the step fail instead of wait."""
        self._put.may_wait = False
        return True


class Take(Step):
    """Take messages to send. They stay in the table until their `Fate` is known.

    Args:
        count: how many at most.
        size: the sum of their sizes, except that of the first.
        marks: whether to note that they may have been sent, before they are.
        taken: called with the messages.
    """

    def __init__(
        self, count: int, size: int, marks: bool, taken: Callable[[list[OutboxMessage]], object]
    ) -> None:
        super().__init__()
        self.writes = self.is_durable = marks
        self._count, self._size, self._marks, self._taken = count, size, marks, taken
        self._found: list[OutboxMessage] = []

    def apply(self, ledger: Ledger) -> bool:
        """Read the first messages that have not been taken."""
        self._found = []
        size = 0
        if len(ledger.taken) >= MAX_TAKEN:
            return False
        for message in ledger.table.read():
            if message.number in ledger.taken:
                continue
            size += message.size
            if len(self._found) >= self._count or (self._found and size > self._size):
                break
            self._found.append(message)
        if self._marks:
            for message in self._found:
                if not message.was_sent:
                    ledger.table.mark(message, True)
        return True

    def committed(self, ledger: Ledger) -> None:
        """Note that they are taken."""
        ledger.taken.update(message.number for message in self._found)

    def done(self) -> None:
        """Pass them on."""
        if self.error is None:
            self._taken(self._found)


class Return(Step):
    """Return messages that were taken: they wait again.

    Args:
        messages: the messages.
        unmarks: whether it was noted that they may have been sent, and is known that they were not.
        returned: called when they can be taken again.
    """

    def __init__(
        self, messages: Sequence[OutboxMessage], unmarks: bool, returned: Callable[[], object]
    ) -> None:
        super().__init__()
        self._messages = messages
        self._unmarks = unmarks
        self._returned = returned
        self._outdated: list[OutboxMessage] = []

    def apply(self, ledger: Ledger) -> bool:
        """Remove those that were replaced meanwhile."""
        self._outdated = [message for message in self._messages if message.number in ledger.outdated]
        for message in self._messages:
            if message.number in ledger.outdated:
                ledger.table.remove(message)
            elif self._unmarks:
                ledger.table.mark(message, False)
        return True

    def committed(self, ledger: Ledger) -> None:
        """Note that they wait again."""
        ledger.forget(self._messages)
        ledger.counts["superseded"] += len(self._outdated)

    def done(self) -> None:
        """Report that the messages can be taken again."""
        self._returned()


class End(Step):
    """Remove messages whose fate is known.

    Args:
        messages: the messages.
        fate: what became of them.
    """

    def __init__(self, messages: Sequence[OutboxMessage], fate: Fate) -> None:
        super().__init__()
        self._messages, self._fate = messages, fate
        self._removed = 0

    def apply(self, ledger: Ledger) -> bool:
        """Remove them."""
        self._removed = sum(map(ledger.table.remove, self._messages))
        return True

    def committed(self, ledger: Ledger) -> None:
        """Count them."""
        ledger.forget(self._messages)
        ledger.counts[self._fate] += self._removed


class Expire(Step):
    """Remove the messages that have expired, except those that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self._removed = 0

    def apply(self, ledger: Ledger) -> bool:
        """Remove them."""
        expired = ledger.table.expired(time(), ledger.taken)
        self._removed = sum(map(ledger.table.remove, expired))
        return True

    def committed(self, ledger: Ledger) -> None:
        """Count them."""
        ledger.counts["expired"] += self._removed


class Read(Step):
    """Read a page of messages, taken or not.

    Attributes:
        found: the messages.
    """

    writes = False

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after
        self.found: list[OutboxMessage] = []

    def apply(self, ledger: Ledger) -> bool:
        """Read them."""
        for message in ledger.table.read(self._after):
            self.found.append(message)
            if len(self.found) >= ledger.table.page:
                break
        return True


class AwaitEmpty(Step):
    """Wait until no message is kept."""

    writes = False

    def apply(self, ledger: Ledger) -> bool:
        """Check whether the table is empty."""
        return not ledger.table.count


class Forget(Step):
    """Give up a step that waits."""

    writes = False

    def __init__(self, step: Step) -> None:
        super().__init__()
        self._step = step

    def apply(self, ledger: Ledger) -> bool:
        """Make the step count as done, so that it is not applied again."""
        self._step.is_done = True
        return True


class Close(Step):
    """Close the table, after what was asked for before."""

    writes = False

    def apply(self, ledger: Ledger) -> bool:
        """Have later steps refused."""
        ledger.failure = OutboxError("the outbox is closed")
        ledger.table.close()
        return True


class Ledger:
    """The messages of an outbox, and the rules for them.

    Args:
        table: where they are kept.
        explain: turns an exception of the table into the one to raise, and whether the table is damaged.
        max_messages, max_bytes, when_full: the bounds, and what happens at them.

    Attributes:
        taken: the numbers of the messages that the sending side has.
        outdated: those of them that a later message has replaced.
        waiting: how many messages are not taken. It is right before a step that adds some is done.
        put: how many were put.
        counts: the number of messages by their fate.
        trouble: why the last transaction failed; None if it did not.
        failure: why no more steps are run: the file is damaged, or the outbox closed.
    """

    def __init__(
        self, table: Table, explain: Callable[[Exception], tuple[OutboxError, bool]], *,
        max_messages: int, max_bytes: int, when_full: WhenFull,
    ) -> None:
        self.table = table
        self.when_full = when_full
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._explain = explain
        self.taken: set[int] = set()
        self.outdated: set[int] = set()
        self.waiting = table.count
        self.put = 0
        self.counts: dict[Fate, int] = dict.fromkeys(FATES, 0)
        self.trouble: OutboxError | None = None
        self.failure: OutboxError | None = None
        self._later: list[Step] = []  # to be applied again before others

    def is_over(self, count: int, size: int) -> bool:
        """Return whether that many messages of this size are too many. A single one may have any size."""
        return count > self._max_messages or (size > self._max_bytes and count > 1)

    def full(self, count: int, size: int) -> QueueFull:
        """Return the error for messages that do not fit."""
        what = "the message was" if count == 1 else f"{count} messages were"
        return QueueFull(
            f"{what} not put into the outbox: {self.table.count} are pending ({self.table.size} bytes), and "
            f"{count} more ({size} bytes) exceed max_messages={self._max_messages} or "
            f"max_bytes={self._max_bytes}"
        )

    def forget(self, messages: Sequence[OutboxMessage]) -> None:
        """Note that the sending side no longer has these messages."""
        numbers = [message.number for message in messages]
        self.taken.difference_update(numbers)
        self.outdated.difference_update(numbers)

    @property
    def must_retry(self) -> bool:
        """True if a step waits for the disk, for room or for the outbox to be empty."""
        return bool(self._later)

    def run(self, steps: Sequence[Step]) -> list[Step]:
        """Run steps, those that write in one transaction. Return the steps that are done."""
        done: list[Step] = []
        waiting = [step for step in (*self._later, *steps) if not step.is_done]
        while waiting:
            if (failure := self.failure) is not None:
                if any(isinstance(step, Close) for step in waiting):
                    self.table.close()
                for step in waiting:
                    step.settle(failure)
                done += waiting
                waiting = []
                break
            before = self.table.count
            later: list[Step] = []
            writing = [step for step in waiting if step.writes]
            reading = [step for step in waiting if not step.writes]
            if writing:
                # After a Take in the same transaction, others would not know what it has taken.
                self._write([Expire(), *sorted(writing, key=lambda step: isinstance(step, Take))], later)
            self._read(reading, later)
            done += [step for step in waiting if step.is_done]
            waiting = later
            is_new = self.table.count < before or self.failure is not None
            if not (is_new or any(isinstance(step, Put) and not step.may_wait for step in later)):
                break
        self._later = waiting
        return done

    def _write(self, steps: Sequence[Step], later: list[Step], *, again: bool = False) -> None:
        """Run steps in one transaction; once more if the disk was full and there may be room now."""
        applied: list[Step] = []
        waiting: list[Step] = []
        try:
            self.table.begin(durable=any(step.is_durable for step in steps))
            for step in steps:
                self._apply(step, applied, waiting)
            self.table.commit()
        except BaseException as error:  # of SQLite, mostly; the thread that runs this must live on
            has_room = self.table.roll_back()
            if not isinstance(error, Exception):  # Ctrl-C, while the main thread runs its own step
                raise
            self._failed(error)
            left = [step for step in steps if not step.is_done]
            if has_room and not again and self.failure is None:
                self._write(left, later, again=True)
                return
            for step in left:
                if isinstance(step, Put) and step not in waiting:
                    step.settle(self.trouble)
                elif not isinstance(step, Expire):
                    later.append(step)
        else:
            self.trouble = None
            later += waiting
            for step in applied:
                step.committed(self)
            self.waiting = self.table.count - len(self.taken)
            for step in applied:
                step.settle()

    def _apply(self, step: Step, applied: list[Step], waiting: list[Step]) -> None:
        """Apply one step of a transaction."""
        if isinstance(step, Put) and step.may_wait and any(isinstance(one, Put) for one in waiting):
            waiting.append(step)  # it must not overtake one that waits for room
            return
        try:
            (applied if step.apply(self) else waiting).append(step)
        except QueueFull as error:
            step.settle(error)

    def _read(self, steps: Sequence[Step], later: list[Step]) -> None:
        """Run steps that only read."""
        for step in steps:
            if self.failure is not None:
                later.append(step)
                continue
            try:
                is_applied = step.apply(self)
            except Exception as error:  # noqa: BLE001  as above
                self._failed(error)
                step.settle(self.trouble)
                continue
            if is_applied:
                step.committed(self)
                self.waiting = self.table.count - len(self.taken)
                step.settle()
            else:
                later.append(step)

    def _failed(self, error: Exception) -> None:
        self.trouble, is_final = self._explain(error)
        if is_final:
            self.failure = self.trouble
