"""Steps: the elements of a `ScriptedServer`'s scripts.

Each function here returns a step. A script may also contain your own functions, which are called with the
`ServerConnection`. Seconds are multiplied by the server's `scale`. A step that waits for the client raises
`ScriptError` when the server's patience (10 s by default) runs out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

import wsproto.events as ws
from wsproto.connection import ConnectionState
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import generate_accept_token

from ..options import check_range
from .connection import ServerConnection, Step
from .link import LinkEndedError
from .rawframes import frame
from .request import Request


class NamedStep:
    """A step whose repr is the call that created it.

    Attributes:
        ends: whether the step counts as done when the connection ends during it.
    """

    def __init__(
        self, name: str, run: Callable[[ServerConnection], object], *shown: object, ends: bool = False
    ) -> None:
        self._text = f"{name}({', '.join(map(repr, shown))})"
        self._run = run
        self.ends = ends

    def __repr__(self) -> str:
        return self._text

    def __call__(self, connection: ServerConnection) -> None:
        """Run the step on a connection."""
        self._run(connection)


# The opening.


def wait_for_request() -> Step:
    """Wait for an HTTP request and leave it unanswered."""
    return NamedStep("wait_for_request", ServerConnection.await_request)


def accept(*, protocol: str | None = None, deflate: bool = False, strict: bool = False) -> Step:
    """Wait for the upgrade request and accept it.

    Args:
        protocol: the subprotocol to select, or None for none.
        deflate: whether to agree to permessage-deflate if the client offers it.
        strict: whether to refuse invalid upgrade requests (RFC 6455 section 4.2.1) and wait for the next
            request. Not needed to test an app; recommended for a server that untrusted clients can reach.
    """
    chosen = {} if protocol is None else {"Sec-WebSocket-Protocol": protocol}
    shown = [] if protocol is None else [protocol]

    def run(connection: ServerConnection) -> None:
        while strict and (refusal := _refusal(connection.await_request())) is not None:
            refusal(connection)
        _upgrade(connection, 101, chosen, b"", deflate)

    return NamedStep("accept", run, *shown)


def _refusal(request: Request) -> Step | None:
    """Return the step that refuses an invalid upgrade request; None if the request is valid."""
    headers = request.headers
    if request.method != "GET":
        return upgrade(405, {"Allow": "GET"}, "Only GET is allowed.\n")
    if "websocket" not in _tokens(headers.get("upgrade", "")) or "upgrade" not in _tokens(
        headers.get("connection", "")
    ):
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Content-Type": "text/plain"}
        return upgrade(426, fields, "This is a WebSocket server: connect to it with a WebSocket client.\n")
    if headers.get("sec-websocket-version") != "13":
        return upgrade(426, {"Sec-WebSocket-Version": "13"}, "Only version 13 of WebSocket is supported.\n")
    try:
        is_key = len(base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)) == 16
    except binascii.Error:
        is_key = False
    return None if is_key else upgrade(400, body="Sec-WebSocket-Key is missing or not valid.\n")


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def upgrade(
    status: int = 101, headers: Mapping[str, str | None] | None = None, body: str | bytes = b""
) -> Step:
    """Answer the next request with a status.

    The connection stays open, whatever the status. After 101, frames may follow.

    Args:
        status: the status code.
        headers: headers to add to those of a correct answer, or to replace those of the same name; None as
            the value omits a header.
        body: the body. Content-Length is set to its length unless `headers` contains it.
    """
    data = body.encode() if isinstance(body, str) else body
    return NamedStep("upgrade", lambda connection: _upgrade(connection, status, headers or {}, data), status)


def reject(
    status: int = 403, *, headers: Mapping[str, str | None] | None = None, body: str | bytes = b""
) -> Step:
    """Answer the upgrade request with an HTTP status other than 101, and end the connection.

    ``reject(503, headers={"Retry-After": "30"})`` is an overloaded server. With `upgrade` the connection
    stays open for another request, as for authentication.

    Args:
        status: the status code, from 200 to 599.
        headers: headers to add to Content-Length and ``Connection: close``, or to replace them; None as the
            value omits a header.
        body: the body.

    Raises:
        TypeError, ValueError: `status` is not such a number.
    """
    check_range("status", status, 200, 599)
    fields = {"Connection": "close", **(headers or {})}
    data = body.encode() if isinstance(body, str) else body

    def run(connection: ServerConnection) -> None:
        _upgrade(connection, status, fields, data)
        connection.link.finish()
        connection.stay()

    return NamedStep("reject", run, status, ends=True)


def _upgrade(
    connection: ServerConnection, status: int, headers: Mapping[str, str | None], body: bytes,
    deflate: bool = False,
) -> None:
    request = connection.await_request()
    extensions: list[Extension] = []
    fields: dict[str, str | None] = {"Content-Length": str(len(body))}
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        key = request.headers.get("sec-websocket-key", "")
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": generate_accept_token(key.encode()).decode(),
        }
        if deflate:
            offers = re.split(r",\s*", request.headers.get("sec-websocket-extensions", ""))
            offered: list[Extension] = [PerMessageDeflate()]
            if agreed := server_extensions_handshake(offers, offered):
                fields["Sec-WebSocket-Extensions"] = agreed.decode()
                extensions = offered
    for name, value in headers.items():
        fields = {known: old for known, old in fields.items() if known.lower() != name.lower()}
        fields[name] = value
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    connection.link.send(head + body)
    connection.answered(extensions if status == HTTPStatus.SWITCHING_PROTOCOLS else None)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def tls_stall() -> Step:
    """Leave the client's TLS handshake unanswered until it gives up. Only as the first step, with TLS."""
    return NamedStep("tls_stall", lambda connection: connection.link.stall(), ends=True)


# Sending.


def send(message: str | bytes, *, fragment: int | None = None) -> Step:
    """Send a message: text or, if it is ``bytes``, binary.

    Args:
        message: the message.
        fragment: the number of characters or bytes per frame, or None for a single frame.
    """

    def run(connection: ServerConnection) -> None:
        size = fragment or max(1, len(message))
        parts = [message[start:start + size] for start in range(0, len(message), size)] or [message]
        for number, part in enumerate(parts, 1):
            finished = number == len(parts)
            event = (
                ws.TextMessage(part, message_finished=finished)
                if isinstance(part, str)
                else ws.BytesMessage(part, message_finished=finished)
            )
            connection.send_event(event)

    return NamedStep("send", run, message if len(message) < 50 else message[:50])


def send_raw(data: bytes) -> Step:
    """Send raw bytes, which need not be valid frames."""
    return NamedStep("send_raw", lambda connection: connection.link.send(data), data[:50])


def send_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = None
) -> Step:
    """Send any frame, valid or not.

    Args:
        opcode: 0 continuation, 1 text, 2 binary, 8 Close, 9 ping, 10 pong; the others are reserved.
        payload: the payload, before masking.
        fin: whether it is the last frame of its message.
        rsv: the three reserved bits as a number; 4 is RSV1.
        key: the four bytes to mask with; None leaves it unmasked, as servers must.
    """
    data = frame(opcode, payload, fin=fin, rsv=rsv, key=key)
    return NamedStep("send_frame", lambda connection: connection.link.send(data), opcode, payload[:50])


def ping(payload: bytes = b"") -> Step:
    """Send a ping. `wait_for_pong` waits for the answer."""
    return NamedStep("ping", lambda connection: connection.send_event(ws.Ping(payload)), payload)


def echo() -> Step:
    """From now on, send every message back."""
    return NamedStep("echo", lambda connection: setattr(connection, "is_echoing", True))


def split(every: int = 1) -> Step:
    """From now on, hand bytes to the network in pieces of `every` bytes."""
    return NamedStep("split", lambda connection: setattr(connection.link, "piece", every), every)


def together(*steps: Step) -> Step:
    """Send the data of several steps in one piece, such as an upgrade response and the first frames."""

    def run(connection: ServerConnection) -> None:
        connection.link.cork()
        for step in steps:
            step(connection)
        connection.link.uncork()

    return NamedStep("together", run, *steps)


# Receiving.


def wait_for(message: str | bytes | re.Pattern[str] | Callable[[str | bytes], bool]) -> Step:
    """Wait for a message; skip others that arrive before it.

    Args:
        message: the message itself, a pattern to search for in text messages, or a function that returns
            whether a message matches.
    """

    def is_it(found: str | bytes) -> bool:
        if isinstance(message, (str, bytes)):
            return found == message
        if isinstance(message, re.Pattern):
            return isinstance(found, str) and message.search(found) is not None
        return message(found)

    def run(connection: ServerConnection) -> None:
        connection.expect(lambda: connection.skip_until(is_it), f"message {message!r}")

    return NamedStep("wait_for", run, message)


def wait_for_ping() -> Step:
    """Wait until one more ping arrives."""
    return NamedStep("wait_for_ping", lambda connection: _wait_for_more(connection, connection.pings, "ping"))


def wait_for_pong() -> Step:
    """Wait until one more pong arrives."""
    return NamedStep("wait_for_pong", lambda connection: _wait_for_more(connection, connection.pongs, "pong"))


def _wait_for_more(connection: ServerConnection, received: list[bytes], what: str) -> None:
    before = len(received)
    connection.expect(lambda: len(received) > before, what)


def wait_for_close() -> Step:
    """Wait for the client's Close frame, which is answered unless `ignore_close` was done before."""

    def run(connection: ServerConnection) -> None:
        connection.expect(lambda: connection.close_frame is not None, "Close frame")

    return NamedStep("wait_for_close", run, ends=True)


def wait_for_end() -> Step:
    """Wait until the client ends the connection, however long it takes."""
    return NamedStep("wait_for_end", lambda connection: connection.stay(), ends=True)


def stop_reading() -> Step:
    """Stop reading, so that data from the client fills the kernel's buffers."""
    return NamedStep("stop_reading", lambda connection: setattr(connection, "is_reading", False))


def read_on() -> Step:
    """Resume reading after `stop_reading`."""
    return NamedStep("read_on", lambda connection: setattr(connection, "is_reading", True))


def answer_ping(late: float | None = 0.0) -> Step:
    """From now on, answer pings after `late` seconds; None leaves them unanswered."""

    def run(connection: ServerConnection) -> None:
        connection.pong_delay = None if late is None else late * connection.scale

    return NamedStep("answer_ping", run, late)


def ignore_close() -> Step:
    """Do not answer the client's Close frame."""
    return NamedStep("ignore_close", lambda connection: setattr(connection, "answers_close", False))


def silence(seconds: float | None = None) -> Step:
    """Send nothing for a number of seconds, not even pongs; None means forever. Reading continues."""

    def run(connection: ServerConnection) -> None:
        connection.is_muted = True
        connection.stay(seconds=None if seconds is None else seconds * connection.scale)
        connection.is_muted = False

    return NamedStep("silence", run, seconds, ends=seconds is None)


def pause(seconds: float) -> Step:
    """Pause the script for a number of seconds; pings and Close are answered meanwhile."""
    return NamedStep("pause", lambda connection: connection.stay(seconds=seconds * connection.scale), seconds)


# Ends.


def close(code: int | None = 1000, reason: str = "", *, wait: bool = True) -> Step:
    """Send a Close frame, wait for the client's, and end the connection, as a server should.

    If the closing handshake is already complete, only wait until the client has disconnected.

    Args:
        code: the close code, or None for none. `send_frame` can send codes that are not allowed.
        reason: the reason.
        wait: whether to wait for the answer and end; otherwise the script continues after the Close frame.
    """

    def run(connection: ServerConnection) -> None:
        if connection.state is ConnectionState.CLOSED:
            connection.stay()
        connection.send_event(ws.CloseConnection(1005 if code is None else code, reason))
        if wait:
            connection.expect(lambda: connection.close_frame is not None, "answer to the Close frame")
            connection.link.finish()
            connection.stay()

    return NamedStep("close", run, code, ends=wait)


def fin() -> Step:
    """Send FIN without a Close frame: the server sends nothing more, but the client still can."""

    def run(connection: ServerConnection) -> None:
        connection.is_muted = True  # nothing more can be sent
        connection.link.finish()

    return NamedStep("fin", run)


def reset() -> Step:
    """Drop the connection with a TCP reset."""

    def run(connection: ServerConnection) -> None:
        connection.link.reset()
        raise LinkEndedError

    return NamedStep("reset", run, ends=True)


def cut_after(size: int, *, with_fin: bool = False) -> Step:
    """Cut the connection after `size` more bytes, even in the middle of a frame.

    Args:
        size: the number of bytes.
        with_fin: whether to end the connection with FIN instead of a reset.
    """

    def run(connection: ServerConnection) -> None:
        connection.link.budget = size
        connection.link.cut_with_fin = with_fin

    return NamedStep("cut_after", run, size)
