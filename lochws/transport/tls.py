"""TLS handshakes: under a deadline, with failures in plain words and sessions resumed."""

from __future__ import annotations

import errno
import ssl

from ..base.records import changed
from ..errors import ConnectFail
from ..options import Options
from ..system.deadline import Deadline
from ..system.steps import Steps
from .contexts import check_tls, make_context
from .layered import TLSStream
from .pins import mismatch
from .sessions import Server, Sessions
from .stream import Stream
from .waiting import NOT_TLS, cause

# The usual results of a failed verification (X509_V_ERR_… in OpenSSL's x509_vfy.h).
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

_ALPN_ADVICE = "Offer http/1.1 alone in the ssl_context: set_alpn_protocols(['http/1.1'])."
_PIN_ADVICE = "If the server has a new certificate for a good reason, add its SHA-256 to ssl_pins."
_NO_COMMON_VERSION = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}


class ClientTLS:
    """TLS for the streams of one WebSocket: makes contexts once, and resumes sessions.

    One thread at a time opens streams with it; another may close them.

    Raises:
        TypeError, ValueError, FileNotFoundError: the TLS options are wrong.
    """

    def __init__(self, options: Options) -> None:
        check_tls(options)
        self._options = options
        self._contexts: dict[bool, ssl.SSLContext] = {}  # by `home`; made when first needed
        self._sessions = Sessions()

    def secure(
        self, stream: Stream, host: str, port: int, deadline: Deadline, *, home: bool
    ) -> Steps[Stream]:
        """Put TLS on a stream. The result owns the stream; if this fails, the stream is closed.

        Args:
            home: whether this is the server of the WebSocket's own URL. Only that server sees our
                certificate, and only its certificate is checked against `server_hostname`.

        Raises:
            ConnectFail: it failed, or took too long (phase ``"tls"``); the text says why.
            OSError: a file that the options name has disappeared since it was checked.
            Cancelled: the deadline was cancelled.
        """
        name = (self._options.server_hostname if home else None) or host
        server = (name, port, home)
        try:
            context = self._context(home)
            secured = yield from handshake(stream, context, name, deadline, self._sessions, server)
            digest = mismatch(self._options.ssl_pins, host, secured.tls.getpeercert(binary_form=True))
            if digest is not None:
                text = f"the certificate of {host!r} is not among those pinned: its SHA-256 is {digest}"
                raise ConnectFail(text, phase="tls", address=stream.address, advice=_PIN_ADVICE)
        except BaseException:
            stream.close()
            raise
        return secured

    def _context(self, home: bool) -> ssl.SSLContext:
        options = self._options
        home = home or options.ssl_certfile is None or options.ssl_context is not None
        if home not in self._contexts:
            ours = options if home else changed(options, ssl_certfile=None, ssl_keyfile=None)
            self._contexts[home] = make_context(ours)
        return self._contexts[home]


class _ResumedStream(TLSStream):
    """A TLS stream that leaves its session to the next connection to the same server."""

    def __init__(
        self, stream: Stream, context: ssl.SSLContext, server_hostname: str, sessions: Sessions,
        server: Server,
    ) -> None:
        super().__init__(stream, context, server_hostname, sessions.of(server))
        self._sessions = sessions
        self._server = server

    def close(self) -> None:
        with self._lock:
            if self.fileno() >= 0:
                self._sessions.take_from(self.tls, self._server)
            super().close()


def handshake(
    stream: Stream,
    context: ssl.SSLContext,
    server_hostname: str,
    deadline: Deadline,
    sessions: Sessions | None = None,
    server: Server | None = None,
) -> Steps[TLSStream]:
    """Put TLS on a stream and do the handshake.

    The result owns the stream. If this fails, the caller closes it.

    Args:
        server_hostname: the name to ask the server for (SNI), and to check its certificate against.
        sessions: where the session of `server` is kept, or None to resume none.

    Raises:
        ConnectFail: it failed, or took too long (phase ``"tls"``); the text says why.
        Cancelled: the deadline was cancelled.
    """
    # Certificates contain neither the dot at the end of a name nor the zone of an IPv6 address.
    name = server_hostname.rstrip(".").partition("%")[0]
    try:
        if sessions is None or server is None:
            secured = TLSStream(stream, context, name)
        else:
            secured = _ResumedStream(stream, context, name, sessions, server)
        yield from secured.shake_hands(deadline)
        chosen = secured.tls.selected_alpn_protocol()
        if chosen not in {None, "http/1.1"}:
            text = f"the server chose {chosen!r} through ALPN, and WebSocket needs HTTP/1.1"
            raise ConnectFail(text, phase="tls", address=stream.address, advice=_ALPN_ADVICE)
        return secured
    except (OSError, ValueError) as error:  # ValueError: the host cannot be a server name
        text = _describe(error, server_hostname)
        raise ConnectFail(text, phase="tls", address=stream.address) from error


def _describe(error: Exception, host: str) -> str:
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
        return "the server speaks none of the TLS versions that are allowed here"
    if isinstance(error, ssl.SSLError) and isinstance(reason, str):
        return f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
    return f"the TLS handshake failed: {cause(error)}"
