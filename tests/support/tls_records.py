"""TLS 1.3 records of a server, made by hand: valid ones that no library sends."""

from __future__ import annotations

import hmac
import socket
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HANDSHAKE, APPLICATION = 22, 23


def log_keys(context: ssl.SSLContext, path: Path) -> None:
    """Have a server's context write the secrets of its connections to a file, and send no tickets."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = str(path)
    context.num_tickets = 0


class Records:
    """A server's TLS records on one connection, from the next one on.

    Args:
        keys: the file of `log_keys`; the connection is the last one in it.
        sent: how many records the server's own TLS has sent since the handshake. It must not send any more.
    """

    def __init__(self, keys: Path, sent: int) -> None:
        lines = [line.split() for line in keys.read_text().splitlines()]
        self._secret = bytes.fromhex([line[2] for line in lines if line[0] == "SERVER_TRAFFIC_SECRET_0"][-1])
        assert len(self._secret) == 48, "expected TLS_AES_256_GCM_SHA384"
        self._take_keys()
        self._number = sent

    def record(self, content: bytes, kind: int = APPLICATION) -> bytes:
        """One record."""
        plain = content + bytes([kind])
        head = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, plain, head)

    def key_update(self, *, request: bool = False) -> bytes:
        """A KeyUpdate (RFC 8446 section 4.6.3), which may ask for one in return."""
        update = self.record(b"\x18\0\0\1" + bytes([request]), HANDSHAKE)
        self._secret = self._expand(b"traffic upd", 48)
        self._take_keys()
        return update

    def tickets(self, count: int) -> bytes:
        """One record with that many of the smallest NewSessionTicket messages (RFC 8446 section 4.6.1)."""
        content = bytes(4) + bytes(4) + b"\0" + b"\0\1t" + b"\0\0"
        ticket = b"\4" + len(content).to_bytes(3, "big") + content
        return self.record(ticket * count, HANDSHAKE)

    def _take_keys(self) -> None:
        self._cipher = AESGCM(self._expand(b"key", 32))
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label without context (RFC 8446 section 7.1), for no more than one block."""
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return hmac.digest(self._secret, info + b"\1", "sha384")[:size]


def send_raw(sock: socket.socket, data: bytes) -> None:
    """Send bytes past the TLS of an `ssl.SSLSocket`."""
    view = memoryview(data)
    while view:
        view = view[socket.socket.send(sock, view):]
