"""A server's certificate, read whether it is to be trusted or not."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from time import monotonic
from typing import Any

from ..transport.stream import TLS
from .addresses import Address
from .findings import Finding, Verdict

#: How soon before a certificate's end that is worth a warning.
SOON = timedelta(days=14)

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, for which the module ssl has no name.
_NO_CHECK_TIME = 0x200000
# ENCODING_DER of the module _ssl.
_DER = 2

_SOON = "Have the server get a new certificate before that day."
_EXPIRED = "The server needs a new certificate; check this machine's clock, too."
_EARLY = "Check this machine's clock; if it is right, the server's certificate is not valid yet."


class Handshakes:
    """TLS handshakes with a server that read what it shows; whether to trust it they do not judge.

    Args:
        address: where it is.
        host: which name it is asked for.
        limit: seconds for each handshake.
        certfile, keyfile: our own certificate, for servers that ask for one.
    """

    def __init__(
        self, address: Address, host: str, limit: float, *,
        certfile: str | None = None, keyfile: str | None = None,
    ) -> None:
        self._address = address
        self._host = host
        self._limit = limit
        self._own = (certfile, keyfile)

    def inspect(self) -> list[Finding]:
        """Protocol and cipher, the certificate's names and dates, and its chain. Blocks."""
        began = monotonic()
        try:
            with self._shaken(self._context()) as sock:
                cipher = sock.cipher()
                took = monotonic() - began
                version, leaf = sock.version() or "", sock.getpeercert(binary_form=True) or b""
                chain = _chain(sock)
            try:
                fields = self._fields(leaf)
            except OSError:
                fields = {}  # the kind of its key, most likely: not trusted even by its own word
            shown = TLS(version, cipher[0] if cipher else "no cipher", fields, leaf)
            return [*agreement(shown, took), *(_issuer(issuer) for issuer in chain)]
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            text = str(reason).lower().replace("_", " ")
            return [Finding("TLS", Verdict.FAILED, f"no handshake: {text}", monotonic() - began)]

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self._own[0] is not None:
            context.load_cert_chain(self._own[0], self._own[1])
        return context

    @contextmanager
    def _shaken(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        with socket.socket(self._address.family, socket.SOCK_STREAM) as plain:
            plain.settimeout(self._limit)
            plain.connect(self._address.sockaddr)
            with context.wrap_socket(plain, server_hostname=self._host.rstrip(".")) as sock:
                yield sock

    def _fields(self, leaf: bytes) -> dict[str, Any]:
        """The certificate as a dict, which the module ssl makes of verified ones alone.

        So it is verified against itself: as the only authority, which needs no other above it, for any name
        and any day.

        Raises:
            OSError: that failed too.
        """
        context = self._context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        context.load_verify_locations(cadata=leaf)
        with self._shaken(context) as sock:
            return sock.getpeercert() or {}


def agreement(tls: TLS, seconds: float | None) -> list[Finding]:
    """What TLS has agreed on, in so many seconds, and the certificate's names and dates."""
    found = Finding("TLS", Verdict.OK, f"{tls.version}, {tls.cipher}", seconds)
    if tls.certificate:
        return [found, _certificate(tls.certificate)]
    # It was not verified, and so not read either.
    digest = hashlib.sha256(tls.der).hexdigest()
    return [found, Finding("certificate", Verdict.NOTE, f"unread; its SHA-256 is {digest}")]


def _certificate(fields: dict[str, Any]) -> Finding:
    names = [str(value) for _, value in fields.get("subjectAltName", ())]
    who = f"for {', '.join(names) or _name(fields.get('subject'))}; by {_name(fields.get('issuer'))}"
    begins, ends = _day(fields["notBefore"]), _day(fields["notAfter"])
    now = datetime.now(timezone.utc)
    if now > ends:
        text = f"{who}; has expired on {ends:%Y-%m-%d}"
        return Finding("certificate", Verdict.FAILED, text, None, _EXPIRED)
    if now < begins:
        text = f"{who}; is not valid before {begins:%Y-%m-%d}"
        return Finding("certificate", Verdict.FAILED, text, None, _EARLY)
    left = ends - now
    text = f"{who}; until {ends:%Y-%m-%d}, {left.days} days from now"
    if left < SOON:
        return Finding("certificate", Verdict.WARNING, text, None, _SOON)
    return Finding("certificate", Verdict.OK, text)


def _chain(sock: ssl.SSLSocket) -> list[dict[str, Any]]:
    """The authorities that the server has sent above its certificate."""
    # Until Python 3.13 the socket does not have it, but what it is made of has, as objects.
    given = getattr(sock, "get_unverified_chain", None) or getattr(
        getattr(sock, "_sslobj", None), "get_unverified_chain", None
    )
    shown = given() if given is not None else None
    chain: list[dict[str, Any]] = []
    for sent in (shown or [])[1:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=sent if isinstance(sent, bytes) else sent.public_bytes(_DER))
        chain += context.get_ca_certs()
    return chain


def _issuer(fields: dict[str, Any]) -> Finding:
    ends = _day(fields["notAfter"])
    text = f"{_name(fields.get('subject'))}; by {_name(fields.get('issuer'))}; until {ends:%Y-%m-%d}"
    if datetime.now(timezone.utc) > ends:
        return Finding("chain", Verdict.WARNING, text, None, _EXPIRED)
    return Finding("chain", Verdict.NOTE, text)


def _name(parts: Any) -> str:
    """Who a subject or issuer is: its common name, or else its organisation."""
    found = {key: value for part in parts or () for key, value in part}
    for key in ("commonName", "organizationName", "organizationalUnitName"):
        if key in found:
            return str(found[key])
    return "nobody"


def _day(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)
