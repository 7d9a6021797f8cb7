"""Digest authentication (RFC 7616), on top of the standard library's implementation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import AbstractDigestAuthHandler, parse_http_list, parse_keqv_list

_HASHES = {"MD5": "md5", "SHA": "sha1", "SHA-256": "sha256"}


@dataclass
class _Request:
    """The part of a request that the standard library reads. The target of CONNECT is not a URL."""

    method: str
    selector: str
    full_url: str = ""
    data: None = None

    def get_method(self) -> str:
        return self.method


class _Password:
    """The one password, in the form that the standard library expects."""

    def __init__(self, credentials: tuple[str, str]) -> None:
        self._credentials = credentials

    def add_password(self, *_: object) -> None:
        """Do nothing: the standard library requires this method, but never calls it here."""

    def find_user_password(self, _realm: str, _url: str) -> tuple[str, str]:
        return self._credentials


class _Handler(AbstractDigestAuthHandler):
    """The standard library's handler, for challenges with any bytes, one character per byte."""

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        if algorithm.upper() not in _HASHES:
            raise ValueError(f"unsupported algorithm {algorithm[:40]!r}")

        def digest(text: str) -> str:
            return hashlib.new(_HASHES[algorithm.upper()], text.encode("latin-1")).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


def digest_answer(challenge: str, method: str, target: str, credentials: tuple[str, str]) -> str:
    """Return the Authorization value that answers a challenge, such as ``Digest realm=…, nonce=…``.

    The algorithms are MD5, SHA and SHA-256. The quality of protection (qop) is ``auth``, or none.

    Raises:
        ValueError: the challenge or the credentials are not supported; the text says why.
    """
    user, password = credentials
    if not f"{user}{password}".isascii() or any(char in user for char in '"\\'):
        raise ValueError("Digest needs a user name and password in ASCII, and a user name without quotes")
    handler = _Handler(_Password(credentials))  # type: ignore[arg-type]
    try:
        parameters = parse_keqv_list(parse_http_list(challenge.partition(" ")[2]))
        qop = parameters.get("qop")
        if qop is not None:
            parameters["qop"] = qop.replace(" ", "")  # "auth, auth-int", which the library does not split
        answer = handler.get_authorization(_Request(method, target), parameters)  # type: ignore[arg-type]
    except (ValueError, URLError) as error:
        text = getattr(error, "reason", None) or error
        raise ValueError(f"the proxy's Digest challenge cannot be answered: {text}") from None
    if not answer:
        raise ValueError("the proxy's Digest challenge lacks realm or nonce")
    if any(char in answer for char in "\r\n\0"):
        raise ValueError("the proxy's Digest challenge has control characters in it")
    return f"Digest {answer}"
