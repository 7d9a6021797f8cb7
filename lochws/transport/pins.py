"""Certificate pins: which certificate a host must show, by its SHA-256."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

#: What a user gives: by host pattern, one digest or several.
Pins: TypeAlias = Mapping[str, str | Iterable[str]]

# Not compiled before there are pins.
_PREFIX = r"sha-?256[:/ ]\s*"
_DIGEST = r"[0-9a-f]{64}"


def as_pins(pins: Pins | None) -> tuple[tuple[str, str], ...]:
    """Pins as pairs of host pattern and digest, each checked.

    A digest is the SHA-256 of the certificate in DER form, in hexadecimal, with or without colons, as
    ``openssl x509 -fingerprint -sha256`` prints it. In a pattern ``*`` stands for any characters.

    Raises:
        TypeError: it is no mapping of str to str, or to an iterable of str.
        ValueError: something is no SHA-256.
    """
    if pins is None:
        return ()
    if not isinstance(pins, Mapping):
        raise TypeError(f"ssl_pins: expected a mapping of hosts to digests, not {type(pins).__name__}")
    pairs = []
    for pattern, given in pins.items():
        for digest in [given] if isinstance(given, str) else given:
            if not isinstance(pattern, str) or not isinstance(digest, str):
                raise TypeError(f"ssl_pins: {pattern!r}: {digest!r}: expected two str")
            plain = re.sub(_PREFIX, "", digest.strip(), count=1, flags=re.IGNORECASE).replace(":", "").lower()
            if not re.fullmatch(_DIGEST, plain):
                raise ValueError(f"ssl_pins: {digest!r} is no SHA-256: expected 64 hexadecimal digits")
            pairs.append((pattern.lower(), plain))
    return tuple(pairs)


def mismatch(pins: Sequence[tuple[str, str]], host: str, certificate: bytes | None) -> str | None:
    """The digest of a certificate that is none of those pinned for the host; None if all is well.

    Args:
        pins: from `as_pins`. A host that no pattern fits may show any certificate.
        certificate: in DER form.
    """
    if not pins:
        return None
    from fnmatch import fnmatchcase  # noqa: PLC0415  few have pins

    wanted = {digest for pattern, digest in pins if fnmatchcase(host, pattern)}
    digest = sha256(certificate or b"").hexdigest()
    return digest if wanted and digest not in wanted else None
