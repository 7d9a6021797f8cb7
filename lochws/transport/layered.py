"""TLS over another stream: OpenSSL works in memory, and receives one record at a time.

OpenSSL on a socket reads until it has data to return. Records without data, such as key updates and session
tickets (RFC 8446 section 4.6), keep it busy for as long as the peer sends them. So it is given one record
at a time here, and the clock is checked in between.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import Protocol, TypeVar

from ..system import forks
from ..system.compiled import choose, load
from ..system.control import interrupts
from ..system.deadline import Deadline
from ..system.locks import reentrant_lock
from ..system.steps import Steps, Wait
from ..system.tcp import Progress
from .records import HEADER_BYTES, LONGEST_BYTES, read_records, record_size
from .sslsocket import agreed_by
from .stream import TLS, TLS_RECORD, TLS_SEND, Stream
from .waiting import receive, send_all

#: The time limit for processing received data in one `receive_into`, in seconds.
TURN_SECONDS = 0.002
#: The longest part of it during which a sender has to wait, in seconds.
SHARE_SECONDS = 0.001
#: How many records of a handshake are read in one turn of the loop. Most handshakes have fewer.
_RECORDS_PER_TURN = 16
#: The number of bytes waiting to be sent above which reading stops. Beyond one record of the sender's, they
#: are answers to key updates, which a peer that never reads could otherwise make us accumulate.
MAX_UNSENT = 64 * 1024

# The buffer into which all streams receive records, in turn. A stream keeps only bytes that are left over.
_BUFFER_BYTES = 128 * 1024
_LONGEST = HEADER_BYTES + LONGEST_BYTES
_buffers: list[memoryview] = []

T = TypeVar("T")


class Call(Protocol):
    """A caller of functions, directly or on another thread."""

    def __call__(self, function: Callable[[], T], /) -> Steps[T]:
        """Call the function, and return its result or raise its exception."""


def directly(function: Callable[[], T], /) -> Steps[T]:
    """Call a function on the thread that takes the step."""
    yield from ()
    return function()


class TLSStream(Stream):
    """TLS over another stream, which it owns: over TCP, a Unix socket, or TLS that ends at a proxy.

    The peer's close_notify counts as the end of the stream, and so does an end without one: WebSocket has its
    own closing handshake, which distinguishes an end from a truncation. We send no close_notify.

    The lock keeps two threads from being inside one OpenSSL object, and the records in order. It is held
    for `SHARE_SECONDS` and one record at most, never across a blocking call; the lock of the stream below
    is only ever taken inside it. A sender takes the gate first, then the lock. The reader passes the gate
    each time before it takes the lock, and so lets a waiting sender go first.

    Args:
        stream: the stream that carries the records.
        context: the TLS context.
        server_hostname: the name to request (SNI) and to verify the certificate against.
        session: a session of the same context and server to resume, or None.

    Attributes:
        tls: the TLS object, for questions about certificate and session.
    """

    is_encrypted = True

    def __init__(
        self, stream: Stream, context: ssl.SSLContext, server_hostname: str,
        session: ssl.SSLSession | None = None,
    ) -> None:
        # The base's constructor is not called: there is no socket here.
        self._stream = stream
        self.address = stream.address
        self._gate = reentrant_lock()
        self._lock = reentrant_lock()
        # What follows is guarded by the lock. Whether its holder is inside OpenSSL: the lock is reentrant,
        # and a signal handler or finalizer that sends in the middle of it is told that there is no room.
        self._is_inside = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname, session=session
        )
        # Records that wait for room below, and how many of the sender's bytes are in them. Those bytes
        # count as sent only when the records are gone, so that the sender asks again until they are.
        self._unsent = b""
        self._recorded = 0
        # Whether OpenSSL may have something left to process before it gets another record.
        self._has_rest = False
        self._failure: OSError | None = None  # what sending met that no sender has been told
        # Used only by the loop: records received and not decrypted yet, and whether one of them is whole; how
        # the stream has ended, and whether that was told; whether so much waits to be sent that reading has
        # stopped.
        self._records = b""
        self._has_record = False
        self._end: OSError | int | None = None
        self._is_end_told = False
        self._is_stuck = False
        forks.register(self)

    @property
    def raw_socket(self) -> socket.socket:
        return self._stream.raw_socket

    def agreed(self) -> TLS | None:
        return agreed_by(self.tls)

    def shake_hands(self, deadline: Deadline, call: Call = directly) -> Steps[None]:
        """Do the handshake, before anything else.

        Args:
            deadline: the limit for it.
            call: calls the functions of the TLS object.

        Raises:
            OSError: the handshake failed; `ssl.SSLError` if TLS was the cause.
            TimeoutError: the deadline has passed.
            Cancelled: the deadline was cancelled.
        """
        for number in count(1):
            if number % _RECORDS_PER_TURN == 0:
                yield Wait((), 0.0)  # OpenSSL ignores any number of HelloRequests, and more may have arrived
            try:
                yield from call(self.tls.do_handshake)
                yield from send_all(self._stream, self._outgoing.read(), deadline)
                self._has_rest = self.tls.pending() > 0 or self._incoming.pending > 0
                self._has_record = record_size(self._records, 0, len(self._records)) > 0
                return
            except ssl.SSLWantReadError:
                yield from send_all(self._stream, self._outgoing.read(), deadline)
            except ssl.SSLError:
                self._answer()  # sends the alert that tells the server the reason
                raise
            yield from self._feed(deadline)

    def _feed(self, deadline: Deadline) -> Steps[None]:
        """Wait for the next record of the handshake, and pass it to OpenSSL."""
        while not (size := record_size(self._records, 0, len(self._records))):
            data = yield from receive(self._stream, LONGEST_BYTES, deadline)
            if not data:
                self._incoming.write(self._records)
                self._incoming.write_eof()
                return
            self._records += data
        self._incoming.write(self._records[:size])
        self._records = self._records[size:]

    def receive_into(self, buffer: bytearray | memoryview, more: memoryview | None = None) -> int | None:
        if self._end is None:
            try:
                records = _buffers.pop()
            except IndexError:
                records = memoryview(bytearray(_BUFFER_BYTES))
            filled = _receive(self, memoryview(buffer), more, records, TURN_SECONDS, SHARE_SECONDS)
            _buffers.append(records)
            if filled:
                return filled
        if self._end is None:
            return None
        self._is_end_told = True
        if isinstance(self._end, OSError):
            raise self._end
        return self._end

    def _receive(
        self, buffer: memoryview, more: memoryview | None, records: memoryview, turn: float, share: float, /
    ) -> int:
        """Decrypt the received records, as far as room and time allow. Return the number of bytes.

        Args:
            buffer: the memory for the data.
            more: memory for the data that does not fit into the buffer, or None.
            records: memory to receive records into.
            turn: the time limit in seconds.
            share: the longest part of it during which a sender has to wait.
        """
        until = monotonic() + turn
        room = len(buffer) if more is None else len(buffer) + len(more)
        position, have, filled = 0, len(self._records), 0
        if have:
            records[:have] = self._records
        is_drained = False
        # Whether there is work to do before anything is received.
        is_ready = self._has_record or self._has_rest or self._unsent or self._outgoing.pending
        while True:
            if is_ready:
                with self._gate:
                    pass  # a waiting sender goes first
                with self._lock:
                    position, filled = self._decrypt(records, position, have, buffer, more, filled, share)
                if self._end is not None or self._is_stuck or filled == room or monotonic() >= until:
                    break
            if not self._has_record:
                if is_drained or (filled >= _LONGEST > room - filled):
                    break
                position, have, is_drained = self._fetch(records, position, have, room - filled)
            is_ready = True
        self._records = bytes(records[position:have])
        self.reads_want_write = self._is_stuck or self._stream.reads_want_write
        return filled

    def _fetch(self, records: memoryview, position: int, have: int, room: int) -> tuple[int, int, bool]:
        """Receive more records, up to the room for their data, or up to a whole record if that is more.

        The poller reports the records that stay in the kernel. Those kept here take a longer way through the
        loop.

        Returns:
            Where the records begin and end, and whether all that had arrived was received.
        """
        if len(records) - have < _LONGEST:
            records[: have - position] = records[position:have]
            position, have = 0, have - position
        end = min(position + max(room, _LONGEST), len(records))
        try:
            size = self._stream.receive_into(records[have:end])
        except OSError as error:
            self._end = error.with_traceback(None)  # its traceback would keep the views alive
            return position, have, True
        if size == 0:
            self._incoming.write(records[position:have])
            self._incoming.write_eof()
            self._has_rest = True
            return have, have, True
        have += size or 0
        return position, have, have < end

    def _decrypt(
        self, records: memoryview, position: int, have: int, buffer: memoryview, more: memoryview | None,
        filled: int, share: float,
    ) -> tuple[int, int]:
        """Decrypt records, as far as room and a share of the time allow. Called with the lock.

        Returns:
            Where the records begin that are left, and how many bytes have been decrypted.
        """
        end = monotonic() + share
        self._is_inside = True
        try:
            left = share
            self._is_stuck = bool(self._unsent or self._outgoing.pending) and not self._answer()
            while not self._is_stuck:
                is_through = not (self._has_rest or self._incoming.pending)
                position, filled, self._has_rest, self._has_record, result = read_records(
                    self.tls, self._incoming, records, position, have, buffer, more, filled, is_through, left
                )
                if result is None:
                    # OpenSSL reports the end of the stream by a read of its own, after the last data.
                    self._has_rest = self._has_rest or self._incoming.eof
                    break
                left = end - monotonic()
                if not self._note(result) or left <= 0:
                    break
        finally:
            self._is_inside = False
        return position, filled

    def _note(self, result: OSError | int) -> bool:
        """Take note of a read without data. Return whether to read on."""
        if isinstance(result, ssl.SSLWantReadError):  # the record had no data
            self._is_stuck = not self._answer()
            return not self._is_stuck
        if isinstance(result, (int, ssl.SSLZeroReturnError, ssl.SSLEOFError)):
            self._end = 0
        else:
            self._answer()  # the alert that tells the peer why
            self._end = result
        return False

    def _answer(self) -> bool:
        """Send what OpenSSL has to say by itself. Returns False when too much of it waits to be sent."""
        if self._unsent or self._outgoing.pending:
            try:
                self._flush()
            except OSError as error:
                # For the next sender. Reading goes on: the peer may have sent something before.
                self._failure = error.with_traceback(None)
        return len(self._unsent) <= MAX_UNSENT or self._failure is not None

    def send(self, data: bytes | bytearray | memoryview) -> int:
        if self._is_inside and interrupts():
            return 0  # the holder of the lock may come to wait for this thread
        with self._gate, self._lock:
            if self._is_inside:
                return 0
            self._is_inside = True
            try:
                return self._send_records(memoryview(data)[:TLS_SEND])
            finally:
                self._is_inside = False

    def _send_records(self, view: memoryview) -> int:
        """Encrypt and send one record after the other. If one fails, those before it count."""
        self.writes_want_read = False
        sent = 0
        try:
            while sent < len(view):
                if not self._recorded:
                    self._recorded = self.tls.write(view[sent:sent + TLS_RECORD])
                if not self._flush():
                    self.writes_want_read = self._stream.writes_want_read
                    break
                sent += self._recorded
                self._recorded = 0
        except ssl.SSLWantReadError:
            self.writes_want_read = self._has_rest = True
            self._flush()
        except OSError:
            if not sent:
                raise
        return sent

    def _flush(self) -> bool:
        """Hand records to the stream below. Returns whether all of them are gone."""
        if self._failure is not None:
            raise self._failure
        self._unsent += self._outgoing.read()
        while self._unsent:
            sent = self._stream.send(self._unsent)
            if not sent:
                return False
            self._unsent = self._unsent[sent:]
        return True

    def pending(self) -> bool:
        if self._end is not None:
            return not self._is_end_told
        return not self._is_stuck and (self._has_record or self._has_rest or self._stream.pending())

    def progress(self) -> Progress | None:
        return self._stream.progress()

    def is_behind(self) -> bool:
        return self._stream.is_behind()

    def uncounted(self) -> int:
        # `receive_into` may have sent the end of a record on the sender's behalf.
        is_sent = not self._outgoing.pending and self._stream.uncounted() >= len(self._unsent)
        return self._recorded if is_sent else 0

    def fileno(self) -> int:
        return self._stream.fileno()

    def shutdown(self) -> None:
        # Without the lock: the stream below has its own.
        self._stream.shutdown()

    def close(self) -> None:
        with self._lock:
            self._stream.close()

    def reset_after_fork(self) -> None:
        """Replace locks that threads of the parent may hold, in the child of a fork."""
        self._gate = reentrant_lock()
        self._lock = reentrant_lock()


#: Does the work of `TLSStream._receive`.
_receive: Callable[..., int] = choose(load("TLS records"), "receive", TLSStream._receive)
