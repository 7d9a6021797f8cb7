"""Foreign names: other libraries' names for our options, events and methods, and the lochws equivalents.

Imported only after a mistake, so that `import lochws` does not pay for the tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import NoReturn

from ..base.records import fields_of
from ..options import KNOWN, POSITIONAL, Timing
from .handler import Handler

#: What a handler can be registered for.
_NAMES = tuple(name.removeprefix("on_") for name in vars(Handler) if name.startswith("on_"))

# How similar an unknown name must be to one of ours that is suggested.
_CUTOFF = 0.7
# How similar a name must be to another library's callback, so that names of the user's own are not refused.
_CALLBACK_CUTOFF = 0.85

#: The options of `WebSocketApp.start`, `WebSocketApp.run_forever` and `WebSocket.connect`.
_RUNNING = (*fields_of(Timing), "persist")
_CONSTRUCTOR = (*POSITIONAL, *KNOWN.difference(POSITIONAL))
_APP_ONLY = ("on_handler_error", "threads")
_BACKOFF = "persist=Backoff(min_wait=5, max_wait=5) waits 5 seconds each time"
_PROXIES = 'pass proxies="http://user:password@host:port" to the constructor'

#: Options of other libraries, and our equivalents.
_RENAMED: Mapping[str, str] = {
    "header": "headers", "extra_headers": "headers", "additional_headers": "headers",
    "http_headers": "headers", "custom_headers": "headers", "proxy": "proxies", "http_proxy": "proxies",
    "user_agent": "agent", "user_agent_header": "agent", "useragent": "agent", "subprotocol": "protocols",
    "deflate": "compress", "compression": "compress", "permessage_deflate": "compress",
    "cookie_jar": "cookies", "ssl": "ssl_context", "tls": "ssl_context", "sslcontext": "ssl_context",
    "verify": "ssl_verify", "verify_ssl": "ssl_verify", "ca_certs": "ssl_cafile", "cafile": "ssl_cafile",
    "ca_file": "ssl_cafile", "cert": "ssl_certfile", "certfile": "ssl_certfile", "keyfile": "ssl_keyfile",
    "fingerprint": "ssl_pins", "timeout": "open_timeout", "connect_timeout": "open_timeout",
    "connection_timeout": "open_timeout", "handshake_timeout": "open_timeout",
    "max_size": "max_message_size", "max_msg_size": "max_message_size", "max_payload": "max_message_size",
    "max_message_size_bytes": "max_message_size", "write_limit": "max_queue", "sockopt": "socket_options",
    "sockopts": "socket_options", "socket": "sock", "create_connection": "connect", "unix_path": "unix",
    "local_addr": "source_address", "redirect_limit": "max_redirects",
    "follow_redirects": "max_redirects", "allow_redirects": "max_redirects", "serializer": "encoder",
    "json_encoder": "encoder", "dumps": "encoder", "enable_trace": "trace", "ping_interval": "ping_rate",
    "heartbeat": "ping_rate", "keepalive": "ping_rate", "ping_interval_seconds": "ping_rate",
    "keepalive_interval": "ping_rate", "ping_every": "ping_rate",
    "keepalive_ping_interval_seconds": "ping_rate", "keepalive_ping_timeout_seconds": "ping_timeout",
    "pong_timeout": "ping_timeout", "autoping": "auto_pong", "autopong": "auto_pong",
    "closing_timeout": "close_timeout", "rate_limit": "rate", "rate_limiter": "rate", "throttle": "rate",
    "poll_interval": "poll", "poll_rate": "poll", "ssl_ca": "ssl_cafile", "ca": "ssl_cafile",
    "per_message_deflate": "compress", "ratelimit": "rate",
    "encoding": "encoder", "decoder": "codec", "loads": "codec", "deserializer": "codec",
    "json_module": "codec", "json_loads": "codec", "json_dumps": "encoder",
}
_RECONNECT = f"lochws reconnects by default; {_BACKOFF}, persist=False turns it off"
_SSLOPT = "use ssl_cafile, ssl_verify, ssl_certfile, ssl_keyfile or ssl_context in the constructor"
_SILENCE = "pass ping_timeout: any byte from the server counts as a sign of life"
_NO_VERIFY = "pass ssl_verify=False to the constructor to accept any certificate"
_NO_DELAY = "lochws always sets TCP_NODELAY"
_AUTH = "pass auth=(user, password) to the constructor"
_TOKEN = 'pass headers={"Authorization": "…"}, or a function that returns the token as auth'
_LOGS = 'lochws logs to the logger named "lochws"; trace=True in the constructor logs every step'
_CALLBACK = "override on_<event> in a subclass, or register functions with @app.on"
_IN_URL = "put it in the URL"
_ALWAYS = "persist() always reconnects; backoff=Backoff(…) sets the waits"
_JITTER = "the waits always have full jitter"
#: Options of other libraries that lochws does not have, and what to do instead.
_INSTEAD: Mapping[str, str] = {
    "reconnect": _RECONNECT, "auto_reconnect": _RECONNECT, "autoreconnect": _RECONNECT,
    "reconnect_interval": _RECONNECT, "reconnect_delay": _RECONNECT, "retry": _RECONNECT,
    "retries": "pass persist=Backoff(max_attempts=…)", "max_retries": "pass persist=Backoff(max_attempts=…)",
    "max_attempts": "pass persist=Backoff(max_attempts=…)", "min_wait": "pass persist=Backoff(min_wait=…)",
    "max_wait": "pass persist=Backoff(max_wait=…)", "backoff": "pass persist=Backoff(…)",
    "cookie": 'pass headers={"Cookie": "…"}, or a cookie jar as cookies, to the constructor',
    "sslopt": _SSLOPT, "ssl_options": _SSLOPT,
    "check_hostname": "pass ssl_context with a context of your own to the constructor",
    "http_proxy_host": _PROXIES, "http_proxy_port": _PROXIES, "http_proxy_auth": _PROXIES,
    "proxy_type": _PROXIES, "proxy_port": _PROXIES,
    "http_proxy_timeout": 'pass phase_timeouts={"proxy": seconds} to the constructor',
    "http_no_proxy": "set no_proxy in the environment, or pass a function as proxies",
    "host": 'pass headers={"Host": "…"} to the constructor',
    "suppress_host": "a request must have a Host header",
    "suppress_origin": "no Origin is sent unless you pass origin",
    "ping_payload": "lochws sets it, to match pongs with pings; send_ping(data) sends a payload of your own",
    "skip_utf8_validation": "text is always validated, which costs little",
    "get_mask_key": "masking keys come from the operating system's random source",
    "dispatcher": "apps share their threads with threads=Threads()",
    "loop": "lochws uses threads, not asyncio", "logger": 'lochws logs to the logger named "lochws"',
    "daemon": "threads are always daemons", "keep_running": "call close() to stop the app",
    "enable_multithread": "all methods may be called from any thread",
    "receive_timeout": _SILENCE, "params": _IN_URL, "username": _AUTH, "password": _AUTH,
    "token": "pass a function that returns the token as auth to the constructor",
    "exit_event": "call close() to end the connection", "read_timeout": _SILENCE,
    "verify_mode": _NO_VERIFY, "cert_reqs": _NO_VERIFY, "insecure": _NO_VERIFY,
    "reject_unauthorized": _NO_VERIFY,
    "tcp_nodelay": _NO_DELAY, "nodelay": _NO_DELAY, "no_delay": _NO_DELAY,
    "proxy_host": _PROXIES, "proxy_auth_info": _PROXIES,
    "authorization": _TOKEN, "bearer": _TOKEN, "bearer_token": _TOKEN, "access_token": _TOKEN,
    "api_key": _TOKEN, "apikey": _TOKEN, "credentials": _AUTH,
    "debug": _LOGS, "verbose": _LOGS, "trace_enabled": "pass trace=True to the constructor",
    "callback": _CALLBACK, "handler": _CALLBACK, "handlers": _CALLBACK, "message_handler": _CALLBACK,
    "reconnect_on_failure": _RECONNECT, "jitter": _JITTER,
    "port": _IN_URL, "path": _IN_URL, "query": _IN_URL,
    "block": "start() returns immediately; run_forever() blocks",
    "blocking": "start() returns immediately; run_forever() blocks",
}

#: What other libraries call the fields of a `Backoff`.
_FIELDS: Mapping[str, str] = {
    "min": "min_wait", "max": "max_wait", "reset_after": "stable_after", "reset": "stable_after",
    "stop_after": "max_elapsed", "wait": "min_wait", "initial": "min_wait", "initial_delay": "min_wait",
    "initial_wait": "min_wait", "base": "min_wait",
    "base_delay": "min_wait", "delay": "min_wait", "min_delay": "min_wait", "multiplier": "factor",
    "exponent": "factor", "max_delay": "max_wait", "max_interval": "max_wait", "cap": "max_wait",
    "maximum": "max_wait", "max_retries": "max_attempts", "max_tries": "max_attempts",
    "retries": "max_attempts", "attempts": "max_attempts", "tries": "max_attempts",
    "max_time": "max_elapsed", "max_elapsed_time": "max_elapsed", "timeout": "max_elapsed",
    "deadline": "max_elapsed", "on_retry": "retry", "callback": "retry",
}

#: Callbacks of other libraries: our events at the same moment, and a remark.
_CALLBACKS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "open": (("ready",), ""), "opened": (("ready",), ""), "connection_made": (("ready",), ""),
    "connect": (("ready",), "{prefix}connected comes before the upgrade"),
    "message": (("text", "binary"), ""), "msg": (("text", "binary"), ""),
    "data": (("text", "binary"), "messages arrive whole"),
    "cont_message": (("text", "binary"), "fragments are joined, so messages arrive whole"),
    "close": (("disconnected",), ""), "disconnect": (("disconnected",), ""),
    "connection_lost": (("disconnected",), ""), "connect_error": (("connect_fail",), ""),
    "connection_error": (("connect_fail",), ""), "failure": (("connect_fail",), ""),
    "reconnect": (("ready",), "it is called for every connection"),
    "reconnected": (("ready",), "it is called for every connection"),
    "exception": (("error",), ""),
}
#: The names of callbacks that a user may have assigned to an attribute.
CALLBACKS = tuple(_CALLBACKS)


def _closest(name: str, known: Iterable[str], cutoff: float) -> list[str]:
    """Return the known name that is most similar to a name, if any is similar enough."""
    try:
        from difflib import get_close_matches  # noqa: PLC0415  its import may be what this call interrupts
    except ImportError:
        return []
    return get_close_matches(name, known, n=1, cutoff=cutoff)


def nearest_events(name: str, cutoff: float) -> tuple[tuple[str, ...], str]:
    """Return the events that were probably meant by a name, and a remark; no events if it resembles none.

    Args:
        name: the name, without ``on_``.
        cutoff: how similar a name must be, from 0 to 1.
    """
    name = name.lower()
    if name in _CALLBACKS:
        return _CALLBACKS[name]
    swapped = [known for known in _NAMES if sorted(known) == sorted(name)]
    if swapped:
        return tuple(swapped[:1]), ""
    nearest = _closest(name, (*_NAMES, *_CALLBACKS), max(cutoff, _CALLBACK_CUTOFF))
    if nearest and nearest[0] in _CALLBACKS:
        return _CALLBACKS[nearest[0]]
    return tuple(_closest(name, _NAMES, cutoff)), ""


@cache
def assignable() -> tuple[str, ...]:
    """Return the attributes to which people assign handlers: events, callbacks and likely misspellings.

    A misspelling has one letter missing or doubled, or two neighbors swapped. The names are interned,
    because Python caches lookups of interned names only, and each start looks up all of them.
    """
    found: dict[str, None] = {}
    for name in (*_NAMES, "message", "open", "close", "connect", "disconnect", "reconnect"):
        for at, letter in enumerate(name):
            before, after = name[:at], name[at + 1:]
            found[before + after] = None
            found[before + letter + letter + after] = None
            found[before + after[:1] + letter + after[1:]] = None
    attributes = [f"on_{each}" for each in (*_NAMES, *CALLBACKS, *found)]
    attributes += [f"on_{each}s" for each in ("text", "message", "error", "event")]
    attributes += [f"on_{each.title()}" for each in ("text", "binary", "ready", "message", "open", "close")]
    for each in ("open", "message", "text", "close", "error", "connect", "disconnect", "data"):
        attributes += f"on{each}", f"on{each.title()}"
    return tuple(map(sys.intern, attributes))


def written_together(name: str) -> str | None:
    """Return the event or callback in a name such as ``onMessage`` or ``onopen``, or None."""
    together = name[2:].lower()
    return next((known for known in (*_NAMES, *CALLBACKS) if known.replace("_", "") == together), None)


def refuse_arguments(place: str, given: Iterable[str], known: Collection[str], *, is_app: bool) -> NoReturn:
    """Raise TypeError for the first keyword that is not an argument, and say what was probably meant.

    Args:
        place: the name of the class, or of the function with parentheses, for the message.
        given: the names of the keywords.
        known: the names of the arguments.
        is_app: whether they were meant for a WebSocketApp.
    """
    name = next(name for name in given if name not in known)
    what = "an argument" if place.endswith(")") else "an option"
    raise TypeError(f"{place}: {name!r} is not {what}: {_hint(place, name, known, is_app)}")


def refuse_fields(place: str, given: Iterable[str], known: Collection[str]) -> NoReturn:
    """Raise TypeError for the first keyword that is not a field of a back-off, and say what was meant.

    Args:
        place: the name of the class, for the message.
        given: the names of the keywords.
        known: the names of the fields.
    """
    name = next(name for name in given if name not in known)
    if name in ("jitter", "randomize", "random"):
        hint = _JITTER
    else:
        nearest = [_FIELDS[name]] if name in _FIELDS else _closest(name, known, _CUTOFF)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"see the documentation of {place}"
    raise TypeError(f"{place}: {name!r} is not a field: {hint}")


def _hint(place: str, name: str, known: Collection[str], is_app: bool) -> str:
    name = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()  # other languages write pingInterval
    instead = _INSTEAD.get(name, _ALWAYS if name == "persist" and "backoff" in known else "")
    if instead:
        return _completed(instead, known, is_app)
    everything = [*known, *_RUNNING, *_CONSTRUCTOR, *_APP_ONLY]
    if name.startswith("on_") and name not in _APP_ONLY and not _closest(
        name, (*(each for each in known if each.startswith("on_")), *_APP_ONLY), _CUTOFF
    ):
        return _handler(name[3:], is_app)
    meant = _RENAMED.get(name, name)
    if meant not in everything:
        nearest = _closest(name, everything, _CUTOFF)
        if not nearest:
            return f"see the documentation of {place}"
        meant = nearest[0]
    if meant in known:
        return f"did you mean {meant!r}?"
    if meant in _APP_ONLY and not is_app:
        return f"{meant} is an option of WebSocketApp"
    return f"pass {meant} to {_home(meant, is_app)}"


def _handler(name: str, is_app: bool) -> str:
    """Say how to register the handler that was given as an option."""
    if not is_app:
        return "a WebSocket has no handlers: iterate it to get its events, or use a WebSocketApp"
    events = (name,) if name in _NAMES else nearest_events(name, 0.8)[0] or ("text",)
    shown = ", ".join(map(repr, events))
    return f"override on_{events[0]} in a subclass, or register a function: @app.on({shown})"


def _home(name: str, is_app: bool) -> str:
    """Name the function that takes an argument."""
    if name not in _RUNNING:
        return f"the constructor of {'WebSocketApp' if is_app else 'WebSocket'}"
    if is_app:
        return "start() or run_forever()"
    return "lochws.persist.persist(websocket)" if name == "persist" else "connect()"


def _completed(advice: str, known: Collection[str], is_app: bool) -> str:
    """Adapt advice about persist, an argument that not every function has."""
    if "persist" not in advice or "persist" in known or advice is _ALWAYS:
        return advice
    if is_app:
        return f"{advice} (pass persist to start() or run_forever())"
    if "backoff" in known:
        advice = advice.partition(", persist=False")[0]
        return advice.replace("lochws", "persist()").replace("persist=", "backoff=")
    return "iterate lochws.persist.persist(websocket), which reconnects"
