"""States of a WebSocket, and the table of steps from one state to the next.

::

    new ──start──▶ connecting ──opened──▶ open (closing, once our Close frame is out)
                    │  ▲  ▲                 │
                    │  │  └──again──┐       │ended
              failed│  │due         │       ▼
                    │  └─ backing off ◀──wait── disconnected ──finish──▶ stopped ──start──▶ connecting
                    └───────────────────────────▲
"""

from __future__ import annotations

import enum
from typing import Protocol

from ..errors import WebSocketError


class State(enum.Enum):
    """The state of a WebSocket. The value is the name used in messages.

    Attributes:
        NEW: the WebSocket was never started.
        CONNECTING: an attempt to connect is under way.
        OPEN: messages can be sent.
        CLOSING: our Close frame was sent; messages may still arrive.
        DISCONNECTED: the attempt or the connection has ended, and the next step has not been decided yet.
        BACKING_OFF: the wait before the next attempt.
        STOPPED: the WebSocket has ended. It may be started again.
    """

    __hash__ = object.__hash__  # an enum's own is written in Python
    NEW = "new"
    """The WebSocket was never started."""
    CONNECTING = "connecting"
    """An attempt to connect is under way."""
    OPEN = "open"
    """Messages can be sent."""
    CLOSING = "closing"
    """Our Close frame was sent; messages may still arrive."""
    DISCONNECTED = "disconnected"
    """The attempt or the connection has ended, and the next step has not been decided yet."""
    BACKING_OFF = "backing off"
    """The wait before the next attempt."""
    STOPPED = "stopped"
    """The WebSocket has ended. It may be started again."""


class Step(enum.Enum):
    """A step from one state to the next."""

    __hash__ = object.__hash__
    START = "start"
    OPENED = "opened"
    ENDED = "ended"
    WAIT = "wait"
    DUE = "due"
    AGAIN = "again"
    FINISH = "finish"


class Closable(Protocol):
    """A connection, as seen from here."""

    @property
    def is_closing(self) -> bool:
        """True if our Close frame was sent."""


def public_state(state: State, connection: Closable | None) -> State:
    """Return the state that users see. The table has no CLOSING; only the connection knows about it."""
    is_closing = state is State.OPEN and connection is not None and connection.is_closing
    return State.CLOSING if is_closing else state


# OPEN includes CLOSING here: only the connection knows whether our Close frame was sent.
_TABLE = {
    (State.NEW, Step.START): State.CONNECTING,
    (State.CONNECTING, Step.OPENED): State.OPEN,
    (State.CONNECTING, Step.ENDED): State.DISCONNECTED,
    (State.CONNECTING, Step.FINISH): State.STOPPED,  # closed before the attempt began
    (State.OPEN, Step.ENDED): State.DISCONNECTED,
    (State.DISCONNECTED, Step.WAIT): State.BACKING_OFF,
    (State.DISCONNECTED, Step.AGAIN): State.CONNECTING,
    (State.DISCONNECTED, Step.FINISH): State.STOPPED,
    (State.BACKING_OFF, Step.DUE): State.CONNECTING,
    (State.BACKING_OFF, Step.FINISH): State.STOPPED,
    (State.STOPPED, Step.START): State.CONNECTING,
}


def after(state: State, step: Step) -> State:
    """Return the state that a step leads to.

    Raises:
        WebSocketError: the step is not possible in this state.
    """
    try:
        return _TABLE[state, step]
    except KeyError:
        if step is Step.START:
            raise WebSocketError("already started") from None
        raise WebSocketError(f"cannot {step.value}: {describe(state)}") from None


def describe(state: State, is_forked_copy: bool = False) -> str:
    """Say why a WebSocket cannot do what it was asked to do.

    Args:
        state: the state of the WebSocket.
        is_forked_copy: whether this process is the child of a fork, and the WebSocket runs in its parent.
    """
    if is_forked_copy:
        return "this process was forked, and the WebSocket was started in its parent"
    verbs = {State.NEW: "has not been started", State.STOPPED: "has stopped"}
    return f"the WebSocket {verbs.get(state, f'is {state.value}')}"
