"""Tunnels through HTTP proxies: CONNECT and its authentication (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
import re
from time import monotonic

from ...errors import ConnectFail
from ...response import HEAD_END, Response
from ...system.deadline import Cancelled, Deadline
from ...system.steps import Steps
from ...url import Endpoint
from ..stream import Stream
from ..waiting import cause, receive, send_all
from .choose import ProxyURL
from .digest import digest_answer

_MAX_HEAD = 16 * 1024
# How many bytes of an unfinished answer are shown.
_SHOWN = 80
# The longest body of a refusal that is kept, in bytes, and the longest wait for it, in seconds.
_MAX_BODY = 64 * 1024
_BODY_SECONDS = 2.0


def first_authorization(proxy: ProxyURL) -> str | None:
    """Return the Proxy-Authorization to send unasked: Basic, if there are credentials and not for Digest."""
    if proxy.credentials is None or proxy.auth == "digest":
        return None
    # RFC 7617: the colon stays even if the password is empty.
    return "Basic " + base64.b64encode(":".join(proxy.credentials).encode()).decode()


def next_authorization(proxy: ProxyURL, endpoint: Endpoint, refusal: Response | None) -> str | None:
    """Return the Proxy-Authorization to send after a refusal, or None if there is nothing to add.

    Raises:
        ValueError: the proxy asks for a form of Digest that is not supported; the text says which.
    """
    if refusal is None or refusal.status_code != 407 or proxy.credentials is None or proxy.auth == "basic":
        return None
    for name, value in refusal.header_list:
        if name == "proxy-authenticate" and value.lower().startswith("digest "):
            return digest_answer(value, "CONNECT", endpoint.authority, proxy.credentials)
    return None


def tunnel(
    stream: Stream, proxy: ProxyURL, endpoint: Endpoint, deadline: Deadline, authorization: str | None
) -> Steps[None]:
    """Have the proxy connect to the endpoint: after that, the stream's bytes are the endpoint's.

    The caller keeps the stream, even if this fails.

    Args:
        authorization: the value of Proxy-Authorization, or None for none.

    Raises:
        ConnectFail: the proxy refused, or did not answer in time (phase ``"proxy"``). The answer, with the
            beginning of its body, is in the error's `response`.
        Cancelled: the deadline was cancelled.
    """
    address = stream.address
    try:
        yield from send_all(stream, _request(proxy, endpoint, authorization), deadline)
        response, rest = yield from _read_answer(stream, deadline)
    except TimeoutError as error:
        raise ConnectFail(f"no answer to CONNECT: {cause(error)}", phase="proxy", address=address) from error
    except OSError as error:
        text = f"no answer to CONNECT: {cause(error)}"
        raise ConnectFail(text, phase="proxy", address=address) from error
    code = response.status_code
    if code is None:
        refusal = "the answer to CONNECT is not HTTP"
    elif not 200 <= code < 300:  # any 2xx is success (RFC 9110 section 9.3.6)
        refusal = f"{code} {response.status}".rstrip()
        response.body = yield from _read_body(stream, response, rest, deadline)
    elif rest:
        # In TLS and in HTTP the endpoint speaks only after us, so these bytes cannot be its own.
        refusal = f"{len(rest)} unexpected bytes after the answer to CONNECT"
    else:
        return
    raise ConnectFail(refusal, phase="proxy", address=address, response=response)


def _request(proxy: ProxyURL, endpoint: Endpoint, authorization: str | None) -> bytes:
    fields = [("Host", endpoint.authority)]
    if proxy.agent:
        fields.append(("User-Agent", proxy.agent))
    if authorization is not None:
        fields.append(("Proxy-Authorization", authorization))
    own = {name.lower() for name, _ in proxy.headers}
    fields = [pair for pair in fields if pair[0].lower() not in own] + list(proxy.headers)
    lines = [f"CONNECT {endpoint.authority} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return b"\r\n".join([*map(_encoded, lines), b"", b""])


def _encoded(line: str) -> bytes:
    try:
        return line.encode("latin-1")  # as bytes were decoded when they were given
    except UnicodeEncodeError:
        return line.encode()


def _read_answer(stream: Stream, deadline: Deadline) -> Steps[tuple[Response, bytes]]:
    """Receive the answer's head, and what follows it. Interim answers (1xx) are skipped."""
    received = b""
    skipped = 0  # bytes of interim answers
    while True:
        end = re.search(HEAD_END, received)
        if end is not None:
            response = Response(received[:end.end()])
            if response.status_code is None or response.status_code >= 200:
                return response, received[end.end():]
            received = received[end.end():]
            skipped += end.end()
            continue
        if not received.startswith(b"HTTP/1."[:len(received)]):
            return Response(received), b""
        if skipped + len(received) > _MAX_HEAD:
            raise ConnectionError(f"the answer to CONNECT has more than {_MAX_HEAD // 1024} KiB of headers")
        try:
            data = yield from receive(stream, _MAX_HEAD, deadline)
        except TimeoutError as error:
            raise TimeoutError(f"{_cut_off(received)}{cause(error)}") from error
        if not data:
            raise ConnectionError(f"{_cut_off(received)}the proxy ended the connection")
        received += data


def _cut_off(received: bytes) -> str:
    """Return how an error begins that interrupts the answer."""
    return f"it stops half-way, after {received[:_SHOWN]!r}: " if received else ""


def _read_body(stream: Stream, response: Response, rest: bytes, deadline: Deadline) -> Steps[bytes]:
    """Receive the beginning of a refusal's body, up to its end if that is known, else the stream's."""
    length = response.get("content-length") or ""
    size = min(int(length), _MAX_BODY) if length.isdecimal() and len(length) < 10 else _MAX_BODY
    end = monotonic() + _BODY_SECONDS
    body = rest
    try:
        while len(body) < size and (left := end - monotonic()) > 0:
            data = yield from receive(stream, size - len(body), deadline, left)
            if not data:
                break
            body += data
    except (OSError, Cancelled):
        pass  # what has arrived is worth more than the reason why there is no more
    return body[:size]
