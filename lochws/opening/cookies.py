"""Cookies: an adapter between WebSocket handshakes and the standard library's cookie jar."""

from __future__ import annotations

import logging
import re
import urllib.request
from email.message import Message

from ..options import CookieJar
from ..response import Response
from ..system.report import report_aside
from ..url import Endpoint

#: The limits for cookies in the jar, and for characters in the Cookie header for a server; new cookies above
#: either limit are ignored. The standard library's jar has no limit of its own.
MAX_COOKIES = 300
MAX_HEADER = 8 * 1024

# The jar would store and return these, and they would break the next request.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def cookie_header(jar: CookieJar, endpoint: Endpoint) -> str | None:
    """Return the Cookie header for an endpoint, or None if the jar has no cookie for it."""
    request = _as_http(endpoint)
    jar.add_cookie_header(request)
    return request.get_header("Cookie")


def keep_cookies(jar: CookieJar, response: Response, endpoint: Endpoint) -> None:
    """Store the cookies that a response sets, unless the jar is full. Malformed ones are ignored."""
    try:
        if len(jar) >= MAX_COOKIES or len(cookie_header(jar, endpoint) or "") > MAX_HEADER:
            report_aside(logging.WARNING, "the cookie jar is full: ignoring new cookies from %s", endpoint)
            return
        jar.extract_cookies(_Answer(response), _as_http(endpoint))
    except Exception as error:  # noqa: BLE001  the jar's parser is lenient, but nothing a server sends may end the opening
        report_aside(logging.WARNING, "cannot read the cookies from %s", endpoint, error=error)


def _as_http(endpoint: Endpoint) -> urllib.request.Request:
    scheme = "https" if endpoint.is_secure else "http"
    return urllib.request.Request(f"{scheme}://{endpoint.host_header}{endpoint.resource}")


class _Answer:
    """A response in the form that the jar expects."""

    def __init__(self, response: Response) -> None:
        self._headers = Message()
        for name, value in response.header_list:
            if name in {"set-cookie", "set-cookie2"} and not _CONTROL.search(value):
                self._headers[name] = value

    def info(self) -> Message:
        """Return the response's Set-Cookie headers."""
        return self._headers
