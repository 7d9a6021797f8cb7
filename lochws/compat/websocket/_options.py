"""Options: what websocket-client's arguments mean in lochws's."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ...transport.proxies.no_proxy import is_exempt
from ...url import Endpoint, bracketed, parse_url
from ._exceptions import WebSocketException, WebSocketProxyException
from ._logging import warning
from ._socket import DEFAULT_SOCKET_OPTION
from ._url import exemptions

#: The arguments of `connect`; the others are for `create_connection`, which passes all of them on.
_KNOWN = frozenset({
    "connection", "cookie", "enable_multithread", "fire_cont_frame", "header", "host", "http_no_proxy",
    "http_proxy_auth", "http_proxy_host", "http_proxy_port", "http_proxy_timeout", "origin", "proxy_type",
    "redirect_limit", "skip_utf8_validation", "socket", "sockopt", "sslopt", "subprotocols", "suppress_host",
    "suppress_origin", "timeout",
})
#: The part of the upgrade request that lochws writes, whatever the user's headers say about it.
_OWN_HEADERS = frozenset({"upgrade", "connection", "sec-websocket-version"})
#: The kinds of proxies that `proxy_type` may name.
PROXY_TYPES = ("http", "socks4", "socks4a", "socks5", "socks5h")
_MASK_KEYS = "{}: mask keys come from the operating system's random source; leave the argument out"


def refuse_unsupported(
    *,
    get_mask_key: object = None,
    fire_cont_frame: bool = False,
    skip_utf8_validation: bool = False,
    dispatcher: object = None,
    on_cont_message: object = None,
) -> None:
    """Refuse the arguments that lochws has no way to honour.

    Raises:
        NotImplementedError: one of them was given; the message says what to do instead.
    """
    if get_mask_key is not None:
        raise NotImplementedError(_MASK_KEYS.format("get_mask_key"))
    if fire_cont_frame:
        raise NotImplementedError(
            "fire_cont_frame=True: messages are received whole; leave the argument out, and recv() returns "
            "each message when its last fragment has arrived"
        )
    if on_cont_message is not None:
        raise NotImplementedError(
            "on_cont_message: messages are received whole; use on_message, which gets each message when its "
            "last fragment has arrived"
        )
    if skip_utf8_validation:
        raise NotImplementedError(
            "skip_utf8_validation=True: text is always validated, which costs little here; leave the "
            "argument out, or have the server send binary messages"
        )
    if dispatcher is not None:
        raise NotImplementedError(
            "dispatcher: lochws has an event loop of its own; call run_forever() without it, in a thread per "
            "app if there are several (rel, its usual value, was needed to run them in one thread)"
        )


def lochws_options(
    url: str, sslopt: Mapping[str, Any], sockopt: Iterable[Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Translate the arguments of `WebSocket.connect` to options of `lochws.WebSocketApp`.

    Raises:
        ValueError: the URL or an argument is invalid.
        WebSocketException: the TLS options are invalid.
        WebSocketProxyException: the proxy's address is incomplete.
    """
    endpoint = parse_url(url)
    if unknown := [name for name in given if name not in _KNOWN]:
        warning(f"create_connection() and connect() have no argument {unknown[0]!r}: it is ignored")
    headers, protocols, compress = _headers(given)
    if given.get("suppress_host"):
        warning("suppress_host is ignored: every HTTP/1.1 request has a Host header")
    subprotocols = list(given.get("subprotocols") or ())
    sock = given.get("socket")
    options: dict[str, Any] = {
        "agent": "",  # websocket-client sends none, either
        "headers": headers,
        "origin": _origin(endpoint, given),
        "protocols": subprotocols or protocols or None,
        "require_protocol": bool(subprotocols),
        "compress": compress,
        "max_redirects": int(given.get("redirect_limit", 3)),
    }
    if sock is not None:
        options.update(sock=sock, proxies={})
    else:
        options.update(_proxies(endpoint, given))
        options["socket_options"] = [*DEFAULT_SOCKET_OPTION, *sockopt]
    if endpoint.is_secure:
        options.update(_tls(sslopt))
    return options


def _headers(given: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[str], bool]:
    """Return the headers to add, and the subprotocols and the compression that they ask for."""
    header = given.get("header") or ()
    if isinstance(header, Mapping):
        pairs = [(name, value) for name, value in header.items() if value is not None]
    else:
        pairs = []
        for line in header:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"header: {line!r} is not of the form 'Name: value'")
            pairs.append((name.strip(), value.strip()))
    headers: list[tuple[str, str]] = []
    protocols: list[str] = []
    compress = False
    for name, value in pairs:
        lower = name.lower()
        if lower == "sec-websocket-protocol":
            protocols += [each.strip() for each in value.split(",") if each.strip()]
        elif lower == "sec-websocket-extensions":
            compress = compress or "permessage-deflate" in value
        elif lower == "sec-websocket-key":
            warning(f"header: {name} is ignored: lochws makes a key for each request")
        elif lower not in _OWN_HEADERS:
            headers.append((name, value))
    if host := given.get("host"):
        headers = [pair for pair in headers if pair[0].lower() != "host"] + [("Host", host)]
    if cookie := given.get("cookie"):
        cookies = [value for name, value in headers if name.lower() == "cookie"]
        headers = [pair for pair in headers if pair[0].lower() != "cookie"]
        headers.append(("Cookie", "; ".join([*cookies, cookie])))
    return headers, protocols, compress


def _origin(endpoint: Endpoint, given: Mapping[str, Any]) -> str | None:
    if given.get("suppress_origin"):
        return None
    if (origin := given.get("origin")) is not None:
        return str(origin)
    return f"{'https' if endpoint.is_secure else 'http'}://{endpoint.host_header}"


def _proxies(endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options about proxies."""
    host, port = given.get("http_proxy_host"), given.get("http_proxy_port")
    scheme = given.get("proxy_type") or "http"
    if scheme not in PROXY_TYPES:
        raise ValueError(f"proxy_type={scheme!r}: expected one of {', '.join(PROXY_TYPES)}")
    exempt = given.get("http_no_proxy")
    # The environment's exemptions do not count for a SOCKS proxy that was given.
    if (exempt or scheme == "http") and is_exempt(endpoint, exemptions(exempt)):
        return {"proxies": {}}
    if not host:
        return {"proxies": None}  # those of the environment
    if not port:
        raise WebSocketProxyException(f"http_proxy_host={host!r} needs http_proxy_port")
    auth = given.get("http_proxy_auth")
    user = ""
    if auth and auth[0]:
        user = quote(auth[0], safe="") + (f":{quote(auth[1], safe='')}" if auth[1] else "") + "@"
    options: dict[str, Any] = {"proxies": f"{scheme}://{user}{bracketed(host)}:{port}"}
    if (seconds := given.get("http_proxy_timeout")) is not None:
        options["phase_timeouts"] = {"proxy": seconds}
    return options


def _tls(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options about TLS; without any, lochws verifies the server with the system's authorities."""
    sslopt = dict(given)
    bundle = os.environ.get("WEBSOCKET_CLIENT_CA_BUNDLE", "")
    if os.path.isfile(bundle):
        sslopt.setdefault("ca_certs", bundle)
    elif os.path.isdir(bundle):
        sslopt.setdefault("ca_cert_path", bundle)
    options: dict[str, Any] = {}
    if name := sslopt.pop("server_hostname", None):
        options["server_hostname"] = name
    context = sslopt.pop("context", None)
    if context is None and any(value is not None for value in sslopt.values()):
        context = _context(sslopt)
    if context is not None:
        options["ssl_context"] = context
    return options


def _context(sslopt: Mapping[str, Any]) -> ssl.SSLContext:
    """Create a TLS context.

    Raises:
        WebSocketException: a file cannot be loaded, or the options contradict each other.
    """
    verify = sslopt.get("cert_reqs", ssl.CERT_REQUIRED)
    check_name = sslopt.get("check_hostname", verify != ssl.CERT_NONE)
    if check_name and verify == ssl.CERT_NONE:
        raise WebSocketException("sslopt: check_hostname=True needs cert_reqs=ssl.CERT_REQUIRED")
    context = ssl.SSLContext(sslopt.get("ssl_version") or ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # first, since CERT_NONE is refused while it is on
    context.verify_mode = verify
    context.check_hostname = bool(check_name)
    if (keys := os.environ.get("SSLKEYLOGFILE")) is not None:
        context.keylog_filename = keys
    cafile, capath = sslopt.get("ca_certs"), sslopt.get("ca_cert_path")
    if verify != ssl.CERT_NONE:
        if cafile or capath:
            _load("the certificate authorities", lambda: context.load_verify_locations(cafile, capath))
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certfile := sslopt.get("certfile"):
        keyfile, password = sslopt.get("keyfile"), sslopt.get("password")
        _load("the client certificate", lambda: context.load_cert_chain(certfile, keyfile, password))
    if (chain := sslopt.get("cert_chain")) is not None:
        if not isinstance(chain, (tuple, list)) or len(chain) != 3:
            raise ValueError("sslopt: cert_chain: expected (certificate file, key file, password)")
        _load("the client certificate", lambda: context.load_cert_chain(*chain))
    if (ciphers := sslopt.get("ciphers")) is not None:
        _load("the ciphers", lambda: context.set_ciphers(ciphers))
    if (curve := sslopt.get("ecdh_curve")) is not None:
        _load("the curve", lambda: context.set_ecdh_curve(curve))
    return context


def _load(what: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise WebSocketException(f"sslopt: {what} cannot be used: {error}") from error
