"""Trace: records of the steps that a connection takes, for the `trace` option."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from itertools import count
from time import time
from typing import Any

from .. import events
from ..options import TraceFunction
from ..system.rate_limit import RateLimit
from ..system.report import is_interrupt, report, report_aside

_numbers = count(1)


class Trace:
    """The records of one attempt and its connection, one dict per step.

    The user's function runs on the thread that takes the step, perhaps the one that moves all bytes: it must
    not wait. An exception that it raises is logged. A dict has ``stage``, ``url`` (without credentials),
    ``time`` (wall clock), ``thread`` (its name) and ``connection`` (a number), and what the stage adds.

    Args:
        sink: the function, or True for the debug log.
        url: the URL of the connection.
    """

    def __init__(self, sink: TraceFunction | bool, url: str) -> None:
        self._sink = sink
        self._url = url
        self._connection = next(_numbers)
        self._failures = RateLimit()

    def __call__(self, stage: str, **fields: Any) -> None:
        """Record a step."""
        record = {
            "stage": stage,
            "url": self._url,
            "time": time(),
            "thread": threading.current_thread().name,
            "connection": self._connection,
            **fields,
        }
        if not callable(self._sink):
            report(logging.DEBUG, "%s", record)
            return
        try:
            self._sink(record)
        except BaseException as error:
            if is_interrupt(error):
                raise
            words, limit = "the trace function failed on %r", self._failures
            report_aside(logging.ERROR, words, stage, error=error, limit=limit)

    def messages(self, received: Iterable[events.Event]) -> None:
        """Record what was received."""
        for event in received:
            if isinstance(event, events.Text):
                self("message_text", length=len(events.content_of(event)))
            elif isinstance(event, events.Stream):
                self("message_stream", is_text=event.is_text)
            elif isinstance(event, (events.Binary, events.Ping, events.Pong)):
                self(f"message_{event.name}", length=len(event.data))


def as_trace(sink: TraceFunction | bool | None, url: str) -> Trace | None:
    """Return a trace for one attempt, or None if none is wanted."""
    return Trace(sink, url) if sink else None
