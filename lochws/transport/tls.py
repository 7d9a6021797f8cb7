"""TLS: contexts, the handshake under a deadline, and its failures in plain words."""

from __future__ import annotations

import errno
import selectors
import socket
import ssl

from ..deadline import Deadline
from ..errors import ConnectFail
from ..options import Options
from .stream import peer_address
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

# What OpenSSL says when the bytes that came are no TLS records.
_NOT_TLS = {
    "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST",
    "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "UNEXPECTED_MESSAGE",
}
_NO_COMMON_VERSION = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}


def make_context(options: Options) -> ssl.SSLContext:
    """The TLS context that the options ask for; a given `ssl_context` is returned as it is.

    Our own contexts speak TLS 1.2 at least. `ssl_cafile` is added to the system's authorities.
    This reads files and takes some 10 ms: call it once per WebSocket, not once per connection.

    Raises:
        OSError: `ssl_cafile` cannot be read.
    """
    if options.ssl_context is not None:
        return options.ssl_context
    if options.ssl_verify:
        context = ssl.create_default_context()
        if options.ssl_cafile is not None:
            context.load_verify_locations(options.ssl_cafile)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # The system's configuration may ask for more than 1.2 and is left at that.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


def check_tls(options: Options) -> None:
    """Refuse TLS options that can only fail later.

    Raises:
        FileNotFoundError: there is no such `ssl_cafile`.
        ValueError: `ssl_cafile` holds no certificates, or `ssl_context` is one for servers.
    """
    if options.ssl_context is not None:
        if options.ssl_context.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise ValueError("ssl_context is one for servers: expected one for clients")
        return
    if options.ssl_cafile is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(options.ssl_cafile)
    except FileNotFoundError:
        raise FileNotFoundError(f"ssl_cafile={options.ssl_cafile!r}: there is no such file") from None
    except ssl.SSLError as error:
        text = f"ssl_cafile={options.ssl_cafile!r}: expected a file of certificates in PEM form"
        raise ValueError(text) from error
    except OSError as error:
        raise ValueError(f"ssl_cafile={options.ssl_cafile!r}: {cause(error)}") from error


def handshake(
    sock: socket.socket, context: ssl.SSLContext, server_hostname: str, deadline: Deadline
) -> ssl.SSLSocket:
    """Wrap a connected, non-blocking socket in TLS and do the handshake.

    The socket given belongs to the result from now on, and is closed if this fails.

    Args:
        server_hostname: what the server is asked for (SNI) and its certificate is checked against.

    Raises:
        ConnectFail: it failed, or took too long (phase ``"tls"``); the text says why.
        Cancelled: the deadline was cancelled.
    """
    address = peer_address(sock)
    # A certificate names neither the root's dot at the end nor the zone of an IPv6 address.
    name = server_hostname.rstrip(".").partition("%")[0]
    tls: socket.socket = sock
    try:
        # Where these two fail inside wrap_socket(), that leaves a descriptor behind.
        name.encode("idna")
        sock.getpeername()
        tls = wrapped = context.wrap_socket(
            sock, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        _shake_hands(wrapped, deadline)
        return wrapped
    except (OSError, ValueError) as error:  # ValueError: a host that can be no server name
        tls.close()
        raise ConnectFail(_in_words(error, server_hostname), phase="tls", address=address) from error
    except BaseException:
        tls.close()
        raise


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
    if reason in _NOT_TLS:
        return "the server does not speak TLS on this port"
    if reason in _NO_COMMON_VERSION:
        return "the server speaks no version of TLS that is allowed here"
    if isinstance(error, ssl.SSLError) and isinstance(reason, str):
        return f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
    return f"the TLS handshake failed: {cause(error)}"
