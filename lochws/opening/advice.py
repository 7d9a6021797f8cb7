"""What would help against a failure to connect, in one sentence for the person at the keyboard."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

from ..errors import ConnectFail, HandshakeError
from ..response import Response
from ..transport.tls import NOT_TLS

_BY_STATUS = {
    400: "The server did not accept the request: check the path and the headers, or ask who runs it.",
    401: "Give credentials: auth=(user, password), user:password@ in the URL, or an Authorization header.",
    403: "The server knows what was asked and refuses: check credentials, origin and who may connect.",
    404: "Check the path of the URL: there is no WebSocket at this one.",
    405: "Check the path of the URL: what is there takes no upgrade.",
    407: "Something between here and the server asks for credentials: give its URL as proxies, with them.",
    426: "The server wants another protocol or version: its headers say which.",
    429: "Wait before the next attempt, at least as long as Retry-After says (a Backoff does).",
    500: "The server failed: try again later, or ask who runs it.",
    502: "A gateway did not reach the server behind it: try again later, or ask who runs it.",
    503: "The server is overloaded or down: try again later (a Backoff honours Retry-After).",
    504: "A gateway did not reach the server behind it: try again later, or ask who runs it.",
}
_REDIRECT = "Give the URL at which the server is to be asked in the end: its Location header leads there."
UNFINISHED = "The server, or a proxy before it, stopped in the middle of its answer: ask who runs it."
_PLAIN_HTTP = "Check host and path: what answers there speaks HTTP, but no WebSocket."

_BY_PROXY_STATUS = {
    403: "The proxy does not allow this host or port: ask who runs it, or exempt the host with no_proxy.",
    407: "Give the proxy's user name and password in its URL: http://user:password@host:port.",
    502: "The proxy did not reach the server: check host and port of the URL, or try again later.",
    503: "The proxy did not reach the server: check host and port of the URL, or try again later.",
    504: "The proxy did not reach the server: check host and port of the URL, or try again later.",
}
_OTHER_PROXY_STATUS = "Check that this is a proxy, and that it allows CONNECT to this host and port."

# By OpenSSL's results of a verification (X509_V_ERR_…).
_BY_VERIFICATION = {
    9: "Check this machine's clock; if it is right, the server's certificate is not valid yet.",
    10: "The server needs a new certificate; check this machine's clock, too.",
    62: "Use a name that the certificate is for, in the URL or as server_hostname.",
    64: "Use a name or address that the certificate is for, in the URL or as server_hostname.",
}
_PLAIN = "Check the port, or use ws:// if the server is to be reached without TLS."
_UNTRUSTED = "If you trust who issued the certificate, give theirs as ssl_cafile."

_BY_ERRNO = {
    errno.ECONNREFUSED: "Check host and port, and that the server runs: nobody listens there.",
    errno.ENETUNREACH: "Check this machine's network: there is no way to that address.",
    errno.EHOSTUNREACH: "Check this machine's network and that the host is up: there is no way to it.",
    errno.ENOENT: "Check the path, and that the server runs: there is no such socket.",
    errno.EACCES: "Check permissions and firewall: this process may not connect there.",
    errno.EPERM: "Check permissions and firewall: this process may not connect there.",
    errno.EADDRNOTAVAIL: "Check source_address: this machine does not have it, or no port is left.",
    errno.EAFNOSUPPORT: "Give a source_address of the family that the host has, or none.",
}

# With a proxy between, this is about the proxy.
_BY_PROXY_ERRNO = {
    errno.ECONNREFUSED: "Check the proxy's host and port, and that it runs: nobody listens there.",
}

_BY_PHASE = {
    "prepare": "Mend what was given as url, headers, protocols or auth: the error says what is wrong.",
    "resolve": "Check the spelling of the host and this machine's DNS.",
    "tcp": "Check host, port and network.",
    "proxy": "Check the proxy's URL, and that it is a proxy of that kind.",
    "tls": "Check that the port is one for wss, and whether the server asks for a client certificate.",
    "upgrade": "Check host and port, and that a WebSocket server runs there.",
}
_BY_PROXY_NAME = "Check the spelling of the proxy's host and this machine's DNS."
_TOO_LATE = {
    "resolve": "Check this machine's DNS: no answer came in time.",
    "tcp": "Check that the host is up and that no firewall drops what is sent to it.",
    "proxy": "Check that the proxy is up, and that it is a proxy of that kind: it did not answer in time.",
    "tls": "Check that the port is one for wss: nothing came in answer to the TLS handshake.",
    "upgrade": "Check that the port is one for this scheme, ws or wss: no answer came to the request.",
}


def advise(phase: str, error: BaseException | None, response: Response | None = None) -> str:
    """The advice for a failure.

    Args:
        phase: as of the events.
        error: what happened, with its causes chained.
        response: what the server, or in the phase ``"proxy"`` the proxy, answered.
    """
    if isinstance(error, (ConnectFail, HandshakeError)) and error.advice:
        return error.advice
    if isinstance(error, ConnectFail):
        response = response or error.response
    if response is not None and response.status_code is not None:
        return _for_status(phase, response.status_code)
    for behind in _chain(error):
        advice = _for_descriptors(getattr(behind, "errno", None))
        if not advice and phase != "prepare":  # where a function of the user's may have raised it
            advice = _for_error(phase, behind)
        if advice:
            return advice
    return _BY_PHASE.get(phase, "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _for_status(phase: str, code: int) -> str:
    if phase == "proxy":
        return _BY_PROXY_STATUS.get(code, _OTHER_PROXY_STATUS)
    if code == 101:
        return "The server's upgrade breaks RFC 6455: ask who runs it, or what lies between here and there."
    if 300 <= code < 400:
        return _REDIRECT
    return _BY_STATUS.get(code, _BY_STATUS[500] if code >= 500 else _PLAIN_HTTP)


def _for_error(phase: str, error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFICATION.get(error.verify_code, _UNTRUSTED)
    if isinstance(error, TimeoutError):
        return _TOO_LATE.get(phase, "")
    if isinstance(error, socket.gaierror):
        return _BY_PROXY_NAME if phase == "proxy" else _BY_PHASE["resolve"]
    if isinstance(error, ssl.SSLError) and phase != "proxy":
        return _PLAIN if error.reason in NOT_TLS else _BY_PHASE["tls"]
    if isinstance(error, HandshakeError):
        return _BY_PHASE["upgrade"]
    number = getattr(error, "errno", None) or 0
    return (phase == "proxy" and _BY_PROXY_ERRNO.get(number)) or _BY_ERRNO.get(number, "")


def _for_descriptors(number: int | None) -> str:
    if number == errno.ENFILE:
        return "This machine has as many files and sockets open as it can."
    if number != errno.EMFILE:
        return ""
    # No module is loaded for this: there is no descriptor left for it.
    limit = f" ({os.sysconf('SC_OPEN_MAX')}, `ulimit -n`)" if hasattr(os, "sysconf") else ""
    return f"This process has as many files and sockets open as it may{limit}: close some or raise the limit."
