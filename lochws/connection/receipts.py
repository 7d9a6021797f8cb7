"""Receipts: what is known about the way of a message, or of several that were sent together.

A receipt follows its messages on the one connection that they were sent on. It is settled once: when the
server has proved that it has read the messages, or when the connection ends.
"""

from __future__ import annotations

import enum
import logging
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from threading import Event
from time import monotonic
from typing import Final, Protocol, TypeAlias

from ..base.callables import check_runs, check_takes
from ..errors import WebSocketError
from ..options import as_timeout
from ..system.control import interrupts
from ..system.report import is_interrupt, report, safe_name
from ..system.waits import LONGEST_SECONDS, ReentrantEvent, wait_set

#: The position of messages that will never be sent, or have not been queued yet.
NOWHERE: Final = sys.maxsize

#: A function that the user wants to be called, with its argument.
Call: TypeAlias = "Callable[[], object]"


class ReceiptState(str, enum.Enum):
    """The state of a `Receipt`. Each state is also a str, so it can be compared with ``"confirmed"``.

    Attributes:
        QUEUED: the message waits in the send queue.
        WRITTEN: the operating system has taken the message completely.
        CONFIRMED: a pong has answered a ping that was sent after the message, or the server has answered our
            Close frame. So the WebSocket layer of the server has read the message; whether the program
            behind it has, only a reply from that program can tell.
        IN_DOUBT: the connection ended after the message, or part of a batch, was written and before it was
            confirmed. It may have arrived or not.
        UNSENT: the connection ended before the message was written, or the full queue dropped it. It has not
            arrived.
    """

    QUEUED = "queued"
    """The message waits in the send queue."""
    WRITTEN = "written"
    """The operating system has taken the message completely."""
    CONFIRMED = "confirmed"
    """The WebSocket layer of the server has read the message."""
    IN_DOUBT = "in doubt"
    """The connection ended when the message was written but not confirmed. It may have arrived or not."""
    UNSENT = "unsent"
    """The message was not written, and has not arrived."""

    def __str__(self) -> str:
        """Return the value, as f-strings do in every version of Python."""
        return self.value

    def __format__(self, spec: str) -> str:
        """Format the value."""
        return format(self.value, spec)


class Line(Protocol):
    """The queue of a receipt's connection."""

    @property
    def items_taken(self) -> int:
        """The position before which the kernel has taken everything."""


class Receipt:
    """The receipt for a message, or for all messages of one `lochws.WebSocket.send_many`.

    Returned by the methods that send, with ``receipt=True``. It belongs to the connection that the message
    was sent on, and is settled at the latest when that connection ends: nothing is sent again on the next
    one. Any thread may use it.

    A receipt is similar to a `concurrent.futures.Future`, but it has no exceptions and cannot be cancelled:
    its result is its final state.
    """

    __slots__ = (
        "__weakref__", "_calls", "_end", "_events", "_final", "_first", "_line", "_may_block", "_process",
    )

    def __init__(self, line: Line, may_block: Callable[[], bool]) -> None:
        self._line: Line | None = line  # until it is settled
        self._may_block = may_block
        self._process = os.getpid()
        # The positions of its first message and after its last one.
        self._first = self._end = NOWHERE
        self._final: ReceiptState | None = None
        # Changed by any thread without a lock. The thread that removes an entry calls it.
        self._calls: list[Call] = []
        self._events: list[Event] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.state}>"

    @property
    def state(self) -> ReceiptState:
        """The present state. It never blocks."""
        line = self._line
        if self._final is not None or line is None:
            return self._final or ReceiptState.IN_DOUBT
        return ReceiptState.WRITTEN if line.items_taken >= self._end else ReceiptState.QUEUED

    def done(self) -> bool:
        """Return whether the state is final: confirmed, in doubt or unsent. Never blocks."""
        return self._final is not None

    def result(self, timeout: float | None = None) -> ReceiptState:
        """Wait until the state is final, and return it.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            `ReceiptState.CONFIRMED`, `ReceiptState.IN_DOUBT` or `ReceiptState.UNSENT`.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            TimeoutError: the timeout has passed.
            WebSocketError: the state is not final yet, and it was called in a handler of the app or by the
                thread that iterates the WebSocket, which would wait for itself; or by a signal handler or
                finalizer that interrupts lochws; or in the child of a fork.
        """
        timeout = as_timeout("result", timeout)
        if self._final is None:
            self._check_wait()
            self._wait(timeout)
        if self._final is None:
            raise TimeoutError(f"the message is still {self.state} after {timeout:g} s")
        return self._final

    def add_done_callback(self, function: Callable[[Receipt], object]) -> None:
        """Call a function with the receipt once its state is final.

        It is called on the thread that runs the app's handlers, between two of them and before those of
        Disconnected; or immediately, on the calling thread, if the state is final already. It may call
        everything that a handler may. An exception that it raises is logged.

        Raises:
            TypeError: the function cannot be called with one argument, or is a coroutine or generator
                function.
        """
        if not callable(function):
            raise TypeError(f"add_done_callback: function={function!r}: expected a function of one argument")
        name = f"add_done_callback: {safe_name(function)}"
        check_runs(name, function)
        check_takes(name, function, 1)
        self._when_settled(partial(function, self))

    # For lochws.

    def _when_settled(self, call: Call) -> None:
        self._calls.append(call)
        # Checked after adding: `_settled` sets the state first, and then takes what there is.
        if self._final is not None:
            run_calls(self._take_calls())

    def _take_calls(self) -> list[Call]:
        calls: list[Call] = []
        while self._calls:
            try:
                calls.append(self._calls.pop(0))
            except IndexError:  # another thread was faster
                break
        return calls

    def _settled(self, state: ReceiptState) -> list[Call]:
        """Set the final state, wake the waiting threads, and return what to call. Once, without locks."""
        self._final = state
        self._line = None
        for event in tuple(self._events):
            event.set()
        return self._take_calls()

    def _check_wait(self) -> None:
        if self._process != os.getpid():
            raise WebSocketError("result(): the message was sent in the parent of this forked process")
        if not self._may_block():
            raise WebSocketError(
                "result() was called in a handler, and would wait for that handler's end: "
                "use add_done_callback"
            )
        if interrupts():
            raise WebSocketError("result(): a call that interrupts lochws cannot wait")

    def _wait(self, timeout: float | None) -> None:
        event = ReentrantEvent()
        self._events.append(event)
        try:
            # Checked after adding: see `_when_settled`.
            end = None if timeout is None else monotonic() + timeout
            while self._final is None and (end is None or monotonic() < end):
                wait_set(event, LONGEST_SECONDS if end is None else max(0.0, end - monotonic()))
        finally:
            self._events.remove(event)


def run_calls(calls: Iterable[Call]) -> None:
    """Call functions of the user's, and log what they raise."""
    for call in calls:
        try:
            call()
        except BaseException as error:
            # On the main thread that may be Ctrl-C; on others SystemExit must not end the reader.
            if is_interrupt(error):
                raise
            name = safe_name(call.func if isinstance(call, partial) else call)
            report(logging.ERROR, "callback %s of a receipt failed", name, error=error)
