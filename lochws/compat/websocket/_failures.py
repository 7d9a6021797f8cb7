"""Failures: which exception of websocket-client tells how an attempt or a connection of lochws ended."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from ... import events
from ...response import Response
from ._exceptions import (
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketPayloadException,
    WebSocketProtocolException,
    WebSocketProxyException,
    WebSocketTimeoutException,
)
from ._handshake import SUPPORTED_REDIRECT_STATUSES
from ._link import Link

_SWITCHING_PROTOCOLS = 101
_BY_PHASE: dict[str, type[WebSocketException]] = {
    "resolve": WebSocketAddressException,
    "proxy": WebSocketProxyException,
    "upgrade": WebSocketConnectionClosedException,
}


def why_not_open(link: Link) -> Exception:
    """Return the exception for a link that could not be opened."""
    end = link.final
    if link.is_discarded or end is None:
        return WebSocketConnectionClosedException("closed while connecting")
    if link.rejected is not None:
        return _refusal(link.rejected)
    causes = list(_causes(end.error))
    timed_out = any(isinstance(cause, TimeoutError) for cause in causes) or "timed out" in end.reason
    if end.phase == "upgrade" and timed_out:
        return WebSocketTimeoutException(str(end))
    if (phase_kind := _BY_PHASE.get(end.phase)) is not None:
        return phase_kind(str(end))
    kind = ssl.SSLError if end.phase == "tls" else OSError
    found = (cause for cause in causes if isinstance(cause, kind))
    return TimeoutError(str(end)) if timed_out else next(found, WebSocketException(str(end)))


def why_ended(link: Link) -> Exception:
    """Return the exception for a link that was open and has ended."""
    if link.is_discarded or link.final is None:
        return WebSocketConnectionClosedException("the connection has been closed")
    if (broken := link.broken) is not None:
        return (WebSocketPayloadException if broken.critical else WebSocketProtocolException)(broken.error)
    for cause in _causes(link.final.error):
        if isinstance(cause, ConnectionError):
            return cause
    return WebSocketConnectionClosedException(str(link.final))


def _refusal(rejected: events.Rejected) -> WebSocketException:
    response: Response = rejected.response
    status, body = response.status_code, response.body
    if status in SUPPORTED_REDIRECT_STATUSES:
        return WebSocketException(f"the redirect was not followed: {rejected}")
    if status is None or status == _SWITCHING_PROTOCOLS:
        return WebSocketException(f"the response does not open a WebSocket: {rejected}")
    # Programs look for the status at the beginning.
    text = f"Handshake status {status} {response.status}: {rejected}"
    headers = dict(response.headers)
    return WebSocketBadStatusException(text, status, response.status, headers, body or None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
