"""The states of a WebSocket's life, as a table.

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
    """Where a WebSocket is in its life; the value is how it is called in messages."""

    #: Never started.
    NEW = "new"
    #: An attempt to connect is under way.
    CONNECTING = "connecting"
    #: Messages can be sent.
    OPEN = "open"
    #: Our Close frame was sent; messages may still be received.
    CLOSING = "closing"
    #: The attempt or the connection has ended, and what comes next is not decided yet.
    DISCONNECTED = "disconnected"
    #: Waiting before the next attempt.
    BACKING_OFF = "backing off"
    #: Over.
    STOPPED = "stopped"


class Step(enum.Enum):
    """What moves a WebSocket from one state to the next."""

    START = "start"
    OPENED = "opened"
    ENDED = "ended"
    WAIT = "wait"
    DUE = "due"
    AGAIN = "again"
    FINISH = "finish"


class Closable(Protocol):
    """What a connection says of itself."""

    @property
    def is_closing(self) -> bool:
        """Whether our Close frame is out."""


def public_state(state: State, connection: Closable | None) -> State:
    """The state as users are told it, with what the table leaves to the connection."""
    is_closing = state is State.OPEN and connection is not None and connection.is_closing
    return State.CLOSING if is_closing else state


# OPEN and CLOSING are one state here: whether our Close frame is out, the connection itself knows.
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
    """The state that a step leads to.

    Raises:
        WebSocketError: the step is not possible in this state; nothing happens.
    """
    try:
        return _TABLE[state, step]
    except KeyError:
        raise WebSocketError(f"cannot {step.value}: {describe(state)}") from None


def describe(state: State, is_forked_copy: bool = False) -> str:
    """What to say of a WebSocket that cannot do as asked.

    Args:
        state: the state that it is in.
        is_forked_copy: whether what ran is the parent's, and this process the child of a fork.
    """
    if is_forked_copy:
        return "this process was forked, and the WebSocket was started in its parent"
    return f"the WebSocket is {state.value}"
