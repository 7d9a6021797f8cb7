"""Certificates of servers, read whether or not they are trusted."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from time import monotonic
from typing import Any

from ..options import Password
from ..transport.stream import TLS
from .addresses import Address
from .findings import Finding, Verdict

#: A certificate that expires within this time is a warning.
SOON = timedelta(days=14)

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, which the module ssl does not name.
_NO_CHECK_TIME = 0x200000
# ENCODING_DER of the private module _ssl.
_DER = 2

_SOON = "Renew the server's certificate before that day."
_EXPIRED = "Renew the server's certificate, or correct this machine's clock."
_EARLY = "Check this machine's clock; if it is right, the server's certificate is not valid yet."


class Handshakes:
    """TLS handshakes that read a server's certificates without verifying them.

    Args:
        address: the server's address.
        host: the name to ask it for.
        limit: seconds for each handshake.
        certfile: the file of a client certificate, for servers that require one.
        keyfile: the file of its private key, if separate.
        password: the key's password, or a function that returns it.
    """

    def __init__(
        self, address: Address, host: str, limit: float, *,
        certfile: str | os.PathLike[str] | None = None, keyfile: str | os.PathLike[str] | None = None,
        password: Password | None = None,
    ) -> None:
        self._address = address
        self._host = host
        self._limit = limit
        self._own = (certfile, keyfile, password)

    def inspect(self) -> list[Finding]:
        """Determine the TLS version and cipher, the certificate's names and dates, and its chain. Blocks."""
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
                fields = {}  # most likely OpenSSL does not support its type of key
            shown = TLS(version, cipher[0] if cipher else "no cipher", fields, leaf)
            return [*agreement(shown, took), *(_issuer(issuer) for issuer in chain)]
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            text = str(reason).lower().replace("_", " ")
            return [Finding("TLS", Verdict.FAILED, f"no handshake: {text}", monotonic() - began)]

    def succeed(self) -> bool:
        """Return whether the server performs a TLS handshake at all. Blocks."""
        try:
            with self._shaken(self._context()):
                return True
        except (OSError, ValueError):
            return False

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        certfile, keyfile, password = self._own
        if certfile is not None:
            context.load_cert_chain(certfile, keyfile, password)
        return context

    @contextmanager
    def _shaken(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        with socket.socket(self._address.family, socket.SOCK_STREAM) as plain:
            plain.settimeout(self._limit)
            plain.connect(self._address.sockaddr)
            with context.wrap_socket(plain, server_hostname=self._host.rstrip(".")) as sock:
                yield sock

    def _fields(self, leaf: bytes) -> dict[str, Any]:
        """Return the certificate as a dict, which the module ssl provides only for a verified certificate.

        So it is verified against itself: as the only trusted authority, for any name and any date.

        Raises:
            OSError: that verification failed, too.
        """
        context = self._context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        context.load_verify_locations(cadata=leaf)
        with self._shaken(context) as sock:
            return sock.getpeercert() or {}


def agreement(tls: TLS, seconds: float | None) -> list[Finding]:
    """Return findings on the TLS parameters, and on the certificate's names and dates.

    Args:
        tls: the parameters agreed on with the server.
        seconds: how long the handshake took, or None.
    """
    found = Finding("TLS", Verdict.OK, f"{tls.version}, {tls.cipher}", seconds)
    if tls.certificate:
        return [found, _certificate(tls.certificate)]
    # An unverified certificate has not been read either.
    digest = hashlib.sha256(tls.der).hexdigest()
    return [found, Finding("certificate", Verdict.NOTE, f"not read; its SHA-256 is {digest}")]


def _certificate(fields: dict[str, Any]) -> Finding:
    names = [str(value) for _, value in fields.get("subjectAltName", ())]
    who = f"for {', '.join(names) or _name(fields.get('subject'))}; by {_name(fields.get('issuer'))}"
    begins, ends = _day(fields["notBefore"]), _day(fields["notAfter"])
    now = datetime.now(timezone.utc)
    if now > ends:
        text = f"{who}; expired on {ends:%Y-%m-%d}"
        return Finding("certificate", Verdict.FAILED, text, None, _EXPIRED)
    if now < begins:
        text = f"{who}; is not valid before {begins:%Y-%m-%d}"
        return Finding("certificate", Verdict.FAILED, text, None, _EARLY)
    left = ends - now
    text = f"{who}; valid until {ends:%Y-%m-%d}, {left.days} days from now"
    if left < SOON:
        return Finding("certificate", Verdict.WARNING, text, None, _SOON)
    return Finding("certificate", Verdict.OK, text)


def _chain(sock: ssl.SSLSocket) -> list[dict[str, Any]]:
    """Return the authorities' certificates that the server sent with its own."""
    # Before Python 3.13 only the socket's private object has this method, which returns objects, not bytes.
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
    text = f"{_name(fields.get('subject'))}; by {_name(fields.get('issuer'))}; valid until {ends:%Y-%m-%d}"
    if datetime.now(timezone.utc) > ends:
        return Finding("chain", Verdict.WARNING, text, None, _EXPIRED)
    return Finding("chain", Verdict.NOTE, text)


def _name(parts: Any) -> str:
    """Return the name of a subject or issuer: its common name or, failing that, its organization."""
    found = {key: value for part in parts or () for key, value in part}
    for key in ("commonName", "organizationName", "organizationalUnitName"):
        if key in found:
            return str(found[key])
    return "an unnamed one"


def _day(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)
