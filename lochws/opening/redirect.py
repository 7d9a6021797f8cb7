"""Redirects: targets, refusals, and credentials withheld from other origins (RFC 9110 section 15.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from urllib.parse import quote, urljoin, urlsplit

from ..base.records import changed
from ..response import Response
from ..url import Endpoint, parse_url

#: The upgrade is and remains a GET, so all of these have the same meaning.
CODES = frozenset({301, 302, 303, 307, 308})

# The characters of a Location that are not percent-encoded: ASCII without space and control characters.
_ASCII = "".join(map(chr, range(33, 127)))

# Words that name a credential or announce that one follows.
_TELLING = (
    r"(?i)access|api-?key|auth|basic|bearer|cookie|credential|jwt|pass|secret|session|sign|ticket|token|header-|\bkey\b|\b[ps]k[_-]"
)
_WORDS = r"[^0-9A-Za-z]+"
# Names longer than any registered one, and words longer than any in them, are suspicious.
_LONGEST_NAME = 40
_LONGEST_WORD = 16


def is_redirect(response: Response) -> bool:
    """Return whether the response redirects to another URL."""
    return response.status_code in CODES and bool(_locations(response))


def target(endpoint: Endpoint, response: Response) -> Endpoint:
    """Return the target of a redirect. For another origin, credentials in the Location are dropped.

    Raises:
        ValueError: the redirect is not followed; the message says why, and never repeats credentials.
    """
    locations = _locations(response)
    if len(locations) > 1:
        raise ValueError("redirect not followed: it has several different Location headers")
    # In `header_list` each non-ASCII byte is one character, which is percent-encoded as that byte.
    location = quote("".join(locations).encode("latin-1"), safe=_ASCII)
    scheme = "https" if endpoint.is_secure else "http"
    base = f"{scheme}://{endpoint.host_header}{endpoint.resource}"
    try:
        where = urlsplit(location)
        joined = urljoin(base, location)
        if where.scheme.lower().endswith("+unix"):
            raise ValueError("it leads to a Unix socket")
        found = parse_url(joined)
    except ValueError as error:
        raise ValueError(f"redirect not followed: {error}") from error
    if not where.scheme and not where.netloc:
        return changed(endpoint, resource=found.resource)
    if endpoint.is_secure and not found.is_secure:
        raise ValueError("redirect not followed: it leads from wss to ws")
    same = found.origin == endpoint.origin
    return changed(found, credentials=endpoint.credentials if same else None)


def _locations(response: Response) -> list[str]:
    """Return the distinct values of the Location headers, with one character per byte."""
    values = (value for name, value in response.header_list if name == "location" and value)
    return list(dict.fromkeys(values))


def without_credentials(protocols: Iterable[str]) -> tuple[str, ...]:
    """Return the subprotocols that may be offered to another origin: those that look like names.

    Browsers cannot send headers with a WebSocket, so many services accept a token as a subprotocol: as part
    of one, as in ``base64url.bearer.authorization.k8s.io.TOKEN``, or after one that announces it, as in
    ``access_token, TOKEN``.
    """
    names = []
    is_announced = False
    for protocol in protocols:
        is_telling = bool(re.search(_TELLING, protocol))
        if not is_telling and not is_announced and _looks_like_name(protocol):
            names.append(protocol)
        is_announced = bool(re.search(_TELLING, re.split(_WORDS, protocol)[-1]))
    return tuple(names)


def _looks_like_name(protocol: str) -> bool:
    if len(protocol) > _LONGEST_NAME:
        return False
    return all(_looks_like_word(word) for word in re.split(_WORDS, protocol))


def _looks_like_word(word: str) -> bool:
    digits = sum(map(str.isdecimal, word))
    if len(word) > _LONGEST_WORD or digits > 4:
        return False
    if len(word) >= 8 and digits > 2:
        return False
    # Case changes occasionally in CamelCase, and constantly in base64.
    changes = sum(a.isupper() != b.isupper() for a, b in pairwise(word))
    return len(word) < 8 or changes <= len(word) // 4
