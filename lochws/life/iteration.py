"""Iteration: one connection, driven as in Lomond by the thread that iterates it; no threads are started.

The iterating thread opens the connection, holds the loop's baton, and takes the events from the inbox.
Everything else works as in a threaded program, and other threads may send and close.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from time import monotonic
from typing import Protocol

from .. import events
from ..connection.connection import Connection
from ..connection.incoming import IncomingStream
from ..connection.past import Past
from ..connection.trace import as_trace
from ..connection.window import kept_window
from ..engine.inbox import Inbox
from ..engine.loop import Loop
from ..errors import WebSocketError
from ..opening.dial import Dialler, unprepared
from ..options import Options, Timing
from ..system import forks
from ..system.control import control_lock
from ..system.deadline import Deadline
from ..system.report import report
from ..system.steps import performed
from ..system.waits import slice_of
from ..url import without_secrets
from .counters import Traffic
from .state import State, Step, after, describe, public_state


class Life(Protocol):
    """The driver of a WebSocket's connections: an iteration, or the life of an app."""

    @property
    def state(self) -> State:
        """The state of the WebSocket."""

    @property
    def connection(self) -> Connection | None:
        """The open connection, or None."""

    @property
    def sendable(self) -> Connection | None:
        """The open connection if ordinary sends are allowed, or None."""

    @property
    def is_forked_copy(self) -> bool:
        """True if this process is the child of a fork, and the WebSocket runs in its parent."""

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Close the connection, or cancel the attempt."""

    def drop(self, reason: str) -> None:
        """Drop the connection, if there is one."""


class Iteration:
    """The driver of a WebSocket that is iterated: its connections, one after the other.

    Args:
        dialler: opens connections.
        options: the WebSocket's options.
        traffic: the totals of the connections that have ended.
        url: the URL without credentials, for traces and messages.
    """

    def __init__(self, dialler: Dialler, options: Options, traffic: Traffic, url: str) -> None:
        self._dialler = dialler
        self._options = options
        self._traffic = traffic
        self._url = url
        self._window = kept_window(options.rate)
        # Reentrant, because a signal handler may call close() while its own thread is in here.
        self._lock = control_lock()
        # All below is guarded by _lock. The connection is also read without it, by senders.
        self._state = State.NEW
        self.connection: Connection | None = None
        self.sendable: Connection | None = None  # likewise; an iteration has no gates
        self._deadline: Deadline | None = None
        self._thread: threading.Thread | None = None  # the iterating thread
        self._past = Past()  # for the iterating thread
        self._held: tuple[Inbox | Loop, ...] = ()  # what the iteration works with
        self._loop: Loop | None = None  # one of them
        self._stop: tuple[int | None, str | bytes] | None = None
        self.is_forked_copy = False  # it is iterated in the parent; this is the child of a fork
        forks.register(self)

    # Any thread.

    @property
    def state(self) -> State:
        """The state of the WebSocket."""
        with self._lock:
            return public_state(self._state, self.connection)

    def reset_after_fork(self) -> None:
        """Become stopped and ready to iterate again, in the child of a fork; the parent iterates on."""
        self._lock = control_lock()
        if self._state not in (State.NEW, State.STOPPED):
            self.is_forked_copy = True
            self._state = State.STOPPED
        for held in self._held:
            held.reset_after_fork()
        self._held = ()
        self.connection = self.sendable = self._deadline = self._thread = self._loop = None

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Close the connection, or cancel the attempt. Code and reason must be valid."""
        with self._lock:
            connection = self.connection
            if self._state is State.CONNECTING:
                self._stop = self._stop or (code, reason)
                if self._deadline is not None:
                    self._deadline.cancel()
        if connection is not None:
            connection.close(code, reason)

    def drop(self, reason: str) -> None:
        """Drop the connection, if there is one."""
        connection = self.connection
        if connection is not None:
            connection.drop(reason)

    # The iterating thread.

    def iterate(self, timing: Timing) -> Generator[events.Event, None, None]:
        """Connect once and yield the events."""
        with self._lock:
            if self._state not in (State.NEW, State.STOPPED):
                raise WebSocketError("this WebSocket is being iterated already; make another one")
            self._state = after(self._state, Step.START)
            self._thread = threading.current_thread()
            self._stop = None
            self.is_forked_copy = False
        inbox = Inbox(handle=lambda _: None, notify=lambda _: None)  # `iterate` takes from it
        loop = None
        try:
            try:
                loop = Loop()
                self._held = inbox, loop
                self._loop = loop
                deadline = Deadline(self._options.open_timeout)
                self._past.tried()
            except OSError as error:  # no descriptors left, for one
                yield events.Connecting(self._url)
                yield unprepared(error)
                return
            connection = yield from self._open(timing, deadline, loop, inbox)
            while connection is not None:
                while (batch := inbox.take()) is not None:
                    items, then = batch
                    yield from items
                    if then is not None:
                        then()
                if connection.is_finished:
                    return
                if connection is not self.connection:
                    raise WebSocketError(f"cannot iterate: {describe(self._state, self.is_forked_copy)}")
                self._turn(loop, connection, until=lambda: inbox.has_backlog, limit=slice_of(None))
        finally:
            self._leave(loop)

    def _open(
        self, timing: Timing, deadline: Deadline, loop: Loop, inbox: Inbox
    ) -> Generator[events.Event, None, Connection | None]:
        try:
            with self._lock:
                self._deadline = deadline
                if self._stop is not None:
                    deadline.cancel()
            opened = yield from performed(self._dialler.dial(deadline), deadline)
        finally:
            with self._lock:
                self._deadline = None
            deadline.close()
        if opened is None:
            return None
        connection = Connection(
            opened, self._options, timing, listener=self, loop=loop, inbox=inbox, past=self._past,
            gather=False, trace=as_trace(self._options.trace, self._url), window=self._window,
        )
        with self._lock:
            self._state = after(self._state, Step.OPENED)
            self.connection = self.sendable = connection
            stop = self._stop
        loop.add(connection)
        if stop is not None:
            connection.close(*stop)
        return connection

    def _turn(
        self, loop: Loop, connection: Connection, until: Callable[[], bool], limit: float | None
    ) -> None:
        try:
            loop.turn(until, limit)
        except Exception as error:  # noqa: BLE001  the final event has it
            # The poller has failed, for example: the connection ends, and the iteration with it.
            connection.on_error(error)

    def _leave(self, loop: Loop | None) -> None:
        """Release everything after the iteration has ended or was left early."""
        connection = self.connection
        if connection is not None:
            url = without_secrets(self._url)
            report(logging.WARNING, "the iteration of %s was left early: disconnecting", url)
            connection.drop("the iteration was left")
            connection.on_touch(monotonic())
        self._held = ()
        self._loop = None
        if loop is not None:
            loop.close()
        with self._lock:
            self._state = State.STOPPED

    # Notifications from the connection.

    def connection_ended(self, connection: Connection, event: events.Disconnected) -> None:
        """Note the end: the iteration yields the event and ends."""
        self._traffic.add(connection)
        with self._lock:
            self._state = after(self._state, Step.ENDED)
            self.connection = self.sendable = None

    def ready_handled(self) -> None:
        """Do nothing: no thread waits for Ready."""

    def end_handled(self) -> None:
        """Do nothing: the iteration ends by itself."""

    def may_block(self) -> bool:
        """Return whether the calling thread is not the iterating thread. Any thread."""
        return threading.current_thread() is not self._thread

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Return True, since an iteration yields every event."""
        return True

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
        """Turn the loop once if the calling thread iterates; otherwise return False. Any thread."""
        loop, connection = self._loop, self.connection
        if loop is None or connection is None or threading.current_thread() is not self._thread:
            return False
        try:
            self._turn(loop, connection, until, limit)
        except BaseException:
            # Ctrl-C, which may have come between receiving bytes and processing them.
            connection.drop("interrupted")
            raise
        return True

    def stream_handled(self, stream: IncomingStream) -> None:
        """Skip the rest of the stream, since the next event was asked for."""
        stream.close()
