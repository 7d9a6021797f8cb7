"""Descriptions of a server's connections for error messages: how far a script has got, and what was sent."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import ServerConnection

#: The number of messages that a description shows, each up to 200 characters long.
SHOWN = 20
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 200


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as ``2 messages``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def describe(connection: ServerConnection) -> str:
    """Describe how far the script of a connection has got, and what the client has sent."""
    step = f" at {connection.remaining[0]!r}" if connection.remaining else ""
    if connection.failure is not None:
        state = f"the script failed{step}: {connection.failure}"
    elif connection.remaining:
        end = "the connection has ended, and " if connection.is_over else ""
        state = f"{end}the script is{step}"
    else:
        end = "has ended" if connection.is_over else "is open"
        state = f"the script is complete, and the connection {end}"
    # The errors of steps that wait already say what was sent.
    sent = what_was_sent(connection)
    return f"connection {connection.number}: {state}{'' if sent in state else f'; {sent}'}"


def what_was_sent(connection: ServerConnection) -> str:
    """Describe what the client has sent; only the last messages if there are many."""
    if not connection.requests:
        return f"the client sent {counted(connection.bytes_received, 'byte')}, but no complete request"
    messages = connection.messages[-SHOWN:]
    hidden = len(connection.messages) - len(messages)
    earlier = f"{counted(hidden, 'message')} and then " if hidden > 0 else ""
    shown = ", ".join(map(_short.repr, messages)) or "no message"
    frame = connection.close_frame
    close = "" if frame is None else f" and a Close frame with code {frame[0]}"
    return f"the client sent {earlier}{shown}{close}"
