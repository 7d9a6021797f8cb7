"""The state changes of a connection, on stderr, for `lochws connect --persist` in a pipe."""

from __future__ import annotations

import logging
import sys
import time

import click

from ..handlers.log import Log
from ..text import escaped
from .shown import timestamp
from .words import COLORS, of_record


class States(logging.Handler):
    """Prints each state change as one line on stderr.

    Args:
        colors: whether to print warnings and errors in color.
        timestamps: whether lines begin with the time.
    """

    def __init__(self, *, colors: bool, timestamps: bool) -> None:
        super().__init__(logging.INFO)
        self._colors = colors
        self._timestamps = timestamps

    def as_handler(self) -> Log:
        """Return the handler for the app whose states are printed."""
        logger = logging.Logger("states", logging.INFO)  # noqa: LOG001  no other code should see or set it
        logger.addHandler(self)
        # Every change counts, and the back-off between attempts bounds their number.
        return Log(logger=logger, burst=sys.maxsize)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        words = of_record(record)
        line = f"lochws: {escaped(words.text)}"
        if self._colors and words.kind != "info":
            line = click.style(line, fg=COLORS[words.kind])
        if self._timestamps:
            line = f"{timestamp(time.time())} {line}"
        try:
            click.echo(line, err=True, color=self._colors)
        except OSError:
            pass  # the reader of stderr is gone
