"""The steps that the script of a server is made of.

Each function here returns a step. A script may also hold functions of your own that take the
`ServerConnection`. Seconds are multiplied by the server's `scale`. A step that waits for the client
raises `ScriptError` when the server's patience (10 s by default) is at its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

import wsproto.events as ws
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import generate_accept_token

from .connection import ServerConnection, Step
from .link import LinkEndedError
from .rawframes import frame


class NamedStep:
    """A step that shows as what was written in the script.

    Attributes:
        ends: whether the step is done when the connection ends in it.
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
        """Do it."""
        self._run(connection)


# The opening.


def wait_for_request() -> Step:
    """Wait for an HTTP request, and leave it unanswered."""
    return NamedStep("wait_for_request", ServerConnection.await_request)


def accept(*, subprotocol: str | None = None, deflate: bool = False) -> Step:
    """Wait for the upgrade request and accept it, as a server should.

    Args:
        subprotocol: the one to choose, or None for none.
        deflate: whether to agree to permessage-deflate if it is offered.
    """
    chosen = {} if subprotocol is None else {"Sec-WebSocket-Protocol": subprotocol}
    shown = [] if subprotocol is None else [subprotocol]
    return NamedStep("accept", lambda connection: _upgrade(connection, 101, chosen, b"", deflate), *shown)


def upgrade(
    status: int = 101, headers: Mapping[str, str | None] | None = None, body: str | bytes = b""
) -> Step:
    """Wait for a request unless one is there, and answer it with this status.

    The connection stays open, whatever the status. With 101 frames may follow.

    Args:
        status: the status code.
        headers: header fields that are added to those that a right answer has, or take the place of
            those of the same name; None for a value leaves that one out.
        body: what follows the head. Its length is in Content-Length unless you give that yourself.
    """
    data = body.encode() if isinstance(body, str) else body
    return NamedStep("upgrade", lambda connection: _upgrade(connection, status, headers or {}, data), status)


def _upgrade(
    connection: ServerConnection, status: int, headers: Mapping[str, str | None], body: bytes,
    deflate: bool = False,
) -> None:
    request = connection.await_request()
    extensions: list[Extension] = [PerMessageDeflate()] if deflate else []
    fields: dict[str, str | None] = {}
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        key = request.headers.get("sec-websocket-key", "")
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": generate_accept_token(key.encode()).decode(),
        }
        offers = request.headers.get("sec-websocket-extensions", "")
        agreed = server_extensions_handshake(re.split(r",\s*", offers), extensions) if deflate else None
        if agreed:
            fields["Sec-WebSocket-Extensions"] = agreed.decode()
        else:
            extensions = []
    else:
        fields = {"Content-Length": str(len(body))}
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
    """Say nothing to the client's TLS handshake until it leaves. Only as the first step, over TLS."""
    return NamedStep("tls_stall", lambda connection: connection.link.stall(), ends=True)


# Sending.


def send(message: str | bytes, *, fragment: int | None = None) -> Step:
    """Send a message: text or, if it is ``bytes``, binary.

    Args:
        message: the message.
        fragment: how many characters or bytes go into one frame, or None for a single frame.
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
    """Send bytes as they are: what no proper server would."""
    return NamedStep("send_raw", lambda connection: connection.link.send(data), data[:50])


def send_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = None
) -> Step:
    """Send a frame of any kind, also a forbidden one. The arguments are those of `rawframes.frame`."""
    data = frame(opcode, payload, fin=fin, rsv=rsv, key=key)
    return NamedStep("send_frame", lambda connection: connection.link.send(data), opcode, payload[:50])


def ping(payload: bytes = b"") -> Step:
    """Send a ping. Whether a pong comes is for `wait_for_pong` to say."""
    return NamedStep("ping", lambda connection: connection.send_event(ws.Ping(payload)), payload)


def echo() -> Step:
    """Send every message back, from now on."""
    return NamedStep("echo", lambda connection: setattr(connection, "is_echoing", True))


def split(every: int = 1) -> Step:
    """Hand what is sent from now on to the network in pieces of so many bytes."""
    return NamedStep("split", lambda connection: setattr(connection.link, "piece", every), every)


def together(*steps: Step) -> Step:
    """Do steps, and send what they send in one piece: the answer to an upgrade with frames behind it."""

    def run(connection: ServerConnection) -> None:
        connection.link.cork()
        for step in steps:
            step(connection)
        connection.link.uncork()

    return NamedStep("together", run, *steps)


# Receiving.


def wait_for(message: str | bytes | re.Pattern[str] | Callable[[str | bytes], bool]) -> Step:
    """Wait for a message. Those that come before it are passed over.

    Args:
        message: the message; or a pattern that is to be found in a text; or a function that says
            whether it is the one.
    """

    def is_it(found: str | bytes) -> bool:
        if isinstance(message, (str, bytes)):
            return found == message
        if isinstance(message, re.Pattern):
            return isinstance(found, str) and message.search(found) is not None
        return message(found)

    def run(connection: ServerConnection) -> None:
        connection.expect(lambda: connection.pass_over(is_it), f"the message {message!r}")

    return NamedStep("wait_for", run, message)


def wait_for_ping() -> Step:
    """Wait until one more ping has come than there were."""
    return NamedStep("wait_for_ping", lambda connection: _wait_for_more(connection, connection.pings, "ping"))


def wait_for_pong() -> Step:
    """Wait until one more pong has come than there were."""
    return NamedStep("wait_for_pong", lambda connection: _wait_for_more(connection, connection.pongs, "pong"))


def _wait_for_more(connection: ServerConnection, received: list[bytes], what: str) -> None:
    before = len(received)
    connection.expect(lambda: len(received) > before, f"a {what}")


def wait_for_close() -> Step:
    """Wait for the client's Close frame. It is answered, unless `ignore_close` came before."""

    def run(connection: ServerConnection) -> None:
        connection.expect(lambda: connection.close_frame is not None, "a Close frame")

    return NamedStep("wait_for_close", run, ends=True)


def wait_for_end() -> Step:
    """Wait until the client ends the connection, for as long as it takes."""
    return NamedStep("wait_for_end", lambda connection: connection.stay(), ends=True)


def stop_reading() -> Step:
    """Read no more: what the client sends fills the kernel's buffers."""
    return NamedStep("stop_reading", lambda connection: setattr(connection, "is_reading", False))


def read_on() -> Step:
    """Read again."""
    return NamedStep("read_on", lambda connection: setattr(connection, "is_reading", True))


def answer_ping(late: float | None = 0.0) -> Step:
    """Answer pings that come from now on so many seconds later; None answers none."""

    def run(connection: ServerConnection) -> None:
        connection.pong_delay = None if late is None else late * connection.scale

    return NamedStep("answer_ping", run, late)


def ignore_close() -> Step:
    """Do not answer the client's Close frame."""
    return NamedStep("ignore_close", lambda connection: setattr(connection, "answers_close", False))


def silence(seconds: float | None = None) -> Step:
    """Say nothing for a while, not even a pong; None is for good. What comes is read and recorded."""

    def run(connection: ServerConnection) -> None:
        connection.is_muted = True
        connection.stay(seconds=None if seconds is None else seconds * connection.scale)
        connection.is_muted = False

    return NamedStep("silence", run, seconds, ends=seconds is None)


def pause(seconds: float) -> Step:
    """Let time pass, and answer pings and Close meanwhile."""
    return NamedStep("pause", lambda connection: connection.stay(seconds=seconds * connection.scale), seconds)


# Ends.


def close(code: int | None = 1000, reason: str = "", *, wait: bool = True) -> Step:
    """Send a Close frame, wait for the client's, and end the connection, as a server should.

    Args:
        code: the status code, or None for none. `send_frame` sends those that are not allowed.
        reason: why.
        wait: whether to wait and end; if not, the script goes on behind the Close frame.
    """

    def run(connection: ServerConnection) -> None:
        connection.send_event(ws.CloseConnection(1005 if code is None else code, reason))
        if wait:
            connection.expect(lambda: connection.close_frame is not None, "the answer to the Close frame")
            connection.link.finish()
            connection.stay()

    return NamedStep("close", run, code, ends=wait)


def fin() -> Step:
    """End the sending direction of TCP, without a Close frame. The client can still send."""

    def run(connection: ServerConnection) -> None:
        connection.is_muted = True  # nothing more can be said
        connection.link.finish()

    return NamedStep("fin", run)


def reset() -> Step:
    """Drop the connection with a TCP reset."""

    def run(connection: ServerConnection) -> None:
        connection.link.reset()
        raise LinkEndedError

    return NamedStep("reset", run, ends=True)


def cut_after(size: int, *, with_fin: bool = False) -> Step:
    """Cut the connection after so many more bytes were sent, wherever in a frame that is.

    Args:
        size: bytes.
        with_fin: whether to end it with FIN instead of a reset.
    """

    def run(connection: ServerConnection) -> None:
        connection.link.budget = size
        connection.link.cut_with_fin = with_fin

    return NamedStep("cut_after", run, size)
