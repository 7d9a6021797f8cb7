"""Streams over sockets of the `ssl` module, as users may pass them."""

from __future__ import annotations

import errno
import ssl
from time import monotonic

from .stream import TLS, TLS_RECORD, TLS_SEND, Stream

# The longest that one call goes on receiving records, in seconds.
_TURN_SECONDS = 0.002


class SSLSocketStream(Stream):
    """A stream over an `ssl.SSLSocket` that has done its handshake, as a user may give one.

    What lochws opens itself is a `lochws.transport.layered.TLSStream`. Here OpenSSL itself reads from the
    socket, and goes on for as long as the peer sends records without data, which nothing can bound.

    The lock also keeps two threads from being inside one OpenSSL object, which would break its state. It is
    held for one non-blocking call. The peer's close_notify counts as the end of the stream, and so does an
    end without one.
    """

    is_encrypted = True
    _sock: ssl.SSLSocket
    # What follows the bytes of the last call: the end, or an error.
    _end: OSError | int | None = None

    def agreed(self) -> TLS | None:
        return agreed_by(self._sock)

    def receive_into(self, buffer: bytearray | memoryview, more: memoryview | None = None) -> int | None:
        view, filled = memoryview(buffer), 0
        until = monotonic() + _TURN_SECONDS
        end, self._end = self._end, None
        while end is None and filled < len(view):
            try:
                count = self._receive_record(view[filled:])
            except OSError as error:
                end = error.with_traceback(None)  # its traceback would keep the view alive
                break
            if count is None:
                break
            filled += count
            if not count:
                end = 0
            if monotonic() >= until:
                break
        if filled:
            self._end = end
            return filled
        if isinstance(end, OSError):
            raise end
        return end

    def _receive_record(self, buffer: memoryview) -> int | None:
        """Receive at most one record. Results and errors are those of `receive_into`."""
        with self._lock:
            self.reads_want_write = False
            try:
                return self._sock.recv_into(buffer)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                self.reads_want_write = True
                return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError, BrokenPipeError):
                # OpenSSL 3.6 reports some ends as a broken pipe.
                return 0

    def send(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data)[:TLS_SEND]
        sent = 0
        try:
            while sent < len(view):
                taken = self._send_record(view[sent:sent + TLS_RECORD])
                if not taken:
                    break
                sent += taken
        except OSError:
            if not sent:  # else the next call meets the failure again
                raise
        return sent

    def _send_record(self, data: memoryview) -> int:
        with self._lock:
            if self._sock.fileno() < 0:
                raise OSError(errno.EBADF, "the stream is closed")
            self.writes_want_read = False
            try:
                return self._sock.send(data)
            except ssl.SSLWantWriteError:
                return 0
            except ssl.SSLWantReadError:
                self.writes_want_read = True
                return 0

    def pending(self) -> bool:
        with self._lock:
            return self._end is not None or (self._sock.fileno() >= 0 and self._sock.pending() > 0)


def agreed_by(tls: ssl.SSLSocket | ssl.SSLObject) -> TLS | None:
    """Return the TLS parameters; None if OpenSSL does not report them.

    It reports them right after the handshake, but not after an error or during another handshake.
    """
    cipher = tls.cipher()
    try:
        certificate, der = tls.getpeercert(), tls.getpeercert(binary_form=True)
    except ValueError:
        return None
    return TLS(tls.version() or "", cipher[0] if cipher else "", certificate or {}, der or b"")
