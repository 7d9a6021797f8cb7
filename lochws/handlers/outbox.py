"""Outbox: messages that must arrive, kept until they are confirmed, over any number of connections.

::

    app = WebSocketApp("wss://orders.example.org")
    with Outbox(
        app, path="orders.outbox", id_field="id",
        confirm=lambda event: event.json["id"] if event.json["op"] == "ack" else None,
    ) as outbox:
        app.start()
        outbox.put({"op": "order", "amount": 100})

Once `put` has returned, the message is in the file, and survives a crash of the program or the machine. It is
sent as soon as a session is ready, and again on the next connection, until the server confirms it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from sys import is_finalizing
from time import monotonic, time
from typing import Literal

from .. import Feed, WebSocketApp
from ..base.callables import check_takes
from ..codec import JSON
from ..errors import WebSocketError
from ..options import MIB, as_timeout, check_choice, check_number, check_range, check_seconds
from ..system import forks
from ..system.control import interrupts, may_wait
from ..system.lazy import ensure_whole
from ..system.report import safe_repr
from ..system.waits import SLICE_SECONDS
from ._parts.checks import check_app_or_feed
from ._parts.messages import Message, check_message, is_message
from ._parts.outbox_keepers import DirectKeeper, Keeper, ThreadKeeper
from ._parts.outbox_ledger import (
    WHEN_FULL,
    AwaitEmpty,
    Close,
    Expire,
    Forget,
    Ledger,
    Put,
    Read,
    Step,
    WhenFull,
    Withdraw,
)
from ._parts.outbox_messages import OutboxCounts, OutboxError, OutboxMessage, as_str
from ._parts.outbox_sending import Confirm, Rules, Sending
from ._parts.outbox_tables import SYNCHRONOUS, MemoryTable, Synchronous, Table

__all__ = ["Outbox", "OutboxCounts", "OutboxError", "OutboxMessage"]


class Outbox:
    """Keeps messages until they are confirmed, and sends them in order whenever a session is ready.

    Messages are sent in the order of `put`, at most `window` of them ahead of their confirmations. A session
    is ready when the handlers of Ready have run and all gates are open, such as those of a `Subscriptions`.

    A message is *in doubt* if its connection ended after it was sent and before it was confirmed: it may have
    arrived or not. A message that was not sent completely is not in doubt, and is sent again in any case.

    In memory (``path=None``), messages are lost when the program ends. In a file they are not: `put` returns
    when the disk has the message, and the next Outbox with the same path sends what was not confirmed. A
    program that ends between a confirmation and its record sends the message again (or calls `on_in_doubt`).

    All methods may be called from any thread, handler, signal handler or finalizer. With a file, `put` and
    `put_many` block for one transaction of SQLite; in memory they do not. With ``when_full="block"`` they
    also wait for room, except in handlers. `flush` waits for confirmations. Functions are called on the
    handlers' thread, except `add_id`.

    Args:
        app: the app, or the feed.
        path: a file for the messages, which is created if it does not exist; None to keep them in memory.
            Each outbox needs a file of its own.
        confirm: what confirms a message. ``"receipt"``: the server's WebSocket layer has read it (see
            `lochws.Receipt`). A function of each received `Text` and `Binary`: it returns the id that the
            message confirms, or several ids, or True for the oldest message in flight, or None. Exceptions
            that it raises are logged at level DEBUG. ``"written"``: the operating system has taken it.
        in_doubt: ``"resend"`` to send messages in doubt again: each arrives at least once, and the server
            can recognize repetitions by their ids. ``"tell"`` to pass them to `on_in_doubt` and forget them:
            each is sent at most once. The latter writes to the file before each message is sent.
        on_in_doubt: called with each `OutboxMessage` in doubt; required by ``"tell"``. After a crash it may
            be called for messages that were not sent or were confirmed, and again for the same message.
        id_field: the field for the id of a message, which must then be a mapping.
        add_id: a function that takes a message and its id and returns the message to send, in place of
            `id_field`. Called by `put` on its thread.
        expires: seconds after which a message is no longer sent, by the wall clock, unless `put` says
            otherwise; None for no limit.
        window: the maximum number of messages in flight. With 1, each message waits for the confirmation of
            the one before, so that not even resending changes their order.
        timeout: seconds without confirmation after which the connection is dropped (between one and one and
            a quarter times as long); None for no limit. Not for ``"written"``.
        max_messages, max_bytes: the limits on the messages that are kept. A message counts for its bytes plus
            200. A single message is accepted whatever its size.
        when_full: what `put` does at a bound. ``"raise"``: it raises `QueueFull`. ``"block"``: it waits for
            room, at most `put_timeout` seconds; in handlers, and in calls that interrupt lochws, it raises.
            ``"drop_oldest"``: the messages that have waited longest are dropped, except those that are
            being sent.
        put_timeout: seconds that `put` waits for room at most, with ``"block"``; None for no limit.
        synchronous: ``"FULL"``: a power cut loses nothing that `put` has accepted. ``"NORMAL"``: it may lose
            the latest messages, but the end of the program alone does not. `put` is many times faster.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
        OutboxError: the file is damaged, is not an outbox, is in use, or cannot be opened.
        RuntimeError: no thread can be started.
    """

    def __init__(
        self,
        app: WebSocketApp | Feed,
        path: str | os.PathLike[str] | None = None,
        *,
        confirm: Confirm = "receipt",
        in_doubt: Literal["resend", "tell"] = "resend",
        on_in_doubt: Callable[[OutboxMessage], object] | None = None,
        id_field: str | None = None,
        add_id: Callable[[Message, str], Message] | None = None,
        expires: float | None = None,
        window: int = 100,
        timeout: float | None = 30.0,
        max_messages: int = 1_000_000,
        max_bytes: int = 1024 * MIB,
        when_full: WhenFull = "raise",
        put_timeout: float | None = 30.0,
        synchronous: Synchronous = "FULL",
    ) -> None:
        check_app_or_feed(app)
        if not (path is None or isinstance(path, (str, os.PathLike))):
            raise TypeError(f"path={path!r}: expected the path of a file, or None")
        if path == "" or (path is not None and "\0" in os.fsdecode(path)):
            raise ValueError(f"path={path!r}: expected the path of a file, or None")
        if callable(confirm):
            check_takes("confirm", confirm, 1)
        else:
            check_choice("confirm", confirm, ("receipt", "written"))
        check_choice("in_doubt", in_doubt, ("resend", "tell"))
        _check_function("on_in_doubt", on_in_doubt, 1)
        if (in_doubt == "tell") is (on_in_doubt is None):
            raise ValueError('in_doubt="tell" and on_in_doubt need each other: pass both, or neither')
        if not (id_field is None or isinstance(id_field, str)):
            raise TypeError(f"id_field={id_field!r}: expected the name of a field, or None")
        _check_function("add_id", add_id, 2)
        if id_field is not None and add_id is not None:
            raise ValueError("id_field and add_id exclude each other")
        for name, seconds in (("expires", expires), ("timeout", timeout)):
            if seconds is not None:
                check_number(name, seconds, 0.001, "more than 0 seconds, or None")
        for name, value in (("window", window), ("max_messages", max_messages), ("max_bytes", max_bytes)):
            check_range(name, value, 1)
        check_choice("when_full", when_full, WHEN_FULL)
        check_choice("synchronous", synchronous, SYNCHRONOUS)
        self._app = app
        self._codec = JSON if isinstance(app, Feed) else app.hooks.codec
        self._id_field, self._add_id, self._expires = id_field, add_id, expires
        self._when_full: WhenFull = when_full
        check_seconds("put_timeout", put_timeout)
        self._put_timeout = put_timeout
        self._prefix = secrets.token_hex(8)
        self._numbers = count(1)
        bounds = partial(Ledger, max_messages=max_messages, max_bytes=max_bytes, when_full=when_full)
        self._keeper = _keeper(path, synchronous, bounds)
        self._sending = Sending(app, self._keeper, Rules(confirm, on_in_doubt, window, timeout))
        self._is_closed = False
        forks.register(self)
        self._sending.wake()

    # Putting.

    def put(
        self, message: Message, *, id: str | None = None, supersede: str | None = None,  # noqa: A002  its name
        expires: float | None = None,
    ) -> str:
        """Put a message into the outbox. Once this has returned, the message is kept until its fate is known.

        Args:
            message: text, bytes, or a mapping or list, which the app's codec encodes (for a feed: JSON).
            id: the id of the message; None for a new one, which is unique. Two messages with the same id are
                confirmed together.
            supersede: a key; messages with the same key that wait are removed, and so is one in flight if it
                is in doubt later.
            expires: seconds after which the message is no longer sent; `math.inf` for no limit; None for the
                `expires` of the outbox.

        Returns:
            The id. If Ctrl-C or another exception of a signal handler interrupts this call, the message may
            have been kept. A call by a finalizer or signal handler that interrupts the outbox itself returns
            before the message is kept; a failure is then logged.

        Raises:
            TypeError, ValueError: an argument is invalid, or the message cannot be encoded.
            QueueFull: there is no room, or none within `put_timeout`; the message is not kept.
            OutboxError: the file cannot be written or is damaged, the outbox is closed, or the interpreter is
                shutting down; the message is not kept. The error says what to do.
            Exception: whatever `add_id` raised.
        """
        return self._put([self._made(message, id, supersede, self._deadline(expires))])[0]

    def put_many(self, messages: Iterable[Message], *, expires: float | None = None) -> list[str]:
        """Put messages into the outbox, all or none of them, in one transaction.

        Args:
            messages: the messages. They and their encoded forms are in memory during the call.
            expires: see `put`.

        Returns:
            Their ids.

        Raises:
            TypeError, ValueError: an argument is invalid, or a message cannot be encoded.
            QueueFull: there is no room; none of the messages is kept.
            OutboxError: the file cannot be written or is damaged, the outbox is closed, or the interpreter is
                shutting down; none is kept.
        """
        if isinstance(messages, (str, bytes, bytearray, Mapping)) or not isinstance(messages, Iterable):
            raise TypeError(f"messages={safe_repr(messages)}: expected several messages")
        deadline = self._deadline(expires)
        made = [self._made(message, None, None, deadline) for message in messages]
        return self._put(made) if made else []

    def _deadline(self, expires: float | None) -> float | None:
        if expires is None:
            expires = self._expires
        elif expires != inf:
            check_number("expires", expires, 0.001, "more than 0 seconds, or None")
        return None if expires is None or expires == inf else time() + expires

    def _made(
        self, message: Message, id: str | None, supersede: str | None, deadline: float | None  # noqa: A002
    ) -> OutboxMessage:
        """Return a message as it is kept, with a number that the ledger replaces."""
        if not is_message(message):
            raise TypeError(f"message={safe_repr(message)}: expected str, bytes, a mapping or a list")
        for name, value in (("id", id), ("supersede", supersede)):
            if not (value is None or isinstance(value, str)):
                raise TypeError(f"{name}={value!r}: expected a str, or None")
            if value is not None:
                _check_text(name, value)
        own = f"{self._prefix}-{next(self._numbers)}" if id is None else as_str(id)
        if self._id_field is not None:
            if not isinstance(message, Mapping):
                raise TypeError(f"message={safe_repr(message)}: expected a mapping, since id_field was given")
            message = {**message, self._id_field: own}
        elif self._add_id is not None:
            message = self._add_id(message, own)
            if not is_message(message):
                kind = type(message).__name__
                raise TypeError(f"add_id returned {kind}: expected str, bytes, a mapping or a list")
        payload = check_message("message", message, self._codec)
        payload = as_str(payload) if isinstance(payload, str) else b"".join((payload,))
        key = None if supersede is None else as_str(supersede)
        return OutboxMessage(0, own, payload, key, time(), deadline)

    def _put(self, messages: list[OutboxMessage]) -> list[str]:
        self._check_not_exiting()
        blocks = self._when_full == "block" and not (self._app.in_handler or interrupts())
        step = Put(messages, blocks, self._sending.wake)
        try:
            self._keeper.ask(step)
            if not self._await(step, self._put_timeout if blocks else None):
                self._keeper.ask(Withdraw(step))
                self._await(step)
        finally:
            if not step.is_done:  # Ctrl-C: it may be kept later
                step.is_left = True
            self._sending.wake()
        return [message.id for message in messages]

    # Waiting, reading, ending.

    @property
    def pending(self) -> int:
        """The number of messages that are kept: they wait, or are in flight."""
        return self._keeper.ledger.table.count

    @property
    def counts(self) -> OutboxCounts:
        """The counts of messages by what became of them."""
        ledger, sending = self._keeper.ledger, self._sending
        return OutboxCounts(
            put=ledger.put, pending=ledger.table.count, pending_bytes=ledger.table.size,
            in_flight=sending.in_flight, sent=sending.sent, in_doubt=sending.doubts, **ledger.counts,
        )

    @property
    def failure(self) -> OutboxError | None:
        """Why the outbox has stopped: its file is damaged, or it was closed. None while it works."""
        return self._keeper.ledger.failure

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until no message is pending: all have been confirmed, or have met another fate.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether no message is pending.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: called in a handler of the app, which would wait for itself, or by a call that
                interrupts lochws.
            OutboxError: the outbox has stopped, or the interpreter is shutting down.
        """
        timeout = as_timeout("flush", timeout)
        if not self.pending and self.failure is None:
            return True
        if self._app.in_handler or interrupts() or self._keeper.is_here:
            raise WebSocketError("flush() would wait for itself here: call it on another thread")
        self._check_not_exiting()
        step = AwaitEmpty()
        self._keeper.ask(step)
        if self._await(step, timeout):
            return True
        self._keeper.ask(Forget(step))
        return False

    def __iter__(self) -> Iterator[OutboxMessage]:
        """Iterate over the messages that are pending, in order. With a file, they are read in pages.

        Messages that are put or removed meanwhile may be missing or not.

        Raises:
            OutboxError: the outbox has stopped, its file is damaged, or the interpreter is shutting down.
        """
        last = 0
        while True:
            self._check_not_exiting()
            step = Read(last)
            self._keeper.ask(step)
            self._await(step)
            yield from step.found
            if len(step.found) < self._keeper.ledger.table.page:
                return
            last = step.found[-1].number

    def close(self) -> int:
        """Stop: nothing more is sent or kept. A file keeps its messages for the next Outbox.

        May be called again. Messages in flight count as not confirmed, even if they are confirmed later.

        Returns:
            The number of messages that were pending.
        """
        pending = self.pending
        if is_finalizing():
            return pending
        self._sending.stop()
        if self.failure is None or not self._is_closed:
            self._is_closed = True
            step = Close()
            self._keeper.ask(step)
            with suppress(OutboxError):
                self._await(step)
        return pending

    def reset_after_fork(self) -> None:
        """Stop in the child of a fork: the messages, the file and the connection are the parent's."""
        self._is_closed = True
        self._keeper.reset_after_fork()
        self._sending.stop()

    def _check_not_exiting(self) -> None:
        """Raise OutboxError during the shutdown of the interpreter, when daemon threads have stopped.

        A finalizer that runs then would wait for them, or for a lock that one of them still holds.
        """
        if is_finalizing():
            raise OutboxError(
                "the outbox takes no more messages: the interpreter is shutting down; put them before the "
                "program ends, or in a function registered with atexit"
            )

    def _await(self, step: Step, timeout: float | None = None) -> bool:
        """Wait until a step is done; return False if it is not in time.

        Raises:
            OutboxError, QueueFull: it has failed.
        """
        end = None if timeout is None else monotonic() + timeout
        while not step.is_done:
            if self._keeper.is_here:
                step.is_left = True
                return True
            left = SLICE_SECONDS if end is None else min(SLICE_SECONDS, end - monotonic())
            if left <= 0:
                return False
            if not step.wait(left):
                if not may_wait():  # the thread of the file may be waiting for a lock that this one holds
                    step.is_left = True
                    return True
                self._keeper.ask(Expire())  # may make room; and a keeper that has ended refuses both
        if step.error is not None:
            raise type(step.error)(str(step.error)) from step.error.__cause__
        return True

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the outbox."""
        self.close()


def _check_function(name: str, function: object, count: int) -> None:
    if function is not None:
        if not callable(function):
            raise TypeError(f"{name}={function!r}: expected a function, or None")
        check_takes(name, function, count)


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeError as error:
        raise ValueError(f"{name}={value!r} cannot be encoded as UTF-8: {error}") from error


def _keeper(
    path: str | os.PathLike[str] | None, synchronous: Synchronous,
    ledger: Callable[[Table, Callable[[Exception], tuple[OutboxError, bool]]], Ledger],
) -> Keeper:
    """Return the keeper for a file, or for memory."""
    if path is None:
        return DirectKeeper(ledger(MemoryTable(), _explain))
    ensure_whole("lochws.handlers._parts.outbox_file")
    from ._parts.outbox_file import FileTable  # noqa: PLC0415  SQLite is optional in Python

    table = FileTable(Path(os.path.abspath(os.fsdecode(path))), synchronous)
    try:
        return ThreadKeeper(ledger(table, table.explain), table)
    except BaseException:
        table.close()
        raise


def _explain(error: Exception) -> tuple[OutboxError, bool]:
    raised = OutboxError(f"the outbox has failed: {error!r}")
    raised.__cause__ = error
    return raised, True
