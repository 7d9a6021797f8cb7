"""Upgrade requests: the headers, credentials, cookies and subprotocols for one endpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Protocol, TypeVar

from ..base.records import record
from ..options import Options, as_headers, as_protocols
from ..protocol import deflate
from ..protocol.handshake import build_request, make_key
from ..system.lazy import ensure_whole
from ..system.steps import Steps, raisable
from ..url import Endpoint
from .redirect import without_credentials

# A bearer token (RFC 6750 section 2.1).
_BEARER = r"[A-Za-z0-9\-._~+/]+=*"
T = TypeVar("T")


class Ask(Protocol):
    """A callable that calls a function that was passed as an option."""

    def __call__(self, option: str, function: Callable[[], T], /, key: Hashable = None) -> Steps[T]:
        """Call the function, and return its result, which depends on `key`."""


@record(frozen=True)
class Request:
    """One upgrade request.

    Attributes:
        endpoint: the endpoint that it is for.
        home: whether the endpoint has the origin of the WebSocket's own URL, and may receive its secrets.
        key: the Sec-WebSocket-Key.
        protocols: the subprotocols offered.
        data: the request in bytes, ready to send.
    """

    endpoint: Endpoint
    home: bool
    key: str
    protocols: tuple[str, ...]
    data: bytes


def call_directly(_: str, function: Callable[[], T], key: Hashable = None) -> Steps[T]:
    """Call a function that was passed as an option, on the thread that makes the attempt."""
    yield from ()
    try:
        return function()
    except (StopIteration, GeneratorExit) as error:
        raise raisable(error) from error


def prepare(
    options: Options,
    endpoint: Endpoint,
    *,
    home: bool,
    ask: Ask = call_directly,
    added_headers: Iterable[tuple[str, str]] = (),
) -> Steps[Request]:
    """Prepare a request, calling the functions that were passed as options.

    Args:
        ask: called with the name of an option and the function passed for it; returns that function's result.
        added_headers: the user's additional headers, already checked.

    Raises:
        TypeError, ValueError: a function returned something that cannot be sent.
        Exception: any exception that such a function raises.
    """
    given, protocols = options.headers, options.protocols
    takes_all = home or options.redirect_headers == "all"
    headers: list[tuple[str, str]] = []
    if takes_all:
        asked = (yield from ask("headers", given)) if callable(given) else given
        headers = [*as_headers(asked), *added_headers]
    offered = as_protocols((yield from ask("protocols", protocols))) if callable(protocols) else protocols
    if not takes_all:
        offered = without_credentials(offered)
    basic = None
    if home:
        auth: object = options.auth or endpoint.credentials
        if callable(options.auth):
            auth = yield from ask("auth", options.auth)
        if isinstance(auth, str):
            headers = _with_default(headers, "Authorization", f"Bearer {_checked_token(auth)}")
        elif auth is not None:
            basic = _checked_pair(auth)
    else:
        headers = [header for header in headers if header[0].lower() != "host"]
    if options.cookies is not None:
        ensure_whole("lochws.opening.cookies")
        from .cookies import cookie_header  # noqa: PLC0415  imports urllib.request and email, rarely needed

        cookies = yield from ask("cookies", partial(cookie_header, options.cookies, endpoint), key=endpoint)
        if cookies:
            headers = _with_default(headers, "Cookie", cookies)
    key = make_key()
    data = build_request(
        endpoint,
        key,
        headers=headers,
        agent=options.agent,
        origin=options.origin,
        protocols=offered,
        extensions=None if options.deflate is None else deflate.offer(options.deflate),
        auth=basic,
    )
    return Request(endpoint, home, key, offered, data)


def _with_default(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    """Return the headers, with a default added unless the user has set that header."""
    if any(given.lower() == name.lower() for given, _ in headers):
        return headers
    return [*headers, (name, value)]


def _checked_token(token: str) -> str:
    if not re.fullmatch(_BEARER, token):
        raise ValueError("auth: the function returned a str that is not a bearer token (RFC 6750)")
    return token


def _checked_pair(auth: object) -> tuple[str, str]:
    if isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth):
        return auth
    raise TypeError("auth: the function must return a str (a bearer token), a tuple of two str, or None")
