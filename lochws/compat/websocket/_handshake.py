"""The server's answer to the upgrade request, as the drop-in for websocket-client remembers it."""

from __future__ import annotations

__all__ = ["SUPPORTED_REDIRECT_STATUSES", "handshake_response"]

SUPPORTED_REDIRECT_STATUSES = (301, 302, 303, 307, 308)


class handshake_response:
    """An answer to the upgrade request.

    Attributes:
        status: the status code.
        headers: values by lower-case name.
        subprotocol: the subprotocol that the server chose, in lower case, or None.
    """

    def __init__(self, status: int | None, headers: dict[str, str], subprotocol: str | None) -> None:
        self.status, self.headers, self.subprotocol = status, headers, subprotocol
