"""TLS handshakes: under a deadline, with failures in plain words and sessions resumed."""

from __future__ import annotations

import errno
import ssl
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..base.records import changed
from ..errors import ConnectFail
from ..options import Options
from ..system.deadline import Deadline
from ..system.steps import Steps, raisable
from .contexts import check_tls, fresh_context, key_of, may_block, shared_context
from .layered import TLSStream, directly
from .pins import mismatch
from .sessions import Server, Sessions
from .sharedcalls import SharedCalls
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

# Load certificates, on at most 4 threads.
_loads: SharedCalls[ssl.SSLContext] = SharedCalls("lochws-loader", 4)
# Use TLS objects that may block, on at most 16 threads.
_handshakes: SharedCalls[Any] = SharedCalls("lochws-handshake", 16)
# A user's TLS context may have errors with a circle of causes.
_MAX_CAUSES = 10
_ALPN_ADVICE = "Offer http/1.1 alone in the ssl_context: set_alpn_protocols(['http/1.1'])."
_PIN_ADVICE = "If the server has a new certificate for a good reason, add its SHA-256 to ssl_pins."
_NO_COMMON_VERSION = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}


T = TypeVar("T")


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
        secured: TLSStream | None = None
        try:
            context = yield from self._context(home, deadline)
            secured = yield from handshake(stream, context, name, deadline, self._sessions, server)
            digest = mismatch(self._options.ssl_pins, host, secured.tls.getpeercert(binary_form=True))
            if digest is not None:
                text = f"the certificate of {host!r} is not among those pinned: its SHA-256 is {digest}"
                raise ConnectFail(text, phase="tls", address=stream.address, advice=_PIN_ADVICE)
        except BaseException as error:
            stream.close()
            secured = None
            _clear_frames(error)
            raise
        return secured

    def _context(self, home: bool, deadline: Deadline) -> Steps[ssl.SSLContext]:
        options = self._options
        home = home or options.ssl_certfile is None or options.ssl_context is not None
        if home not in self._contexts:
            ours = options if home else changed(options, ssl_certfile=None, ssl_keyfile=None)
            if ours.ssl_context is None:
                key = key_of(ours)
                context = fresh_context(key)
                if context is None:
                    load = partial(shared_context, ours)
                    calling = _loads.call(key or object(), load, deadline, "of-certificates")
                    try:
                        loading = yield from calling
                    except TimeoutError as error:
                        raise ConnectFail(f"certificates were not loaded: {error}", phase="tls") from error
                    if loading.error is not None:
                        raise raisable(loading.error)
                    (context,) = loading.results
                self._contexts[home] = context
            else:
                self._contexts[home] = ours.ssl_context
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


class _Elsewhere:
    """Calls the functions of a TLS object that may block. Calls that outlast the deadline are left behind."""

    def __init__(self, name: str, deadline: Deadline) -> None:
        self._name = name
        self._deadline = deadline

    def __call__(self, function: Callable[[], T], /) -> Steps[T]:
        """Call the function on another thread, and return its result."""
        made = yield from _handshakes.call(object(), function, self._deadline, self._name)
        if made.error is not None:
            raise raisable(made.error)
        result: T = made.results[0]
        return result


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
    call = _Elsewhere(name, deadline) if may_block(context) else directly
    make: Callable[[], TLSStream] = partial(TLSStream, stream, context, name)
    if sessions is not None and server is not None:
        make = partial(_ResumedStream, stream, context, name, sessions, server)
    try:
        secured = yield from call(make)
        yield from secured.shake_hands(deadline, call)
        chosen = secured.tls.selected_alpn_protocol()
        if chosen not in {None, "http/1.1"}:
            text = f"the server chose {chosen!r} through ALPN, and WebSocket needs HTTP/1.1"
            raise ConnectFail(text, phase="tls", address=stream.address, advice=_ALPN_ADVICE)
        return secured
    except (OSError, ValueError) as error:  # ValueError: the host cannot be a server name
        text = _describe(error, server_hostname)
        raise ConnectFail(text, phase="tls", address=stream.address) from error


def _clear_frames(error: BaseException) -> None:
    """Empty the frames of an error, which the app keeps, and of its causes: they refer to the TLS object."""
    behind: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if behind is None:
            return
        traceback.clear_frames(behind.__traceback__)
        behind = behind.__cause__ or behind.__context__


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
