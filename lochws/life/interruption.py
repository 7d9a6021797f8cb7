"""Interruption: the end of an app or a feed whose `run_forever` was interrupted, by Ctrl-C for instance."""

from __future__ import annotations

from collections.abc import Callable

from ..system.report import flush_reports

#: How long a closing handshake may take after Ctrl-C, in seconds, before the connection is dropped.
INTERRUPT_SECONDS = 5.0


def end_interrupted(
    close: Callable[[], object], in_handler: bool, join: Callable[[float], bool], drop: Callable[[], object]
) -> None:
    """End an interrupted app or feed, with a closing handshake if time allows; in a handler, do not wait.

    Args:
        close: begins the closing handshake.
        in_handler: whether the calling thread runs a handler.
        join: waits for the end, for a number of seconds; returns False if it does not come in time.
        drop: drops the connection.
    """
    close()
    if not in_handler:
        if not join(INTERRUPT_SECONDS):
            drop()
        flush_reports()  # what the log says of the end stands before the traceback, not inside it
