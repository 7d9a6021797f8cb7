"""Waiting for non-blocking streams and sockets, under a deadline that can be cancelled."""

from __future__ import annotations

import selectors
import ssl
from time import monotonic
from typing import Protocol

from ..system.deadline import Deadline
from ..system.report import safe_str
from ..system.waits import slice_of
from .stream import Stream

#: For a few channels and a short time. poll() is preferred: unlike epoll and kqueue it needs no descriptor
#: of its own, and unlike select() it takes descriptors over 1023.
Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.DefaultSelector)


class HasDescriptor(Protocol):
    """Anything that a selector can wait on."""

    def fileno(self) -> int:
        """Return the descriptor."""


def wait(channel: HasDescriptor, events: int, deadline: Deadline, limit: float | None = None) -> bool:
    """Block until the channel is ready for `events` (``selectors.EVENT_…``).

    Args:
        limit: the longest wait in seconds, within the deadline; or None.

    Returns:
        True once the channel is ready, False if `limit` passes first.

    Raises:
        TimeoutError: the deadline has passed.
        Cancelled: the deadline was cancelled.
    """
    end = None if limit is None else monotonic() + limit
    with Selector() as selector:
        ours = selector.register(channel, events)
        selector.register(deadline, selectors.EVENT_READ)
        while True:
            timeout = deadline.remaining()
            if end is not None:
                left = end - monotonic()
                if left <= 0:
                    return False
                timeout = left if timeout is None else min(timeout, left)
            if any(key is ours for key, _ in selector.select(slice_of(timeout))):
                return True


def send_all(stream: Stream, data: bytes, deadline: Deadline) -> None:
    """Block until the kernel has taken all of `data`.

    Raises:
        OSError: the connection failed.
        TimeoutError: the deadline has passed.
        Cancelled: the deadline was cancelled.
    """
    rest = memoryview(data)
    while rest:
        deadline.remaining()
        sent = stream.send(rest)
        rest = rest[sent:]
        if not sent:
            wait(stream, selectors.EVENT_READ if stream.writes_want_read else selectors.EVENT_WRITE, deadline)


def receive(stream: Stream, size: int, deadline: Deadline, limit: float | None = None) -> bytes:
    """Block until something is received: at most `size` bytes, none at the end of the stream.

    Args:
        limit: the longest wait in seconds, within the deadline; or None.

    Raises:
        OSError: the connection failed.
        TimeoutError: the deadline or the limit has passed.
        Cancelled: the deadline was cancelled.
    """
    buffer = bytearray(size)
    while True:
        deadline.remaining()
        count = stream.receive_into(buffer)
        if count is not None:
            return bytes(memoryview(buffer)[:count])
        if stream.pending():
            continue  # it has used up its share of time, and has more to decrypt
        events = selectors.EVENT_WRITE if stream.reads_want_write else selectors.EVENT_READ
        if not wait(stream, events, deadline, limit):
            raise TimeoutError(f"timed out after {limit:g} s")


def loss(error: BaseException | None = None) -> str:
    """Describe how a connection was lost: by an error, or without one by its end."""
    if error is None:
        return "connection lost: ended by the server"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "connection lost: reset by the server"
    return f"connection lost: {cause(error)}"


def cause(error: BaseException) -> str:
    """Return what an exception says, without the error's number."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(getattr(error, "strerror", None) or safe_str(error) or type(error).__name__)
