"""HTTP proxies: which one to use, and the tunnel through it (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ..deadline import Deadline
from ..errors import ConnectFail
from ..response import Response
from ..url import Endpoint, bracketed
from .stream import Stream
from .waiting import cause, receive, send_all

_DEFAULT_PORT = 80
_MAX_HEAD = 16 * 1024


@dataclass(frozen=True)
class ProxyURL:
    """Where a proxy is and who we are to it; as text it never has the credentials.

    Attributes:
        host: without the brackets of an IPv6 address.
        credentials: user name and password, percent-decoded, or None.
    """

    scheme: str
    host: str
    port: int
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def choose_proxy(endpoint: Endpoint, proxies: Mapping[str, str | None] | None) -> ProxyURL | None:
    """The proxy for an endpoint, or None to connect directly.

    Args:
        proxies: proxy URLs by the key ``"http"`` for ``ws`` and ``"https"`` for ``wss``. Without the
            key the connection is direct, so ``{}`` is for no proxy at all. None takes them from the
            environment (or the system's settings), with its ``no_proxy``.

    Raises:
        TypeError: a proxy URL is no str.
        ValueError: it is no URL of a proxy that is supported.
    """
    if proxies is None:
        proxies = {} if _is_bypassed(endpoint) else getproxies()
    url = proxies.get("https" if endpoint.is_secure else "http")
    return None if not url else parse_proxy(url)


def check_proxies(proxies: Mapping[str, str | None] | None) -> None:
    """Refuse proxies that `choose_proxy` would refuse later.

    Raises:
        TypeError: it is no mapping, or a proxy URL is no str.
        ValueError: a URL is none of a proxy that is supported.
    """
    if proxies is None:
        return
    if not isinstance(proxies, Mapping):
        raise TypeError(f"proxies: expected a mapping such as {{'http': url}}, not {type(proxies).__name__}")
    for key in ("http", "https"):
        url = proxies.get(key)
        if url:
            parse_proxy(url)


def parse_proxy(url: str) -> ProxyURL:
    """Take a proxy's URL apart; ``host:port`` alone means ``http://host:port``.

    Raises:
        TypeError: it is no str.
        ValueError: it is no URL of a proxy that is supported. The text has nothing of the URL but
            its scheme: where it goes wrong, a password may stand anywhere.
    """
    if not isinstance(url, str):
        raise TypeError(f"a proxy URL is a str, not {type(url).__name__}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError("a proxy URL has a space or control character in it: percent-encode it")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("a proxy URL has no valid host and port: expected http://host[:port]") from None
    if parts.scheme != "http":
        raise ValueError(f"proxies of the kind {parts.scheme}:// are not supported yet: http:// is")
    if not host:
        raise ValueError("a proxy URL has no host: expected http://[user:password@]host[:port]")
    credentials = None
    if parts.username is not None:
        credentials = (unquote(parts.username), unquote(parts.password or ""))
    return ProxyURL(parts.scheme, host, port or _DEFAULT_PORT, credentials)


def tunnel(stream: Stream, proxy: ProxyURL, endpoint: Endpoint, deadline: Deadline) -> None:
    """Have the proxy connect to the endpoint: from then on the stream's bytes are the endpoint's.

    The stream stays the caller's, also if this fails.

    Raises:
        ConnectFail: the proxy refused, or did not answer in time (phase ``"proxy"``).
        Cancelled: the deadline was cancelled.
    """
    address = stream.address
    try:
        send_all(stream, _request(proxy, endpoint), deadline)
        response, rest = _read_answer(stream, deadline)
    except TimeoutError as error:
        raise ConnectFail(f"no answer to CONNECT: {cause(error)}", phase="proxy", address=address) from error
    except OSError as error:
        raise ConnectFail(cause(error), phase="proxy", address=address) from error
    code = response.status_code
    if code is None:
        refusal = "the answer to CONNECT is not HTTP"
    elif not 200 <= code < 300:  # any 2xx is success (RFC 9110 section 9.3.6)
        refusal = f"{code} {response.status}".rstrip()
    elif rest:
        # The endpoint speaks only after us, in TLS as in HTTP. What is this?
        refusal = f"{len(rest)} unexpected bytes after the answer to CONNECT"
    else:
        return
    raise ConnectFail(refusal, phase="proxy", address=address)


def _is_bypassed(endpoint: Endpoint) -> bool:
    # With the port for entries of no_proxy that have one; without it for IPv6 addresses, which the
    # standard library compares only as they are.
    return bool(proxy_bypass(endpoint.authority) or proxy_bypass(endpoint.host))


def _request(proxy: ProxyURL, endpoint: Endpoint) -> bytes:
    lines = [f"CONNECT {endpoint.authority} HTTP/1.1", f"Host: {endpoint.authority}"]
    if proxy.credentials is not None:
        # RFC 7617: the colon stays even if the password is empty.
        token = base64.b64encode(":".join(proxy.credentials).encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _read_answer(stream: Stream, deadline: Deadline) -> tuple[Response, bytes]:
    """The answer's head, and what came after it. Interim answers (1xx) are skipped."""
    received = b""
    while True:
        head, blank_line, rest = received.partition(b"\r\n\r\n")
        if blank_line:
            response = Response(head)
            if response.status_code is None or response.status_code >= 200:
                return response, rest
            received = rest
            continue
        if not received.startswith(b"HTTP/1."[:len(received)]):
            return Response(received), b""
        if len(received) > _MAX_HEAD:
            raise ConnectionError(f"the answer to CONNECT has more than {_MAX_HEAD // 1024} KiB of headers")
        data = receive(stream, _MAX_HEAD, deadline)
        if not data:
            raise ConnectionError("the connection ended before the answer to CONNECT")
        received += data
