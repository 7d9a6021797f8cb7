"""Waiting for non-blocking streams and sockets: steps under a deadline that can be cancelled."""

from __future__ import annotations

import selectors
import sys
from time import monotonic
from typing import TYPE_CHECKING, TypeGuard

from ..system.deadline import Deadline
from ..system.report import safe_str
from ..system.steps import HasDescriptor, Steps, Wait
from .stream import Stream

if TYPE_CHECKING:
    import ssl

#: The reasons that OpenSSL gives if the bytes it received are not TLS.
NOT_TLS = {
    "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST",
    "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "UNEXPECTED_MESSAGE",
}


def wait(
    channel: HasDescriptor, events: int, deadline: Deadline, limit: float | None = None
) -> Steps[bool]:
    """Wait until the channel is ready for `events` (``selectors.EVENT_…``).

    Args:
        limit: the longest wait in seconds, within the deadline; or None.

    Returns:
        True once the channel is ready, False if `limit` passes first.

    Raises:
        TimeoutError: the deadline has passed.
        Cancelled: the deadline was cancelled.
    """
    end = None if limit is None else monotonic() + limit
    channels = ((channel, events),)
    while True:
        until = deadline.until()
        if end is not None:
            if end <= monotonic():
                return False
            until = end if until is None else min(until, end)
        if (yield Wait(channels, until)):
            return True


def send_all(stream: Stream, data: bytes, deadline: Deadline) -> Steps[None]:
    """Wait until the kernel has taken all of `data`.

    Raises:
        OSError: the connection failed.
        TimeoutError: the deadline has passed.
        Cancelled: the deadline was cancelled.
    """
    rest = memoryview(data)
    while rest:
        deadline.until()
        sent = stream.send(rest)
        rest = rest[sent:]
        if not sent:
            events = selectors.EVENT_READ if stream.writes_want_read else selectors.EVENT_WRITE
            yield from wait(stream, events, deadline)


def receive(stream: Stream, size: int, deadline: Deadline, limit: float | None = None) -> Steps[bytes]:
    """Wait until something is received: at most `size` bytes, none at the end of the stream.

    Args:
        limit: the longest wait in seconds, within the deadline; or None.

    Raises:
        OSError: the connection failed.
        TimeoutError: the deadline or the limit has passed.
        Cancelled: the deadline was cancelled.
    """
    while True:
        deadline.until()
        buffer = bytearray(size)
        count = stream.receive_into(buffer)
        if count is not None:
            return bytes(memoryview(buffer)[:count])
        del buffer  # thousands of openings may wait at the same time
        if stream.pending():
            yield Wait((), 0.0)  # it has used up its share of time, and has more to decrypt
            continue
        events = selectors.EVENT_WRITE if stream.reads_want_write else selectors.EVENT_READ
        if not (yield from wait(stream, events, deadline, limit)):
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
    if is_tls_error(error) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(getattr(error, "strerror", None) or safe_str(error) or type(error).__name__)


def is_tls_error(error: BaseException) -> TypeGuard[ssl.SSLError]:
    """Return whether an error is an `ssl.SSLError`. If `ssl` has not been loaded, it is not."""
    return isinstance(error, getattr(sys.modules.get("ssl"), "SSLError", ()))
