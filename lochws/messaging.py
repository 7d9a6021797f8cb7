"""What a WebSocket is told and asked while it lives: send, close, how it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .connection.sending import SendingHalf
from .errors import WebSocketClosed, WebSocketUnavailable
from .life.counters import Counters, Traffic
from .life.iteration import Life
from .life.state import State, in_words
from .protocol.close import as_reason, encode_close
from .protocol.payload import BytesLike, as_bytes, as_control_payload
from .transport.encryption import TLS


class Messaging:
    """The part of `WebSocket` that any thread may use, at any time."""

    # Set by WebSocket.
    _life: Life
    _traffic: Traffic
    # The event `close_called`, once somebody has asked for it: few do, and it is large. Where two threads ask
    # at once there may be two, of which both get the first.
    _close_events: list[threading.Event]

    def send_text(self, text: str, compress: bool = True) -> bool:
        """Send a text message. May be called from any thread; never blocks in the network.

        Args:
            text: the message.
            compress: whether it is compressed if the server agreed to permessage-deflate.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``).

        Raises:
            TypeError: the text is no str.
            ValueError: it has lone surrogates and cannot be encoded as UTF-8.
            WebSocketUnavailable: the WebSocket is not open; the text says which state it is in.
                `WebSocketClosing` if our Close frame was sent.
            QueueFull: there is no room in the queue.
            TransportFail: the network failed; the message was not sent whole.
        """
        if not isinstance(text, str):
            raise TypeError(f"send_text: expected a str, not {type(text).__name__}")
        connection = self._life.sendable
        if connection is None:
            raise self._unavailable()
        sending = connection.sending
        if sending.is_plain and type(text) is str and text.isascii():
            return sending.queue.push(text, len(text))  # one step less for what is sent most
        return sending.send_text(text, compress)

    def send_binary(self, data: BytesLike, compress: bool = True) -> bool:
        """Send a binary message: any bytes-like object, copied at once. Else as `send_text`."""
        payload = as_bytes("send_binary", data)
        return self._sending().send_binary(payload, compress)

    def send_json(
        self,
        _obj: Any = ...,
        /,
        *,
        compress: bool = True,
        encoder: Callable[[Any], str] = json.dumps,
        **fields: Any,
    ) -> bool:
        """Send an object as JSON, in a text message: one positional object, or keywords.

        Fields called ``compress`` or ``encoder`` need the positional form.

        Args:
            compress: as for `send_text`.
            encoder: turns the object into text.

        Raises:
            ValueError: both an object and keywords were given.
            TypeError: the object cannot be written as JSON.
            WebSocketUnavailable, QueueFull, TransportFail: as for `send_text`.
        """
        if _obj is not ... and fields:
            raise ValueError("send_json: give one object or keywords, not both")
        return self.send_text(encoder(fields if _obj is ... else _obj), compress)

    def send_many(self, messages: Iterable[str | BytesLike], compress: bool = True) -> bool:
        """Send messages in one go, str as text and bytes-like objects as binary; nothing comes between them.

        Cheaper than one call for each. All are accepted, or none: if the network fails when some were sent
        whole, the others are in `Disconnected.unsent`. Returns and raises as `send_text`.
        """
        checked = [
            message if isinstance(message, str) else as_bytes("send_many", message) for message in messages
        ]
        return self._sending().send_many(checked, compress)

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Let messages gather while the ``with`` block runs; its end sends them, in few system calls.

        For bursts that take a while to make. What any thread sends waits with them, but for full
        batches.

        Raises:
            WebSocketUnavailable: the WebSocket is not open.
        """
        queue = self._sending().queue
        queue.cork()
        try:
            yield
        finally:
            queue.uncork()

    def send_ping(self, data: BytesLike = b"") -> None:
        """Send a ping with at most 125 bytes. Its Pong tells the latency if the data is unique.

        Raises:
            TypeError: the data is not bytes-like.
            ValueError: it has more than 125 bytes.
            WebSocketUnavailable, QueueFull, TransportFail: as for `send_text`.
        """
        payload = as_control_payload("send_ping", data)
        self._past_gates().send_ping(payload)

    def send_pong(self, data: BytesLike) -> None:
        """Send a pong that nobody asked for, with at most 125 bytes. Errors as for `send_ping`."""
        payload = as_control_payload("send_pong", data)
        self._past_gates().send_pong(payload)

    def close(self, code: int | None = 1000, reason: str | bytes = "goodbye") -> None:
        """Close: send our Close frame, once; what the server still sends is received.

        May be called from any thread, in a handler or the iterating loop, in any state and any number
        of times; never blocks. An attempt to connect is called off.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999, or None for a Close frame without.
            reason: text, or its UTF-8; cut to 123 bytes at the end of a character.

        Raises:
            TypeError, ValueError: code or reason may not be sent.
        """
        encode_close(code, reason)
        self.close_called.set()
        self._life.close(code, as_reason(reason))

    @property
    def close_called(self) -> threading.Event:
        """Set by `close`; cleared when `persist` begins."""
        if not self._close_events:
            self._close_events.append(threading.Event())
        return self._close_events[0]

    def force_disconnect(self, reason: str = "force_disconnect was called") -> None:
        """Drop the connection without waiting for a closing handshake. May be called from any thread.

        Args:
            reason: why, for `Disconnected.reason` and for the server.
        """
        if not isinstance(reason, str):
            raise TypeError(f"force_disconnect: reason={reason!r}: expected a str")
        self._life.drop(reason)

    @property
    def state(self) -> State:
        """Where the WebSocket is in its life."""
        return self._life.state

    @property
    def is_active(self) -> bool:
        """Whether messages can be sent."""
        return self._life.sendable is not None and self._life.state is State.OPEN

    @property
    def is_closing(self) -> bool:
        """Whether our Close frame was sent and the connection has not ended yet."""
        return self._life.state is State.CLOSING

    @property
    def is_closed(self) -> bool:
        """Whether the connection, or the attempt, has ended and none is to follow."""
        return self._life.state is State.STOPPED

    @property
    def supports_compression(self) -> bool:
        """Whether there is a connection and the server agreed to permessage-deflate."""
        connection = self._life.connection
        return connection is not None and connection.supports_compression

    @property
    def tls(self) -> TLS | None:
        """What TLS has agreed on with the server when the connection was opened, and its certificate.

        None without a connection, and without TLS to the server itself: what a proxy has agreed on does not
        count. A connection may have ended before the handlers of its last events run. Any thread; never
        blocks.
        """
        connection = self._life.connection
        return None if connection is None else connection.tls

    @property
    def latency(self) -> float | None:
        """Seconds between the connection's last answered ping and its pong, or None."""
        connection = self._life.connection
        return None if connection is None else connection.latency

    @property
    def queued_bytes(self) -> int:
        """About how many accepted bytes wait for the network to take them; 0 without a connection."""
        connection = self._life.connection
        return 0 if connection is None else connection.sending.queue.waiting_bytes

    @property
    def counters(self) -> Counters:
        """What was moved since the WebSocket was made, over all its connections."""
        return self._traffic.with_open(self._life.connection)

    def _sending(self) -> SendingHalf:
        connection = self._life.sendable
        if connection is None:
            raise self._unavailable()
        return connection.sending

    def _past_gates(self) -> SendingHalf:
        connection = self._life.connection
        if connection is None:
            raise self._unavailable()
        return connection.sending

    def _unavailable(self) -> WebSocketUnavailable:
        life = self._life
        if life.connection is not None and life.sendable is None:
            return WebSocketUnavailable("data not sent: a gate is shut until what must be said first is said")
        kind = WebSocketClosed if life.state is State.STOPPED else WebSocketUnavailable
        return kind(f"data not sent: {in_words(life.state, life.is_parents)}")
