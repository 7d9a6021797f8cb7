"""Exceptions of the drop-in for websocket-client, with its names, hierarchy and attributes."""

from __future__ import annotations


class WebSocketException(Exception):
    """The base class of the exceptions in this module."""


class WebSocketProtocolException(WebSocketException):
    """The server violated RFC 6455, or sent a message above `WebSocket.max_message_size`."""


class WebSocketPayloadException(WebSocketException):
    """The server sent damaged data: text that is not valid UTF-8."""


class WebSocketConnectionClosedException(WebSocketException):
    """The connection is not open: it was never opened, it has been closed, or the server has gone away.

    When `WebSocketApp` passes it to `on_error` because the server sent a Close frame, it has the attributes
    `status_code` and `reason`.
    """


class WebSocketTimeoutException(WebSocketException):
    """An operation did not finish within its timeout."""


class WebSocketProxyException(WebSocketException):
    """The proxy refused to connect, or its address is incomplete."""


class WebSocketBadStatusException(WebSocketException):
    """The server answered the upgrade request with another status than 101.

    Attributes:
        status_code: the status, such as 403.
        status_message: the reason phrase, such as ``"Forbidden"``.
        resp_headers: the response's headers, with lower-case names.
        resp_body: the beginning of the response's body (at most 64 KiB), or None if it is empty.
    """

    def __init__(
        self,
        message: str,
        status_code: int,
        status_message: str | None = None,
        resp_headers: dict[str, str] | None = None,
        resp_body: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.status_message = status_message
        self.resp_headers = resp_headers
        self.resp_body = resp_body

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (
            str(self), self.status_code, self.status_message, self.resp_headers, self.resp_body,
        )
        return type(self), arguments


class WebSocketAddressException(WebSocketException):
    """The server's or the proxy's host name cannot be resolved."""
