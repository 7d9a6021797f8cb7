"""Certificate pins: which certificate a host must show, by its SHA-256."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def mismatch(pins: Sequence[tuple[str, str]], host: str, certificate: bytes | None) -> str | None:
    """The digest of a certificate that is none of those pinned for the host; None if all is well.

    Args:
        pins: pairs of host pattern and digest (`lochws.options.as_pins`). A host that no pattern fits may
            show any certificate.
        certificate: in DER form.
    """
    if not pins:
        return None
    from fnmatch import fnmatchcase  # noqa: PLC0415  few have pins

    wanted = {digest for pattern, digest in pins if fnmatchcase(host, pattern)}
    digest = sha256(certificate or b"").hexdigest()
    return digest if wanted and digest not in wanted else None
