"""The sending half of one connection: messages in, frames out, in one order.

Any thread may call it. Frames are made under the queue's lock, so that the order of making (which a
deflate context and the Close frame depend on) is the order of leaving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..clock import Clock
from ..errors import TransportFail, WebSocketClosed, WebSocketClosing
from ..options import Options
from ..protocol.close import CloseFrame
from ..protocol.deflate import DeflateParameters, Deflater
from ..protocol.frames import prepare
from ..protocol.masking import MaskKeys
from ..protocol.sender import Sender
from ..sent import Tap
from ..system import syscalls
from .batchwriter import Sink
from .gathering import Entry
from .sendqueue import SendQueue
from .trace import Trace

#: How long `close` waits for the queue's lock, which its own thread may hold under a signal handler.
LOCK_PATIENCE = 0.1


class SendingHalf:
    """Encodes and queues. Never blocks, except in a send that waits for room (``when_full="block"``).

    Args:
        stream: where the bytes go.
        options: the WebSocket's options.
        agreed: the parameters of permessage-deflate, or None.
        ask_loop, may_block, gather: as for `SendQueue`.
        trace: records steps, or None.
        clock: what tells when a ping of the user's was sent.
        taps: as for `SendQueue`.
    """

    def __init__(
        self,
        stream: Sink,
        options: Options,
        agreed: DeflateParameters | None,
        *,
        ask_loop: Callable[[], None],
        may_block: Callable[[], bool],
        gather: bool,
        trace: Trace | None,
        clock: Clock,
        taps: Sequence[Tap] = (),
    ) -> None:
        prepare()
        offered = options.deflate
        deflater = Deflater(agreed, offered) if agreed is not None and offered is not None else None
        threshold = offered.threshold if offered is not None else 0
        self._sender = Sender(deflater, threshold, MaskKeys(syscalls.random_bytes))
        self._trace = trace
        self._clock = clock
        #: Whether messages need no work before they are queued.
        self.is_plain = trace is None and not self._sender.deflates
        self._ask_loop = ask_loop
        self._close_wanted: tuple[int | None, str | bytes] | None = None  # any thread writes, the loop takes
        #: Pings of the user's, with when they were sent. Any thread appends, the loop takes.
        self.pings_sent: list[tuple[bytes, float]] = []
        self.queue = SendQueue(
            stream,
            pack=self._sender.pack,
            limit=options.max_queue,
            when_full=options.when_full,
            send_timeout=options.send_timeout,
            ask_loop=ask_loop,
            may_block=may_block,
            gather=gather,
            taps=taps,
        )

    @property
    def close_sent(self) -> CloseFrame | None:
        """Our Close frame, after which nothing else can be sent; or None."""
        return self._sender.close_sent

    # For users, on any thread. Types have been checked; errors as of `SendQueue.push`.

    def send_text(self, text: str, compress: bool) -> bool:
        """Send a text message."""
        data = text.encode()
        if self._trace:
            self._trace("send_text", length=len(data), compressed=compress)
        return self.queue.push_encoded(text, len(data), self._sender.text, data, compress)

    def send_binary(self, data: bytes, compress: bool) -> bool:
        """Send a binary message."""
        if self.is_plain:
            return self.queue.push(data, len(data))
        if self._trace:
            self._trace("send_binary", length=len(data), compressed=compress)
        return self.queue.push_encoded(data, len(data), self._sender.binary, data, compress)

    def send_many(self, messages: Sequence[str | bytes], compress: bool) -> bool:
        """Send messages that belong together."""
        if self.is_plain and all(map(_is_plain, messages)):
            return self.queue.push_many(messages, sum(map(len, messages)))
        entries: list[Entry] = []
        size = 0
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            encode = self._sender.text if isinstance(message, str) else self._sender.binary
            entries.append((encode, (data, compress), message))
            size += len(data)
        if self._trace:
            self._trace("send_many", length=size, compressed=compress)
        return self.queue.push_many(entries, size)

    def send_ping(self, data: bytes) -> None:
        """Send a ping."""
        if self._trace:
            self._trace("send_ping", length=len(data))
        self.queue.push_encoded(None, len(data), self._ping, data)
        if self.pings_sent:
            self._ask_loop()  # for whom an unanswered ping is a deadline

    def send_pong(self, data: bytes) -> None:
        """Send a pong that nothing asked for (RFC 6455 section 5.5.3)."""
        if self._trace:
            self._trace("send_pong", length=len(data))
        self.queue.push_encoded(None, len(data), self._sender.pong, data)

    def request_close(self, code: int | None, reason: str | bytes) -> None:
        """Send our Close frame, unless it was sent or the connection is over.

        Also called from signal handlers: if the queue's lock cannot be had, since the interrupted code
        holds it, the loop sends the frame in `keep_word`.
        """
        if self._trace:
            self._trace("close_requested", code=code, reason=reason)
        if not self._control(self._sender.close, code, reason, patience=LOCK_PATIENCE, seal=True):
            self._close_wanted = (code, reason)

    # For the connection.

    def keep_word(self) -> None:
        """Send the Close frame that `request_close` could not. The loop only."""
        if self._close_wanted is not None:
            (code, reason), self._close_wanted = self._close_wanted, None
            self.close(code, reason)

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Send our Close frame, unless it was sent or cannot be. Any thread."""
        self._control(self._sender.close, code, reason, seal=True)

    def ping(self, payload: bytes) -> None:
        """Send a ping of the keepalive's. The loop only."""
        if not self.queue.wants_write:  # else it would only wait, and take a pong's place
            self._urgent(self._sender.ping, payload)
            self.queue.flush()

    def pong(self, payload: bytes) -> None:
        """Answer a ping with the next flush. The loop only."""
        self._urgent(self._sender.pong, payload)

    def _urgent(self, encode: Callable[..., bytes], payload: bytes) -> None:
        try:
            self.queue.put_urgent(encode, payload)
        except WebSocketClosing:
            return  # nothing may follow our Close frame

    def _ping(self, data: bytes) -> bytes:
        """Make a ping of the user's, and note it before the answer can come. Under the queue's lock."""
        frame = self._sender.ping(data)
        self.pings_sent.append((data, self._clock.monotonic()))
        return frame

    def _control(
        self, encode: Callable[..., bytes], *args: object, patience: float = -1, seal: bool = False
    ) -> bool:
        try:
            return self.queue.push_control(encode, *args, patience=patience, seal=seal)
        except (WebSocketClosing, WebSocketClosed, TransportFail):
            return True  # closed before, or lost: the loop knows, or will find out


def _is_plain(message: str | bytes) -> bool:
    return type(message) is bytes or (type(message) is str and message.isascii())
