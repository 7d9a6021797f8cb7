"""Open a stream and upgrade it to a WebSocket, as events, under one deadline."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import monotonic

from . import errors, events
from .deadline import Cancelled, Deadline
from .options import Options, as_headers, as_protocols
from .protocol import deflate
from .protocol.handshake import Agreement, HeadParser, build_request, check_response, make_key
from .response import Response
from .transport.connect import open_stream
from .transport.proxy import ProxyURL, check_proxies, choose_proxy
from .transport.stream import Stream
from .transport.tls import check_tls, make_context
from .transport.waiting import cause, receive, send_all
from .url import Endpoint, parse_url

_RECEIVE = 16 * 1024
#: How much of a refusal's body is kept, in bytes, and how long it is waited for, in seconds.
MAX_BODY = 64 * 1024
BODY_SECONDS = 2.0

# Answers that have no body whatever their headers say (RFC 9110 section 6.4.1); after a 101, frames follow.
_BODILESS = {101, 204, 304}
_LAST_CHUNK = b"0\r\n\r\n"
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")


@dataclass
class Opened:
    """A WebSocket that has just opened. Its stream belongs to whoever gets this.

    Attributes:
        stream: the connection.
        response: the server's answer.
        agreement: what was negotiated.
        rest: frames that came right behind the answer.
    """

    stream: Stream
    response: Response
    agreement: Agreement
    rest: bytes


@dataclass
class _Request:
    """What one attempt asks for."""

    endpoint: Endpoint
    key: str
    protocols: tuple[str, ...]
    data: bytes


class Dialler:
    """Opens the connections of one WebSocket, one attempt at a time.

    Raises:
        TypeError, ValueError, FileNotFoundError: the URL, the proxies or the TLS options are wrong.
    """

    def __init__(self, options: Options, url: str | Callable[[], str]) -> None:
        check_tls(options)
        check_proxies(options.proxies)
        self._options = options
        self._url: Endpoint | Callable[[], str] = url if callable(url) else parse_url(url)
        self._context: ssl.SSLContext | None = None  # made for the first wss URL, and kept

    def dial(self, deadline: Deadline) -> Generator[events.Event, None, Opened | None]:
        """Make one attempt: yields its events, blocks between them.

        The first event is Connecting. If the attempt fails, the last one is ConnectFail or
        Disconnected, and nothing is left open; so too if the generator is closed early.

        Args:
            deadline: the limit for the attempt as a whole; cancelling it ends the attempt at once.
                It stays the caller's to close.

        Returns:
            The open WebSocket, or None if the attempt failed.
        """
        try:
            endpoint = self._url if isinstance(self._url, Endpoint) else parse_url(self._url())
        except Exception as error:  # noqa: BLE001  the user's function may raise anything
            yield events.Connecting("")  # there is no URL to show
            yield unprepared(error)
            return None
        yield events.Connecting(str(endpoint))
        try:
            request = self._prepare(endpoint)
        except Exception as error:  # noqa: BLE001  likewise
            yield unprepared(error)
            return None
        try:
            proxy, stream = self._connect(endpoint, deadline)
        except errors.ConnectFail as fail:
            yield _failed(fail)
            return None
        try:
            return (yield from self._upgrade(stream, request, proxy, deadline))
        except BaseException:
            stream.close()
            raise

    def _prepare(self, endpoint: Endpoint) -> _Request:
        options = self._options
        headers, protocols = options.headers, options.protocols
        checked_headers = as_headers(headers()) if callable(headers) else headers
        checked_protocols = as_protocols(protocols()) if callable(protocols) else protocols
        key = make_key()
        data = build_request(
            endpoint,
            key,
            headers=checked_headers,
            agent=options.agent,
            origin=options.origin,
            protocols=checked_protocols,
            extensions=None if options.deflate is None else deflate.offer(options.deflate),
            auth=options.auth or endpoint.credentials,
        )
        return _Request(endpoint, key, checked_protocols, data)

    def _connect(self, endpoint: Endpoint, deadline: Deadline) -> tuple[ProxyURL | None, Stream]:
        try:
            proxy = choose_proxy(endpoint, self._options.proxies)
        except ValueError as error:  # from the environment: given ones were checked
            raise errors.ConnectFail(f"unable to connect to proxy; {error}", phase="proxy") from error
        try:
            if endpoint.is_secure and self._context is None:
                self._context = make_context(self._options)
        except OSError as error:  # the file of authorities has gone since it was checked
            raise errors.ConnectFail(f"unable to connect; {cause(error)}", phase="tls") from error
        context = self._context if endpoint.is_secure else None
        return proxy, open_stream(endpoint, proxy, context, deadline)

    def _upgrade(
        self, stream: Stream, request: _Request, proxy: ProxyURL | None, deadline: Deadline
    ) -> Generator[events.Event, None, Opened | None]:
        """Upgrade the stream, or close it and yield the final event."""
        try:
            send_all(stream, request.data, deadline)
        except (OSError, Cancelled) as error:
            stream.close()
            yield _failed(_unwritten(error, stream.address))
            return None
        yield events.Connected(str(request.endpoint), None if proxy is None else str(proxy))
        parser = HeadParser()
        try:
            response = _read_head(stream, parser, deadline)
        except errors.HandshakeError as error:
            stream.close()
            yield events.ProtocolError(str(error), critical=True)
            yield _lost(f"disconnected; {error}", "server", error)
            return None
        except (OSError, EOFError, Cancelled) as error:
            stream.close()
            yield _interrupted(error)
            return None
        try:
            agreement = check_response(response, request.key, request.protocols, self._options.deflate)
        except errors.HandshakeError as error:
            response.body = _read_body(stream, response, parser.rest, deadline)
            stream.close()
            yield events.Rejected(response, str(error))
            yield _lost(f"disconnected; {error}", "server", error)
            return None
        return Opened(stream, response, agreement, parser.rest)


def _read_head(stream: Stream, parser: HeadParser, deadline: Deadline) -> Response:
    while parser.head is None:
        data = receive(stream, _RECEIVE, deadline)
        if not data:
            raise EOFError
        parser.feed(data)
    return Response(parser.head)


def unprepared(error: Exception) -> events.ConnectFail:
    """The final event of an attempt that failed before anything was sent."""
    reason = f"unable to prepare the request; {type(error).__name__}: {error}"
    return events.ConnectFail(reason, phase="prepare", error=error)


def _failed(fail: errors.ConnectFail) -> events.ConnectFail:
    return events.ConnectFail(str(fail), phase=fail.phase, address=fail.address, error=fail)


def _unwritten(error: Exception, address: str) -> errors.ConnectFail:
    if isinstance(error, Cancelled):
        return errors.ConnectFail("closed while connecting", phase="upgrade", address=address)
    fail = errors.ConnectFail(f"request failed; {cause(error)}", phase="upgrade", address=address)
    fail.__cause__ = error
    return fail


def _interrupted(error: Exception) -> events.Disconnected:
    """The final event when the answer to the upgrade request did not come whole."""
    if isinstance(error, Cancelled):
        return _lost("closed while the upgrade was under way", "client", None)
    if isinstance(error, TimeoutError):
        return _lost(f"disconnected; no answer to the upgrade request: {cause(error)}", "network", error)
    if isinstance(error, EOFError):
        return _lost("socket fail; connection lost", "network", None)
    return _lost(f"socket fail; recv fail; {cause(error)}", "network", error)


def _lost(reason: str, ended_by: str, error: BaseException | None) -> events.Disconnected:
    return events.Disconnected(reason, phase="upgrade", ended_by=ended_by, error=error)


def _read_body(stream: Stream, response: Response, rest: bytes, deadline: Deadline) -> bytes:
    """The beginning of a refusal's body: what comes in `BODY_SECONDS`, at most `MAX_BODY` bytes.

    A body in chunks is put together (RFC 9112 section 7.1); from where it breaks those rules, or
    ends early, what came is kept as it is.
    """
    if response.status_code in _BODILESS:
        return b""
    chunked = "chunked" in (response.get("transfer-encoding") or "").lower()
    length = response.get("content-length") or ""
    known = not chunked and length.isdecimal() and len(length) < 10
    size = min(int(length), MAX_BODY) if known else MAX_BODY
    end = monotonic() + BODY_SECONDS
    body = bytearray(rest)
    try:
        while len(body) < size and (left := end - monotonic()) > 0:
            if chunked and body.endswith(_LAST_CHUNK):
                break
            data = receive(stream, _RECEIVE, deadline, left)
            if not data:
                break
            body += data
    except (OSError, Cancelled):
        pass  # what came is worth more than the reason why there is no more
    return (_dechunked(body) if chunked else bytes(body))[:size]


def _dechunked(body: bytearray) -> bytes:
    content = bytearray()
    position = 0
    while match := _CHUNK_HEAD.match(body, position):
        size = int(match[1], 16)
        if size == 0:
            return bytes(content)
        content += body[match.end():match.end() + size]
        position = match.end() + size + len(b"\r\n")
    return bytes(content + body[position:])
