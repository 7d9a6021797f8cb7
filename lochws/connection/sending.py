"""The sending half of one connection: encodes messages and queues them.

Any thread may call it. Work that grows with the size of a message is done here, on the sending thread and
without the queue's lock. Work that depends on the order of sending is left to the queue: compression with a
shared context, and the Close frame.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from sys import getsizeof
from time import monotonic
from typing import Protocol

from ..base.records import changed
from ..clock import Clock
from ..errors import (
    TransportFail,
    WebSocketClosed,
    WebSocketClosing,
    WebSocketError,
    WebSocketUnavailable,
)
from ..options import Options
from ..protocol.close import CloseFrame
from ..protocol.deflate import DeflateParameters, Deflater
from ..protocol.frames import BytesLike, Item, Opcode, prepare
from ..protocol.masking import MaskKeys
from ..protocol.sender import Sender
from ..sent import Streamed, Tap
from ..system import syscalls
from .compression import Compress
from .outgoing import BATCH_BYTES, OpenStream, Raw
from .paced import Budget
from .proofs import Proofs
from .receipts import Receipt, ReceiptState
from .room import Bound
from .sendqueue import DROP_OFF_BYTES, AskFlush, SendQueue, Sink, push_small
from .trace import Trace
from .window import SlidingWindow, make_window

#: The frame of a message of at least this many bytes is built by the sending thread. Otherwise the thread
#: that writes it would do so, and that may be the loop, which all connections wait for.
LARGE_BYTES = 256 * 1024
#: The largest payload of a fragment of a stream, in bytes, if the option `fragment` sets none.
FRAGMENT_BYTES = 256 * 1024
#: Chunks of a stream are gathered until a fragment is full, or the last one was sent this many seconds ago.
HELD_SECONDS = 0.05
#: About this many bytes of a stream may wait in the queue, but at least two fragments.
WINDOW_BYTES = 1024 * 1024
#: Batches are not made smaller than this, in bytes, however small the fragments are.
SMALLEST_BATCH = 16 * 1024
#: A batch may be larger than a fragment by this number of bytes, for the heads of its frames.
HEADS_BYTES = 1024


class Line(Sink, Protocol):
    """The stream that a connection sends to."""

    def is_behind(self) -> bool:
        """Return whether TCP has yet to send some of what it has taken."""

    def direct_socket(self) -> socket.socket | None:
        """Return the socket if bytes may be passed to the kernel without calling `send`, otherwise None."""


class SendingHalf:
    """Prepares and queues messages. Never blocks, except to wait for room (``when_full="block"``).

    Args:
        stream: where the bytes go.
        options: the WebSocket's options.
        agreed: the parameters of permessage-deflate, or None.
        ask_flush, may_block, gather, taps: passed on to `SendQueue`.
        trace: records steps, or None.
        clock: the clock of the budget, and of the user's pings.
        window: the budget already partly used by an earlier connection, or None to begin a new one.
    """

    def __init__(
        self,
        stream: Line,
        options: Options,
        agreed: DeflateParameters | None,
        *,
        ask_flush: AskFlush,
        may_block: Callable[[], bool],
        gather: bool,
        trace: Trace | None,
        clock: Clock,
        taps: Sequence[Tap] = (),
        window: SlidingWindow | None = None,
    ) -> None:
        prepare()
        self._sender = sender = _sender(options, agreed)
        fragment = options.fragment
        #: Messages from this size on are framed by the sending thread, and fragmented if need be.
        self.large_bytes = LARGE_BYTES if fragment is None else min(LARGE_BYTES, fragment + 1)
        self._trace = trace
        self._clock = clock
        #: Whether messages need no work before they are queued.
        self.is_plain = trace is None and not sender.deflates
        #: Tried first for each message: see `push_small`. None if some messages need work first.
        self.push_small = push_small if self.is_plain and self.large_bytes > DROP_OFF_BYTES else None
        self._ask_flush = ask_flush
        self._may_block = may_block
        # The arguments of `close`. Any thread sets them; the loop takes them.
        self._owed_close: tuple[int | None, str | bytes, bool] | None = None
        #: The user's pings and when they were sent. Any thread appends; the loop removes.
        self.pings_sent: list[tuple[bytes, float]] = []
        self.queue = SendQueue(
            stream,
            pack=sender.pack,
            bound=Bound(options.max_queue, options.when_full, options.send_timeout, may_block),
            ask_flush=ask_flush,
            compress=Compress(sender.compressed, sender.compressing) if sender.deflates else None,
            gather=gather,
            taps=taps,
            budget=_budget(options, clock, stream, window),
            proofs=Proofs(sender.ping, syscalls.random_bytes),
            window=max(2, min(WINDOW_BYTES, options.max_queue) // (fragment or FRAGMENT_BYTES)),
            batch_bytes=min(BATCH_BYTES, max(fragment or BATCH_BYTES, SMALLEST_BATCH) + HEADS_BYTES),
            plain_bytes=self.large_bytes,
            sock=stream.direct_socket(),
            keys=sender.keys,
        )

    @property
    def close_sent(self) -> CloseFrame | None:
        """Our Close frame, after which nothing else can be sent; None if it has not been sent."""
        return self._sender.close_sent

    # For users, on any thread. Types have been checked; errors are those of `SendQueue.push`.

    def send_text(self, text: str, compress: bool) -> bool:
        """Send a text message."""
        if self.is_plain and type(text) is str and text.isascii() and len(text) < self.large_bytes:
            return self.queue.push(text, len(text))
        return self._send_encoded(text, text.encode(), compress)

    def send_utf8(self, text: str, data: bytes, compress: bool) -> bool:
        """Send a text message whose UTF-8 is at hand."""
        if self.is_plain and text.isascii() and len(data) < self.large_bytes:
            return self.queue.push(text, len(data))
        return self._send_encoded(text, data, compress)

    def send_binary(self, data: bytes, compress: bool) -> bool:
        """Send a binary message."""
        if self.is_plain and len(data) < self.large_bytes:
            return self.queue.push(data, len(data))
        if self._trace:
            self._trace("send_binary", length=len(data), compressed=compress)
        return self._push(self._item(data, data, compress), data)

    def send_many(self, messages: Sequence[str | bytes], compress: bool) -> bool:
        """Send messages in a row, with no other message between them."""
        return self.queue.push_many(*self._prepared(messages, compress))

    def send_with_receipt(self, messages: Sequence[str | bytes], compress: bool) -> Receipt:
        """Send messages as `send_many` does, and return the receipt for all of them."""
        receipt = Receipt(self.queue, self._may_block)
        items, size = self._prepared(messages, compress)
        if not items:
            receipt._settled(ReceiptState.CONFIRMED)
        elif not self.queue.push_many(items, size, receipt):
            receipt._settled(ReceiptState.UNSENT)
        return receipt

    def send_stream(
        self, chunks: Iterator[str | BytesLike], *, text: bool, compress: bool, receipt: bool
    ) -> bool | Receipt:
        """Send one message while its chunks are produced. Blocks until the kernel has taken the last one.

        If the message cannot be completed, the connection ends with 1011.
        """
        if self._trace:
            self._trace("send_stream", compressed=compress)
        stream, process = OpenStream(), os.getpid()
        kept = Receipt(self.queue, self._may_block) if receipt else None
        try:
            if not self.queue.begin_stream(stream, kept):
                if kept is not None:
                    kept._settled(ReceiptState.UNSENT)
                return kept or False
            fragmenter = self._sender.fragmenter(text, compress, FRAGMENT_BYTES)
            last = monotonic()
            for chunk in chunks:
                if os.getpid() != process:
                    raise WebSocketError("send_stream continues only in the parent of this forked process")
                for frame in fragmenter.add(chunk):
                    self.queue.add_fragment(stream, frame)
                    last = monotonic()
                if monotonic() - last > HELD_SECONDS:
                    # Nothing is gathered while chunks are empty, or compressed to nothing yet. That may go on
                    # and on, so the end of the connection has to be noticed even then.
                    self.queue.add_fragment(stream, fragmenter.cut() if fragmenter.has_gathered else b"")
                    last = monotonic()
            *others, end = fragmenter.end()
            for frame in others:
                self.queue.add_fragment(stream, frame)
            self.queue.add_fragment(stream, end, Streamed("text" if text else "binary", fragmenter.size))
        finally:
            # This mark follows the block above without a call between them, where Ctrl-C could strike.
            if stream.is_open and process == os.getpid():
                self._owed_close = 1011, "a streamed message was not completed", True
                self._ask_flush(None)
        return kept or True

    def _prepared(
        self, messages: Sequence[str | bytes], compress: bool
    ) -> tuple[Sequence[Item | Raw], int]:
        """Return messages in their queued form, and the bytes that count towards the bound."""
        is_small = max(map(len, messages), default=0) < self.large_bytes
        if self.is_plain and is_small and all(map(_is_plain, messages)):
            return messages, sum(map(len, messages))
        items: list[Item | Raw] = []
        size = length = 0
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            item = self._item(message, data, compress)
            items.append(item)
            size += _bound(item, data)
            length += len(data)
        if self._trace:
            self._trace("send_many", length=length, compressed=compress)
        return items, size

    def send_ping(self, data: bytes) -> None:
        """Send a ping."""
        if self._trace:
            self._trace("send_ping", length=len(data))
        ping = data, self._clock.monotonic()
        self.pings_sent.append(ping)  # before the answer can come
        try:
            is_sent = self.queue.push_item((self._sender.ping(data), None), len(data))
        except BaseException:
            is_sent = False
            raise
        finally:
            if not is_sent:
                with suppress(ValueError):
                    self.pings_sent.remove(ping)
        if self.pings_sent:
            self._ask_flush(None)  # the loop, for which an unanswered ping is a deadline

    def send_pong(self, data: bytes) -> None:
        """Send an unsolicited pong (RFC 6455 section 5.5.3)."""
        if self._trace:
            self._trace("send_pong", length=len(data))
        self.queue.push_item((self._sender.pong(data), None), len(data))

    def request_close(self, code: int | None, reason: str | bytes, *, overtakes: bool = False) -> None:
        """Send our Close frame, unless it was sent already or the connection has ended.

        If this call interrupts the holder of the queue's lock (in a signal handler, for instance), it leaves
        the frame to the loop, which sends it in `send_owed_close`.
        """
        if self._trace:
            self._trace("close_requested", code=code, reason=reason)
        if (owed := self._owed_close) is not None and owed[2]:
            code, reason, overtakes = owed  # a stream was not completed, and the server is to be told
        self.close(code, reason, overtakes=overtakes)

    # For the connection.

    def send_owed_close(self) -> None:
        """Send the Close frame that `request_close` could not. The loop only."""
        if self._owed_close is not None:
            (code, reason, overtakes), self._owed_close = self._owed_close, None
            self.close(code, reason, overtakes=overtakes)

    def close(self, code: int | None, reason: str | bytes, *, overtakes: bool) -> None:
        """Send our Close frame, unless it was sent or cannot be. Any thread, which then touches the loop.

        Args:
            code, reason: its contents.
            overtakes: whether it goes ahead of the messages that wait for the budget.
        """
        try:
            if not overtakes:
                self.queue.push_barrier()
            if not self.queue.push_control(self._sender.close, code, reason, seal=True, overtakes=overtakes):
                self._owed_close = (code, reason, overtakes)
        except WebSocketClosing:
            if overtakes:
                self.queue.overtake()
        except (WebSocketClosed, TransportFail):
            pass  # lost: the loop knows, or will find out

    def ping(self, payload: bytes) -> None:
        """Send a keepalive ping. The loop only."""
        if not self.queue.is_blocked:  # otherwise it would only wait, and displace a pong
            self.queue.pinged(payload)
            self._urgent(self._sender.ping, payload)
            self.queue.flush()

    def pong(self, payload: bytes) -> None:
        """Answer a ping with the next flush. The loop only."""
        self._urgent(self._sender.pong, payload)

    def answered(self, payload: bytes | None) -> list[Receipt]:
        """Note a pong, or (None) the answer to our Close frame. Return what it confirms. The loop only."""
        confirmed = self.queue.answered(payload)
        with suppress(WebSocketUnavailable, TransportFail):
            self.queue.push_barrier()
        return confirmed

    def _urgent(self, encode: Callable[[bytes], bytes], payload: bytes) -> None:
        try:
            self.queue.put_urgent(encode(payload))
        except WebSocketClosing:
            return  # nothing may follow our Close frame

    def _send_encoded(self, text: str, data: bytes, compress: bool) -> bool:
        if self._trace:
            self._trace("send_text", length=len(data), compressed=compress)
        return self._push(self._item(text, data, compress), data)

    def _push(self, item: Item | Raw, data: bytes) -> bool:
        size = _bound(item, data)
        if type(item) is tuple and len(item) == 3:
            return self.queue.push_raw(item, size)
        return self.queue.push_item(item, size)

    def _item(self, message: str | bytes, data: bytes, compress: bool) -> Item | Raw:
        """Return a message in its queued form. All work that grows with the message is done here."""
        is_text = isinstance(message, str)
        if self._sender.must_compress(data, compress):
            return (Opcode.TEXT if is_text else Opcode.BINARY), data, message
        if len(data) < self.large_bytes and _is_plain(message):
            return message
        # The frame is all that is kept: the message can be read from it.
        frame = self._sender.text(data, False) if is_text else self._sender.binary(data, False)
        return frame, (Opcode.TEXT if is_text else Opcode.BINARY)


def _sender(options: Options, agreed: DeflateParameters | None) -> Sender:
    offered = options.deflate
    deflater = Deflater(agreed, offered) if agreed is not None and offered is not None else None
    threshold = offered.threshold if offered is not None else 0
    return Sender(deflater, threshold, MaskKeys(syscalls.random_bytes), options.fragment)


def _budget(options: Options, clock: Clock, stream: Line, window: SlidingWindow | None) -> Budget | None:
    if (rate := options.rate) is None:
        return None
    budget = Budget(window or make_window(rate), rate.counts == "frames", clock.monotonic)
    if clock.passes:  # a virtual clock's time is unrelated to the network's
        budget = changed(budget, is_behind=stream.is_behind)
    return budget


def _is_plain(message: str | bytes) -> bool:
    return type(message) is bytes or (type(message) is str and message.isascii())


def _bound(item: Item | Raw, data: bytes) -> int:
    """Return what an item counts for against the queue's limit: the memory that it takes."""
    if isinstance(item, tuple) and len(item) == 3 and item[2] is not data:
        return len(data) + getsizeof(item[2])
    return len(data)
