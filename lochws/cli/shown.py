"""Text for the terminal: advice that names command-line options, one-line messages, events as JSON."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from .. import events
from ..response import Response

#: Texts that name parameters of lochws, and the corresponding command-line options. Longer texts first.
PARAMETERS = {
    "Fix the url, headers, protocols or auth argument": "Fix the URL, headers, subprotocols or credentials",
    "; send in on_ready, or after wait_ready()": "",
    "pass append=True to continue it, or another path": "name another file",
    "Check source_address: this machine does not have it, or": "Check this machine's network: it",
    "Pass a source_address of the host's address family, or none": "Check this machine's network addresses",
    "as ssl_cafile": "with --cafile",
    "ssl_cafile": "--cafile",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
    "auth=(user, password)": "--auth user:password",
    "an Authorization header": "--header 'Authorization: …'",
    "as proxies": "to --proxy",
    "exempt the host with no_proxy": "use --proxy none",
    " or as server_hostname": "",
    ", as a Backoff does": "",
    "Pass the server's message limit as rate=Rate(…)": "Send fewer messages per second",
    "protocols: '": "--subprotocol: '",
}


# The b of a bytes literal, which quotes what a server sent.
_BYTES = re.compile(r"""(?<![\w'"])b(?=(['"]).*\1)""", re.DOTALL)


def as_options(text: str) -> str:
    """Replace what only Python programs know: parameters by options, bytes literals by quotations."""
    for parameter, option in PARAMETERS.items():
        text = text.replace(parameter, option)
    return _BYTES.sub("", text)


def one_line(text: str) -> str:
    r"""Replace line ends with ``\n`` and ``\r``, so that a message is one line; change nothing else."""
    return text.replace("\r", "\\r").replace("\n", "\\n") if "\n" in text or "\r" in text else text


def timestamp(seconds: float) -> str:
    """Return a time by the wall clock as text: ISO 8601 to the millisecond, with the offset from UTC."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def as_object(event: events.Event) -> dict[str, Any]:
    """Return an event as a dict for JSON: its name, its time (wall clock, in seconds) and its attributes.

    Bytes become Base64, and exceptions become their class and text.
    """
    found: dict[str, Any] = {"event": event.name, "time": round(event.received_time, 6)}
    for kind in type(event).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if name != "received_time" and not name.startswith("_"):
                found[name] = _plain(getattr(event, name))
    return found


def as_json(thing: object) -> str:
    """Return a value as one line of JSON in ASCII, safe on any terminal."""
    return json.dumps(thing, separators=(",", ":"), default=_plain)


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, Response):
        body = {"body": value.text} if value.body else {}
        return {"status": value.status_code, "reason": value.status, "headers": value.headers, **body}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        value = sorted(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
