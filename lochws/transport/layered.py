"""TLS over a stream that may itself be TLS: what a wss endpoint behind an https proxy needs."""

from __future__ import annotations

import ssl
import threading

from ..system.deadline import Deadline
from .stream import TLS, TLS_RECORD, RecordStream, Stream, agreed_by, in_records
from .waiting import receive, send_all

# What one receiving call takes from the stream below: a full record with what TLS adds to it.
_RECEIVE = TLS_RECORD + 2048


class LayeredTLSStream(RecordStream):
    """A stream through TLS whose records travel over another stream, which it owns.

    `TLSStream` leaves reading and writing to OpenSSL, which wants a socket. Here OpenSSL works in
    memory, and its records are carried to and from the stream below.

    The lock keeps two threads from being inside one OpenSSL object, and the records in their order.
    It is held for work that does not block; the lock of the stream below is only ever taken inside it.

    Attributes:
        tls: the TLS object, for what one may ask about the session.
    """

    def __init__(self, stream: Stream, context: ssl.SSLContext, server_hostname: str) -> None:
        # Not the base's constructor: there is no socket here.
        self._stream = stream
        self.address = stream.address
        self._lock = threading.RLock()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._received = bytearray(_RECEIVE)
        # Records that wait for room below, and how many of the sender's bytes are in them. Those bytes
        # count as sent only when the records have gone, so that the sender asks again until they have.
        self._records = b""
        self._recorded = 0

    def agreed(self) -> TLS | None:
        return agreed_by(self.tls)

    def shake_hands(self, deadline: Deadline) -> None:
        """Do the handshake. Blocks; before anything else.

        Raises:
            OSError: it failed; `ssl.SSLError` if that is TLS's doing.
            TimeoutError: the deadline has passed.
            Cancelled: the deadline was cancelled.
        """
        while True:
            try:
                self.tls.do_handshake()
                send_all(self._stream, self._outgoing.read(), deadline)
                return
            except ssl.SSLWantReadError:
                send_all(self._stream, self._outgoing.read(), deadline)
            except ssl.SSLError:
                self._flush()  # the alert that tells the server why
                raise
            data = receive(self._stream, _RECEIVE, deadline)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _receive_record(self, buffer: memoryview) -> int | None:
        with self._lock:
            self.reads_want_write = False
            while True:
                try:
                    return self.tls.read(len(buffer), buffer)  # type: ignore[return-value]
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return 0
                # Reading may have made records of its own, such as new keys (RFC 8446 section 4.6.3).
                is_stuck = not self._flush() and not self._recorded
                count = self._stream.receive_into(self._received)
                if count is None:
                    self.reads_want_write = is_stuck or self._stream.reads_want_write
                    return None
                if count:
                    self._incoming.write(memoryview(self._received)[:count])
                else:
                    self._incoming.write_eof()

    def send(self, data: bytes | bytearray | memoryview) -> int:
        return in_records(data, self._send_record)

    def _send_record(self, data: memoryview) -> int:
        with self._lock:
            self.writes_want_read = False
            if not self._recorded:
                try:
                    self._recorded = self.tls.write(data)
                except ssl.SSLWantReadError:
                    self.writes_want_read = True
                    self._flush()
                    return 0
            if not self._flush():
                self.writes_want_read = self._stream.writes_want_read
                return 0
            taken, self._recorded = self._recorded, 0
            return taken

    def _flush(self) -> bool:
        """Hand records to the stream below. Returns whether all of them have gone."""
        self._records += self._outgoing.read()
        while self._records:
            sent = self._stream.send(self._records)
            if not sent:
                return False
            self._records = self._records[sent:]
        return True

    def pending(self) -> bool:
        with self._lock:
            inside = self._end is not None or self.tls.pending() > 0 or self._incoming.pending > 0
            return inside or self._stream.pending()

    def fileno(self) -> int:
        return self._stream.fileno()

    def shutdown(self) -> None:
        # Without the lock: the stream below has its own.
        self._stream.shutdown()

    def close(self) -> None:
        with self._lock:
            self._stream.close()
