"""What TLS has agreed on."""

from __future__ import annotations

from typing import Any, NamedTuple


class TLS(NamedTuple):
    """What TLS has agreed on with the server, and who the server has shown to be.

    Attributes:
        version: of the protocol, such as ``"TLSv1.3"``.
        cipher: the name of the cipher suite.
        certificate: the server's certificate as `ssl.SSLSocket.getpeercert` has it: with ``"subject"``,
            ``"issuer"``, ``"notAfter"``, ``"subjectAltName"`` and others. Empty if it was not verified, as
            with ``ssl_verify=False``.
        der: the same certificate as it was sent, in DER.
    """

    version: str
    cipher: str
    certificate: dict[str, Any]
    der: bytes

    def __repr__(self) -> str:
        return f"TLS(version={self.version!r}, cipher={self.cipher!r}, …)"
