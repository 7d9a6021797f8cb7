"""Gates: what others would send over a new connection is refused until what must be said first was said."""

from __future__ import annotations

import threading

from ..connection.connection import Connection
from ..connection.sending import SendingHalf
from ..errors import WebSocketUnavailable
from ..persist import Retries
from ..protocol.payload import BytesLike, as_bytes
from ..system.waits import Waiters, wait_for
from .state import State, as_told


class Gate:
    """Keeps everybody else from sending over each new connection until it is opened.

    Made by `WebSocketApp.gate`. While a gate is shut, `WebSocketApp.send_text` and the like raise
    `WebSocketUnavailable` in every thread and every handler, `WebSocketApp.is_active` is False, and
    `WebSocketApp.wait_ready` waits; received messages reach their handlers, and pings can be sent. A
    connection that ends behind a shut gate counts as a failure to the `Backoff`, however long it was open.

    Any thread may call the methods; none blocks.
    """

    def __init__(self, life: Entrance) -> None:
        self._life = life

    def send(self, message: str | BytesLike) -> bool:
        """Send a message past all gates: text if it is a str, else binary.

        Returns:
            Whether it was accepted, as for `WebSocketApp.send_text`.

        Raises:
            TypeError: it is neither a str nor a bytes-like object.
            ValueError, WebSocketUnavailable, QueueFull, TransportFail: as for `WebSocketApp.send_text`.
        """
        data = message if isinstance(message, str) else as_bytes("Gate.send", message)
        sending = self._life.past_gates()
        if sending is None:
            raise WebSocketUnavailable("data not sent: there is no connection")
        return sending.send_text(data, True) if isinstance(data, str) else sending.send_binary(data, True)

    def open(self) -> None:
        """Let the others send, for as long as the connection lasts; the next one begins with the gate shut.

        In a handler that is the connection whose event it handles. Another thread may come too late, and
        open the gate to the connection that came next.
        """
        self._life.gate_opened(self, for_good=False)

    def remove(self) -> None:
        """Do away with the gate."""
        self._life.gate_opened(self, for_good=True)


class Entrance:
    """The part of an app's life about who has a connection to send over, and who waits for one.

    Any thread may call what is public.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal handler may call close() while its own thread is in here.
        self._lock = threading.RLock()
        self._changed = Waiters(self._lock)
        # All below is guarded by _lock. The connection is also read without it, by senders.
        self._state = State.NEW
        self.connection: Connection | None = None
        self.sendable: Connection | None = None  # the same once all gates are open; read likewise
        self._gates: frozenset[Gate] = frozenset()
        self._shut: frozenset[Gate] = frozenset()  # to the present connection
        self._is_ready = False  # the handlers of Ready have run
        self._retries: Retries | None = None  # but `next_wait`, between two attempts, goes without
        self.is_parents = False  # what ran is the parent's: this is the child of a fork

    @property
    def state(self) -> State:
        """Where the app is in its life."""
        with self._lock:
            return as_told(self._state, self.connection)

    def wait_ready(self, timeout: float | None) -> bool:
        """Wait until the handlers of Ready have run and all gates are open.

        Returns False if the time or the app is over first.
        """
        with self._lock:
            wait_for(self._changed, lambda: self._lets_in() or self._state is State.STOPPED, timeout)
            return self._lets_in()

    def wait_stopped(self, timeout: float | None) -> bool:
        """Wait until the app is over, or was never started. Returns False if the time is over first."""
        with self._lock:
            return wait_for(self._changed, lambda: self._state in (State.NEW, State.STOPPED), timeout)

    def drop(self, reason: str) -> None:
        """Drop the connection, if there is one; what follows is the back-off's to say."""
        if (connection := self.connection) is not None:
            connection.drop(reason)

    def gate(self) -> Gate:
        """Make a gate, shut to each connection to come."""
        gate = Gate(self)
        with self._lock:
            self._gates |= {gate}
        return gate

    def past_gates(self) -> SendingHalf | None:
        """What sends over the open connection whatever gates are shut, or None."""
        connection = self.connection
        return None if connection is None else connection.sending

    def gate_opened(self, gate: Gate, *, for_good: bool) -> None:
        """Note that a gate is open to the present connection, or to all."""
        with self._lock:
            self._shut -= {gate}
            if for_good:
                self._gates -= {gate}
            self._open_if_unlocked()

    # Under _lock.

    def _enter(self, connection: Connection) -> None:
        """There is a connection, and each gate is shut."""
        self.connection, self._shut = connection, self._gates
        self._open_if_unlocked()

    def _open_if_unlocked(self) -> None:
        """Let anyone send, once no gate is shut: only now the back-off takes it for a connection."""
        if self._shut or self.sendable is self.connection:
            return
        self.sendable = connection = self.connection
        if self._retries is not None and connection is not None:
            self._retries.opened(connection.loop.clock.monotonic())
        self._changed.notify_all()

    def _lets_in(self) -> bool:
        return self._is_ready and self.sendable is not None
