"""Gate: refuses ordinary sends on each new connection until session setup is complete."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import MethodType
from typing import Literal, Protocol, overload

from ..connection.connection import Connection
from ..connection.receipts import Receipt
from ..connection.sending import SendingHalf
from ..errors import WebSocketUnavailable
from ..options import check_bool
from ..protocol.frames import BytesLike
from ..protocol.payload import as_bytes
from ..protocol.sender import as_text
from ..system.rate_limit import RateLimit
from ..system.report import is_interrupt, report, safe_name


class Gate:
    """A gate, which refuses ordinary sends on each new connection until it is opened.

    Created by `lochws.app.Hooks.gate`.

    While a gate is closed, `WebSocketApp.send_text` and the other methods that send messages raise
    `WebSocketUnavailable` in every thread and every handler, `WebSocketApp.is_active` is False, and
    `WebSocketApp.wait_ready` waits. Received messages reach their handlers, and pings can be sent. A
    connection that ends while a gate is closed counts as a failure for the `Backoff`, however long it was
    open.

    Any thread and any handler may call the methods; none of them blocks.
    """

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    @overload
    def send(
        self, message: str | BytesLike, *, text: bool = False, receipt: Literal[False] = False
    ) -> bool: ...

    @overload
    def send(self, message: str | BytesLike, *, text: bool = False, receipt: Literal[True]) -> Receipt: ...

    @overload
    def send(self, message: str | BytesLike, *, text: bool = False, receipt: bool) -> bool | Receipt: ...

    def send(
        self, message: str | BytesLike, *, text: bool = False, receipt: bool = False
    ) -> bool | Receipt:
        """Send a message even while gates are closed, this one included; also after `remove`.

        Args:
            message: a str for a text message, or a bytes-like object for a binary one.
            text: whether to send a bytes-like object as a text message; it must be valid UTF-8.
            receipt: whether to return a `Receipt`, which tells what becomes of the message.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``). With
            ``receipt=True``, a `Receipt` in both cases.

        Raises:
            TypeError: the message is neither a str nor a bytes-like object, or `text` or `receipt` is not a
                bool.
            ValueError: the text has lone surrogates and cannot be encoded as UTF-8, or its bytes are not
                valid UTF-8.
            WebSocketUnavailable: there is no connection, or it is closing.
            QueueFull: there is no room in the queue.
            TransportFail: the network failed, and the message was not sent completely.
        """
        check_bool("text", text)
        check_bool("receipt", receipt)
        data: str | bytes
        if text or isinstance(message, str):
            data = as_text("Gate.send", message)
        else:
            data = as_bytes("Gate.send", message)
        sending = self._gates.sending()
        if sending is None:
            raise WebSocketUnavailable("not sent: there is no connection")
        if receipt:
            return sending.send_with_receipt([data], True)
        return sending.send_text(data, True) if isinstance(data, str) else sending.send_binary(data, True)

    def open(self) -> None:
        """Open the gate for the current connection. On the next connection it is closed again.

        A handler that calls this opens the gate for the connection whose event it handles. A call from
        another thread may be late, and open the gate for the next connection.
        """
        self._gates.open(self, for_good=False)

    def when_all_open(self, function: Callable[[], object]) -> None:
        """Have a function called whenever the last closed gate of a connection has been opened.

        It runs on the thread that opened the gate, without any lock, and should not block. An exception is
        logged. The function is not called for connections on which no gate is closed. The call may come late,
        after that connection has already ended.

        The app keeps the function, even if this gate is removed, until it is passed to `forget`.
        """
        self._gates.when_all_open(function)

    def forget(self, function: Callable[[], object]) -> None:
        """Have a function that was passed to `when_all_open` called no more. Any gate of the app will do.

        A call that another thread has already begun to make may still come. If the function was passed
        several times, this takes back one of them.

        Raises:
            ValueError: the function was not passed to `when_all_open`, or has been forgotten already.
        """
        self._gates.forget(function)

    def remove(self) -> None:
        """Remove the gate from this connection and from all later ones."""
        self._gates.open(self, for_good=True)


class Guarded(Protocol):
    """The life of an app, as its gates see it."""

    lock: threading.RLock

    @property
    def connection(self) -> Connection | None:
        """The open connection, or None."""

    def gates_changed(self) -> None:
        """Allow ordinary sends if all gates are open. Under the lock."""

    def tell_watchers(self) -> None:
        """Tell those who wait for the app to be ready. Without the lock."""


class Gates:
    """All gates of one app. Their state is guarded by the lock of the app's life."""

    def __init__(self, life: Guarded) -> None:
        self._life = life
        self._all: frozenset[Gate] = frozenset()
        self._closed: frozenset[Gate] = frozenset()  # on the present connection
        self._when_all_open: tuple[Callable[[], object], ...] = ()
        self._failures = RateLimit()

    def make(self) -> Gate:
        """Create a gate, which is closed on each later connection. Any thread."""
        gate = Gate(self)
        with self._life.lock:
            self._all |= {gate}
        return gate

    def close_all(self) -> None:
        """Close every gate for a new connection. Under the lock."""
        self._closed = self._all

    @property
    def are_open(self) -> bool:
        """True if all gates are open on the current connection. Under the lock."""
        return not self._closed

    def open(self, gate: Gate, *, for_good: bool) -> None:
        """Open a gate on the current connection, or remove it. Any thread."""
        with self._life.lock:
            were_open = self.are_open
            self._closed -= {gate}
            if for_good:
                self._all -= {gate}
            self._life.gates_changed()
            told = self._when_all_open if self.are_open and not were_open else ()
        self._life.tell_watchers()
        for function in told:
            try:
                function()
            except BaseException as error:
                if is_interrupt(error):
                    raise
                words = "%s, which was passed to when_all_open, failed"
                report(logging.ERROR, words, safe_name(function), error=error, limit=self._failures)

    def when_all_open(self, function: Callable[[], object]) -> None:
        """Have a function called when all gates of a connection have been opened. Any thread."""
        with self._life.lock:
            self._when_all_open += (function,)

    def forget(self, function: Callable[[], object]) -> None:
        """Have a function called no more. Any thread.

        Raises:
            ValueError: the function is not known.
        """
        with self._life.lock:
            known = self._when_all_open
            for index in reversed(range(len(known))):
                if _is_same(known[index], function):
                    self._when_all_open = (*known[:index], *known[index + 1:])
                    return
        raise ValueError(f"{safe_name(function)} is not a function that was passed to when_all_open")

    def sending(self) -> SendingHalf | None:
        """Return the open connection's sending half even while gates are closed, or None. Any thread."""
        connection = self._life.connection
        return None if connection is None else connection.sending


def _is_same(one: object, other: object) -> bool:
    """Compare by identity, but methods by equality, since they are never identical. Runs no user code."""
    return one is other or (isinstance(one, MethodType) and isinstance(other, MethodType) and one == other)
