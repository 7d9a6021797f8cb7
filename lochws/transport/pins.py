"""Certificate pins: the SHA-256 digests of the certificates that a host may present."""

from __future__ import annotations

from collections.abc import Sequence


def mismatch(pins: Sequence[tuple[str, str]], host: str, certificate: bytes | None) -> str | None:
    """Return the digest of a certificate that is not among those pinned for the host; None if it is.

    Args:
        pins: pairs of host pattern and digest (`lochws.options.as_pins`). A host that no pattern
            matches may present any certificate.
        certificate: in DER form.
    """
    if not pins:
        return None
    from fnmatch import fnmatchcase  # noqa: PLC0415  pins are rarely used
    from hashlib import sha256  # noqa: PLC0415  likewise

    wanted = {digest for pattern, digest in pins if fnmatchcase(host, pattern)}
    digest = sha256(certificate or b"").hexdigest()
    return digest if wanted and digest not in wanted else None
