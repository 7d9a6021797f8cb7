"""Announcer: tells the `on_sent` handlers about each batch right before it is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import filterfalse

from ..protocol.frames import Item, Opcode
from ..protocol.masking import mask
from ..sent import ControlFrame, Sent, Streamed, Tap
from ..system.rate_limit import RateLimit
from ..system.report import is_interrupt, report_aside, safe_name
from .outgoing import is_fragment, message_of


class Announcer:
    """Passes the items that are about to be sent to the taps, in order. For one thread at a time.

    Args:
        taps: functions that receive tuples of items; may change at any time.
    """

    __slots__ = ("_failures", "_taps")

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps
        self._failures: RateLimit | None = None  # limits the reports about taps; made with the first

    def tell(self, batch: Sequence[Item]) -> None:
        """Call the taps with the items of a batch. Exceptions that they raise are logged."""
        sent = tuple(map(as_sent, filterfalse(is_fragment, batch)))
        if not sent:
            return
        for tap in tuple(self._taps):
            try:
                tap(sent)
            except BaseException as error:
                # On the main thread that may be Ctrl-C; on others SystemExit must not end the reader.
                if is_interrupt(error):
                    raise
                self._failures = limit = self._failures or RateLimit()
                report_aside(logging.ERROR, "handler %s failed", safe_name(tap), error=error, limit=limit)


def as_sent(item: Item) -> Sent:
    """Return an item in the form that `on_sent` handlers receive."""
    message = message_of(item)
    if message is not None:
        return message
    if isinstance(item[1], Streamed):
        return item[1]
    frame = item[0]
    assert isinstance(frame, bytes)
    return ControlFrame(Opcode.to_str(frame[0] & 0x0F).lower(), mask(frame[6:], frame[2:6]))
