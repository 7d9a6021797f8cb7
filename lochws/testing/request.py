"""The HTTP requests of a client, read from bytes by h11."""

from __future__ import annotations

from dataclasses import dataclass, field

try:
    import h11
except ImportError as error:
    raise ImportError("lochws.testing needs h11 and wsproto: pip install 'lochws[testing]'") from error


class NotHTTPError(Exception):
    """The client sent something other than an HTTP request."""


@dataclass(frozen=True)
class Request:
    """The head of an HTTP request.

    Attributes:
        method: the method, such as ``GET``.
        target: the path, including the query.
        headers: the values by lower-case name; the values of repeated headers are joined by commas.
    """

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)


class RequestReader:
    """Parses received bytes into requests, one at a time; bodies are discarded."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER)

    def receive(self, data: bytes) -> Request | None:
        """Take received bytes, and return the request that they complete, or None.

        Bytes after the request are kept for `restart` and `trailing`.

        Raises:
            NotHTTPError: the bytes are not HTTP/1.1.
        """
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            if not isinstance(event, h11.Request):
                return None
            self._http.next_event()  # the end of the message; later bytes are kept as trailing data
        except h11.RemoteProtocolError as error:
            # After the colon, h11 shows the repr of the bytes.
            raise NotHTTPError(str(error).partition(":")[0]) from error
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Request(event.method.decode(), event.target.decode("latin-1"), headers)

    @property
    def trailing(self) -> bytes:
        """The bytes after the request."""
        data, _ = self._http.trailing_data
        return data

    def restart(self) -> Request | None:
        """Start on the next request; return it if it has arrived. Raise NotHTTPError if it is not HTTP."""
        trailing = self.trailing
        self._http = h11.Connection(h11.SERVER)
        return self.receive(trailing) if trailing else None
