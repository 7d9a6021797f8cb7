"""Living through a fault: an app that persists, and what there was of its attempts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lochws import testing as t

from ..support.apps import AT_ONCE, running
from ..support.seen import Noting

#: How every connection that opens begins.
OPENED = ["connecting", "connected", "ready"]
#: What a server does that does nothing wrong: accept, and be a good peer from then on.
CALM = (t.accept(),)


@contextmanager
def surviving(url: Any, timing: dict[str, Any] | None = None, **options: Any) -> Iterator[Noting]:
    """An app that tries again at once, as often as it takes; it is stopped at the end.

    When it is, the order of its events is looked at: one beginning and one end to each attempt.
    """
    with running(Noting(url, **options), **{"persist": AT_ONCE, "poll": 0, **(timing or {})}) as app:
        yield app


def attempts(app: Noting, *without: str) -> list[list[str]]:
    """The names of the events, a list for each attempt; without pongs, and without those named."""
    found: list[list[str]] = []
    for name in app.names("poll", "pong", "back_off", *without):
        if name == "connecting":
            found.append([])
        found[-1].append(name)
    return found


def end_of_first(app: Noting) -> Any:
    """Return the event that ended the first attempt."""
    return next(event for event in app.events if event.name in {"connect_fail", "disconnected"})
