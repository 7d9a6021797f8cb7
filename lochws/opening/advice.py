"""Advice on failed connections: one sentence that says what to do."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator

from ..errors import ConnectFail, HandshakeError
from ..response import Response
from ..text import cut
from ..transport.waiting import NOT_TLS, is_tls_error

_NO_FORWARD = (
    "Configure the reverse proxy in front of the server to forward the Upgrade and Connection headers: "
    "the server did not receive them."
)
_BY_STATUS = {
    400: "Check the path and the headers: the server did not accept the request.",
    401: "Pass credentials: auth=(user, password), user:password@ in the URL, or an Authorization header.",
    403: "Check credentials, origin and path: Starlette and FastAPI also answer 403 to a wrong path.",
    404: "Check the path of the URL: there is no WebSocket at this one.",
    405: "Check the path of the URL: this one cannot be upgraded.",
    407: "A proxy on the way wants credentials: pass its URL, with user and password, as proxies.",
    426: _NO_FORWARD,
    429: "Wait before the next attempt, at least for as long as Retry-After says, as a Backoff does.",
    500: "Try again later, or ask the server's operator: an internal error occurred there.",
    502: "Check that the server behind the gateway is running, and that the gateway forwards Upgrade.",
    503: "Try again later, as a Backoff does: the server is overloaded or down.",
    505: (
        "Configure the reverse proxy in front of the server to use HTTP/1.1, and forward the Upgrade and "
        "Connection headers."
    ),
    504: "Check that the server behind the gateway is running, and that the gateway forwards Upgrade.",
}
# The other possible causes of these when there is a proxy in front of the server.
_OR_NOT_FORWARDED = {
    400: "Check the path and the headers", 404: "Check the path of the URL", 500: "Check the server's log",
}
#: The number of characters shown of a Retry-After header; an HTTP date has 29.
_MAX_RETRY_AFTER = 40
_REDIRECT = "Use the final URL directly; the Location header shows it."
UNFINISHED = "Ask the operator of the server, or of a proxy in front of it: its answer was cut short."
_PLAIN_HTTP = "Check the host and path: that server speaks HTTP but not WebSocket."
_TRY_WSS = "Try wss:// instead of ws://: this port expects TLS."
OR_TRY_WSS = "Try wss:// if this port expects TLS, or check that a WebSocket server is running there."
_TRY_WS = "Try ws:// instead of wss://, or check the port: the server does not speak TLS there."

# The answers of servers whose WebSocket endpoint receives a request without an Upgrade header: aiohttp,
# Tornado, Spring, Jetty, gorilla, websockets, Cowboy, ws and others. The last one is all that Socket.IO says.
_SAW_NO_UPGRADE = (
    r"(?i)upgrade|websocket (client|connection|handshake|protocol|request)|not a websocket|expected websocket"
    r'|"code": ?3, ?"message": ?"Bad request"'
)
# The words with which servers close a connection that sends too much.
_SENT_TOO_MUCH = (
    r"(?i)too (many (requests|messages|frames)|fast|frequent)|rate.?limit|flood|throttl"
    r"|(request|message|rate)s?\b.*(exceed|limit)|exceed.*(request|message|rate)"
)
# The answers of servers to plain HTTP on a TLS port: nginx, Apache, Go, Tomcat.
_WANTS_TLS = (
    r"(?i)plain HTTP request was sent to HTTPS port|plain HTTP to an SSL-enabled server"
    r"|HTTP request to an HTTPS server|requires TLS"
)
# The names of reverse proxies in the Server header.
_PROXIES = (
    r"(?i)(nginx|openresty|tengine|caddy|apache|haproxy|envoy|istio|traefik|cloudflare|cloudfront|varnish|awselb"
    r"|akamai|litespeed|microsoft-iis|kong|squid|yarp)\b"
)

_BY_PROXY_STATUS = {
    403: "Ask the proxy's administrator to allow this host and port, or exempt the host with no_proxy.",
    407: "Put the proxy's user name and password in its URL: http://user:password@host:port.",
    502: "Check the host and port of the URL, or try again later: the proxy could not reach the server.",
    503: "Check the host and port of the URL, or try again later: the proxy could not reach the server.",
    504: "Check the host and port of the URL, or try again later: the proxy could not reach the server.",
}
_OTHER_PROXY_STATUS = "Check that this is a proxy, and that it allows CONNECT to this host and port."

# Keyed by OpenSSL's verification result (X509_V_ERR_…).
_BY_VERIFICATION = {
    9: "Check this machine's clock; if it is right, the server's certificate is not valid yet.",
    10: "Renew the server's certificate, or check this machine's clock.",
    62: "Use a name that the certificate is valid for, in the URL or as server_hostname.",
    64: "Use a name or address that the certificate is valid for, in the URL or as server_hostname.",
}
_UNTRUSTED = "If you trust the authority that issued the certificate, pass its own certificate as ssl_cafile."

_BY_ERRNO = {
    errno.ECONNREFUSED: "Check the host and port, and that the server is running: nothing listens there.",
    errno.ENETUNREACH: "Check this machine's network: it has no route to that address.",
    errno.EHOSTUNREACH: "Check this machine's network, and that the host is up: there is no route to it.",
    errno.ENOENT: "Check the path, and that the server is running: the socket does not exist.",
    errno.EACCES: "Check permissions and the firewall: this process is not allowed to connect there.",
    errno.EPERM: "Check permissions and the firewall: this process is not allowed to connect there.",
    errno.EADDRNOTAVAIL: "Check source_address: this machine does not have it, or has no free port left.",
    errno.EAFNOSUPPORT: "Pass a source_address of the host's address family, or none.",
}

# With a proxy, the error concerns the proxy.
_BY_PROXY_ERRNO = {
    errno.ECONNREFUSED: "Check the proxy's host and port, and that it is running: nothing listens there.",
}

_BY_PHASE = {
    "prepare": "Fix the url, headers, protocols or auth argument: the error says what is wrong.",
    "resolve": "Check the spelling of the host, and this machine's DNS.",
    "tcp": "Check the host, the port and the network.",
    "proxy": "Check the proxy's URL, and that it is a proxy of that kind.",
    "tls": "Try ws:// if this port is not for TLS, or pass a certificate if the server requires one.",
    "upgrade": "Check the host and port, and that a WebSocket server is running there.",
}
_BY_PROXY_NAME = "Check the spelling of the proxy's host, and this machine's DNS."
_TOO_LATE = {
    "resolve": "Check this machine's DNS: it did not answer in time.",
    "tcp": "Check that the host is up, and that no firewall drops the packets to it.",
    "proxy": "Check that the proxy is up, and that it is a proxy of that kind: it did not answer in time.",
    "tls": "Check the port, or try ws:// if it is not for TLS: the server did not answer the TLS handshake.",
    "upgrade": "Check the port, the scheme, and that proxies forward Upgrade: the server did not answer.",
}


def advise(phase: str, error: BaseException | None, response: Response | None = None) -> str:
    """Return the advice for a failure, or an empty string.

    Args:
        phase: the phase of the opening that failed.
        error: the exception, with its causes chained; or None.
        response: the answer of the server, or of the proxy in the phase ``"proxy"``; or None.
    """
    if isinstance(error, (ConnectFail, HandshakeError)) and error.advice:
        return error.advice
    if isinstance(error, ConnectFail):
        response = response or error.response
    if response is not None and response.status_code is not None:
        return _for_proxy(response.status_code) if phase == "proxy" else _for_answer(response)
    for behind in _chain(error):
        advice = _for_descriptors(getattr(behind, "errno", None))
        if not advice and phase != "prepare":  # in "prepare", a user's function may have raised it
            advice = _for_error(phase, behind)
        if advice:
            return advice
    return _BY_PHASE.get(phase, "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _for_proxy(code: int) -> str:
    return _BY_PROXY_STATUS.get(code, _OTHER_PROXY_STATUS)


def _for_answer(response: Response) -> str:
    code = response.status_code or 0
    if code == 101:
        return "Ask the operator of the server, or of a proxy in front of it: its upgrade breaks RFC 6455."
    if 300 <= code < 400:
        return _REDIRECT
    if code == 426:
        return _for_upgrade_required(response)
    advice = _BY_STATUS.get(code, _BY_STATUS[500] if code >= 500 else _PLAIN_HTTP)
    return _for_unseen_upgrade(response) or _with_retry_after(advice, response)


def _with_retry_after(advice: str, response: Response) -> str:
    """Add the server's Retry-After header to the advice (RFC 9110 section 10.2.3)."""
    asked = response.get("retry-after")
    if not asked:
        return advice
    shown = f"{asked} s" if asked.isdecimal() else asked
    return f"{advice.removesuffix('.')} (Retry-After: {cut(shown, _MAX_RETRY_AFTER)})."


def _for_upgrade_required(response: Response) -> str:
    versions = response.get_list("sec-websocket-version")
    if versions and "13" not in versions:
        return f"Use another client: this server speaks WebSocket version {', '.join(versions)[:40]}, not 13."
    return _NO_FORWARD


def _for_unseen_upgrade(response: Response) -> str:
    """Return the advice for a server that may not have seen the Upgrade header; empty for any other."""
    start = _OR_NOT_FORWARDED.get(response.status_code or 0)
    if start is None:
        return ""
    text = response.text
    if re.search(_WANTS_TLS, text):
        return _TRY_WSS
    if re.search(_SAW_NO_UPGRADE, text):
        return _NO_FORWARD
    proxy = re.match(_PROXIES, response.get("server") or "")
    if proxy is None and response.get("via") is None:
        return ""
    name = proxy[1] if proxy else "the proxy"
    return f"{start}, and whether {name} forwards the Upgrade and Connection headers."


def _for_error(phase: str, error: BaseException) -> str:
    if is_tls_error(error) and hasattr(error, "verify_code"):
        return _BY_VERIFICATION.get(error.verify_code, _UNTRUSTED)
    if isinstance(error, TimeoutError):
        return _TOO_LATE.get(phase, "")
    if isinstance(error, socket.gaierror):
        return _BY_PROXY_NAME if phase == "proxy" else _BY_PHASE["resolve"]
    if is_tls_error(error) and phase != "proxy":
        return _TRY_WS if error.reason in NOT_TLS else _BY_PHASE["tls"]
    if isinstance(error, HandshakeError):
        return _BY_PHASE["upgrade"]
    number = getattr(error, "errno", None) or 0
    return (phase == "proxy" and _BY_PROXY_ERRNO.get(number)) or _BY_ERRNO.get(number, "")


def _for_descriptors(number: int | None) -> str:
    if number == errno.ENFILE:
        return "Close files or sockets: this machine has reached its limit of open files."
    if number != errno.EMFILE:
        return ""
    # Loads no module, which would need a descriptor.
    limit = f" ({os.sysconf('SC_OPEN_MAX')}, `ulimit -n`)" if hasattr(os, "sysconf") else ""
    return f"Close files or sockets, or raise the limit{limit}: this process has no file descriptor left."


def advice_for_close(reason: str, messages: int, seconds: float | None, *, has_rate: bool) -> str:
    """Return the advice for a connection that the server has closed, or an empty string.

    Args:
        reason: the reason in the server's Close frame.
        messages: how many messages were sent on the connection.
        seconds: how long it was open, or None if that is not known.
        has_rate: whether the user has set a limit on messages.
    """
    if seconds is None or not messages or not re.search(_SENT_TOO_MUCH, reason):
        return ""
    counted = "1 message" if messages == 1 else f"{messages} messages"
    what = "Pass the server's message limit as rate=Rate(…)"
    if has_rate:
        what = "Lower the limit in rate, or give it a larger margin"
    return f"{what}: the server closed the connection after {counted} in {seconds:.1f} s."
