"""The measured clients, by name: each does the works with one library, as its manual says."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from benchmarks.works import Work


@dataclass(frozen=True)
class Entry:
    """The place of a client's module.

    Attributes:
        module: in this package.
        needs: what must be installed for it; the first is what is imported where importing is measured.
        distribution: whose version is told; None for lochws and the standard library.
        method: what its library must have: a part that is not there yet is left out.
        only: the kinds of work that it is for; empty for all it has methods for.
        environment: variables of its process.
    """

    module: str
    needs: tuple[str, ...]
    distribution: str | None = None
    method: str = ""
    only: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


CLIENTS = {
    "lochws": Entry("lochws_app", ("lochws",)),
    "lochws on_batch": Entry("lochws_batch", ("lochws",), method="on_batch", only=("receive",)),
    "lochws send_many": Entry("lochws_many", ("lochws",), method="send_many", only=("send",)),
    "lochws corked": Entry("lochws_corked", ("lochws",), method="corked", only=("send",)),
    "lochws pure": Entry("lochws_app", ("lochws",), only=("receive", "send", "echo"),
                         environment={"LOCHWS_PURE_PYTHON": "1"}),
    "lomond": Entry("lomond_loop", ("lomond",), "lomond"),
    "websocket-client": Entry("websocket_client", ("websocket", "wsaccel"), "websocket-client"),
    "websockets threads": Entry("websockets_threads", ("websockets.sync.client",), "websockets"),
    "websockets asyncio": Entry("websockets_asyncio", ("websockets.asyncio.client",), "websockets"),
    "aiohttp": Entry("aiohttp_client", ("aiohttp",), "aiohttp"),
    "picows": Entry("picows_listener", ("picows", "uvloop"), "picows"),
    "bare sockets": Entry("bare", ()),
}


def missing(name: str) -> str | None:
    """Return why a client cannot take part here, or None if it can."""
    entry = CLIENTS[name]
    for package in entry.needs:
        try:
            found = find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{package} is not installed"
    if entry.method and not hasattr(importlib.import_module("lochws").WebSocketApp, entry.method):
        return f"this lochws has no {entry.method}"
    return None


def can(name: str, work: Work) -> bool:
    """Return whether a client, which must be installed, does a work."""
    entry = CLIENTS[name]
    if work.kind == "import":
        return bool(entry.needs) and not (entry.method or entry.environment)
    if (work.peers and name not in work.peers) or (entry.only and work.kind not in entry.only):
        return False
    module = importlib.import_module(f"{__name__}.{entry.module}")
    has_method = callable(getattr(module.Client, work.kind, None))
    return has_method and (work.senders == 1 or module.Client.threaded) and (
        not work.deflate or module.Client.deflates
    ) and (not work.busy or module.Client.threaded)
