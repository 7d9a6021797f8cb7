"""TLS: the handshake under a deadline, its failures in plain words, sessions that are resumed."""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
from dataclasses import replace

from ..errors import ConnectFail
from ..options import Options
from ..system.deadline import Deadline
from .contexts import check_tls, make_context
from .layered import LayeredTLSStream
from .pins import mismatch
from .sessions import Server, Sessions
from .stream import Stream, TLSStream, peer_address
from .waiting import cause, wait

# OpenSSL's results of a verification (X509_V_ERR_… in its x509_vfy.h), those that people meet.
_CERTIFICATE_FAULTS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "it comes from an unknown authority, one with a self-signed certificate",
    20: "it comes from an unknown authority",
    21: "it comes from an unknown authority",
    23: "it was revoked",
    62: "it is for another host",
    64: "it is for another address",
}

#: What OpenSSL says when the bytes that came are no TLS records.
NOT_TLS = {
    "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST",
    "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "UNEXPECTED_MESSAGE",
}
_PIN_ADVICE = "If the server has a new certificate for a good reason, put its SHA-256 into ssl_pins."
_NO_COMMON_VERSION = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}


class ClientTLS:
    """TLS for the streams of one WebSocket: contexts are made once, and sessions are resumed.

    One thread at a time opens streams with it; another may close them.

    Raises:
        TypeError, ValueError, FileNotFoundError: the TLS options are wrong.
    """

    def __init__(self, options: Options) -> None:
        check_tls(options)
        self._options = options
        self._contexts: dict[bool, ssl.SSLContext] = {}  # by `home`; made when first needed, and kept
        self._sessions = Sessions()

    def secure(self, stream: Stream, host: str, port: int, deadline: Deadline, *, home: bool) -> Stream:
        """Put TLS upon a stream, which belongs to the result from now on, and is closed if this fails.

        Args:
            home: whether this is the server of the WebSocket's own URL: only that one is shown our
                certificate, and only its certificate is checked against `server_hostname`.

        Raises:
            ConnectFail: it failed, or took too long (phase ``"tls"``); the text says why.
            OSError: a file that the options name has gone since it was checked.
            Cancelled: the deadline was cancelled.
        """
        name = (self._options.server_hostname if home else None) or host
        server = (name, port, home)
        try:
            tls: ssl.SSLSocket | ssl.SSLObject
            if type(stream) is Stream:
                session = self._sessions.of(server)
                tls = sock = handshake(stream.raw, self._context(home), name, deadline, session=session)
                stream = _ResumedStream(sock, self._sessions, server)
            else:
                stream = layered = layer(stream, self._context(home), name, deadline)
                tls = layered.tls
            digest = mismatch(self._options.ssl_pins, host, tls.getpeercert(binary_form=True))
            if digest is not None:
                text = f"the certificate of {host!r} is none of those pinned: its SHA-256 is {digest}"
                raise ConnectFail(text, phase="tls", address=stream.address, advice=_PIN_ADVICE)
        except BaseException:
            stream.close()
            raise
        return stream

    def _context(self, home: bool) -> ssl.SSLContext:
        options = self._options
        home = home or options.ssl_certfile is None or options.ssl_context is not None
        if home not in self._contexts:
            ours = options if home else replace(options, ssl_certfile=None, ssl_keyfile=None)
            self._contexts[home] = make_context(ours)
        return self._contexts[home]


class _ResumedStream(TLSStream):
    """A TLS stream that leaves its session to the next connection to the same server."""

    def __init__(self, sock: ssl.SSLSocket, sessions: Sessions, server: Server) -> None:
        super().__init__(sock)
        self._sessions = sessions
        self._server = server

    def close(self) -> None:
        with self._lock:
            self._sessions.take_from(self._sock, self._server)
            super().close()


def handshake(
    sock: socket.socket,
    context: ssl.SSLContext,
    server_hostname: str,
    deadline: Deadline,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    """Wrap a connected, non-blocking socket in TLS and do the handshake.

    The socket given belongs to the result from now on, and is closed if this fails.

    Args:
        server_hostname: what the server is asked for (SNI) and its certificate is checked against.
        session: one of the same context and server, to be resumed if the server still knows it.

    Raises:
        ConnectFail: it failed, or took too long (phase ``"tls"``); the text says why.
        Cancelled: the deadline was cancelled.
    """
    address = peer_address(sock)
    name = _certified_name(server_hostname)
    tls: socket.socket = sock
    try:
        # Where these two fail inside wrap_socket(), that leaves a descriptor behind.
        name.encode("idna")
        sock.getpeername()
        tls = wrapped = context.wrap_socket(
            sock,
            server_hostname=name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=True,
            session=session,
        )
        _shake_hands(wrapped, deadline)
        return wrapped
    except (OSError, ValueError) as error:  # ValueError: a host that can be no server name
        tls.close()
        raise ConnectFail(_in_words(error, server_hostname), phase="tls", address=address) from error
    except BaseException:
        tls.close()
        raise


def layer(
    stream: Stream, context: ssl.SSLContext, server_hostname: str, deadline: Deadline
) -> LayeredTLSStream:
    """Put TLS upon a stream that is TLS itself. Else as `handshake`, but the caller closes on failure."""
    try:
        layered = LayeredTLSStream(stream, context, _certified_name(server_hostname))
        layered.shake_hands(deadline)
        return layered
    except (OSError, ValueError) as error:
        text = _in_words(error, server_hostname)
        raise ConnectFail(text, phase="tls", address=stream.address) from error


def _certified_name(host: str) -> str:
    # A certificate names neither the root's dot at the end nor the zone of an IPv6 address.
    return host.rstrip(".").partition("%")[0]


def _shake_hands(tls: ssl.SSLSocket, deadline: Deadline) -> None:
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            wait(tls, selectors.EVENT_READ, deadline)
        except ssl.SSLWantWriteError:
            wait(tls, selectors.EVENT_WRITE, deadline)


def _in_words(error: Exception, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _CERTIFICATE_FAULTS.get(error.verify_code, error.verify_message)
        return f"the certificate of {host!r} was not accepted: {fault}"
    ended = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError))
    if ended or getattr(error, "errno", None) == errno.ENOTCONN:
        return "the server ended the connection during the TLS handshake"
    reason = getattr(error, "reason", None)
    if reason in NOT_TLS:
        return "the server does not speak TLS on this port"
    if reason in _NO_COMMON_VERSION:
        return "the server speaks no version of TLS that is allowed here"
    if isinstance(error, ssl.SSLError) and isinstance(reason, str):
        return f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
    return f"the TLS handshake failed: {cause(error)}"
