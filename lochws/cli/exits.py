"""Exit codes of the commands, and the sentences printed on stderr."""

from __future__ import annotations

import enum

from .. import events
from ..text import escaped
from .shown import as_options
from .streams import NO_READER


class Exit(enum.IntEnum):
    """The exit codes of `lochws`; those above 128 are 128 plus a signal number, as in shells."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_CONNECTION = 3
    REFUSED = 4
    LOST = 5
    PROTOCOL = 6
    CLOSED_WITH_ERROR = 7
    HUNG_UP = 129
    INTERRUPTED = 130
    NO_READER = NO_READER
    TERMINATED = 143


#: The meaning of each code, for ``--help``.
MEANINGS = {
    Exit.OK: "closed cleanly: Close frames were exchanged, with code 1000, 1001 or none",
    Exit.FAILED: "a local failure: input that cannot be sent, output that cannot be written",
    Exit.USAGE: "the command line is not valid",
    Exit.NO_CONNECTION: "no connection: a failure of DNS, TCP, proxy or TLS",
    Exit.REFUSED: "the server answered but did not upgrade to WebSocket",
    Exit.LOST: "the connection was lost, or ended without Close frames",
    Exit.PROTOCOL: "the server violated the WebSocket protocol",
    Exit.CLOSED_WITH_ERROR: "the server closed with a code other than 1000 and 1001",
    Exit.HUNG_UP: "the terminal was closed (SIGHUP)",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
    Exit.NO_READER: "the reader of our output is gone (SIGPIPE)",
    Exit.TERMINATED: "terminated (SIGTERM)",
}

#: Close codes of a normal end (RFC 6455 section 7.4.1).
_FINE = (None, 1000, 1001)


class Failed(Exception):
    """Ends a command with a sentence on stderr and an exit code.

    Args:
        sentence: what is wrong, and what would be right; empty to print nothing.
        code: the exit code.
        is_event: whether the sentence describes an event of the connection, which ``-v`` logs too.
    """

    def __init__(self, sentence: str, code: Exit = Exit.FAILED, *, is_event: bool = False) -> None:
        super().__init__(sentence)
        self.code = code
        self.is_event = is_event


class Ending:
    """A handler that remembers how the latest connection, or attempt to connect, ended.

    Attributes:
        code: the exit code; `Exit.NO_CONNECTION` at first.
        sentence: the sentence for stderr; empty after a clean close.
        error: the exception that a handler raised, or None; it is a bug in lochws.
    """

    def __init__(self) -> None:
        self.code = Exit.NO_CONNECTION
        self.sentence = ""
        self.error: BaseException | None = None
        self._broken = ""
        self._closing: events.Closing | None = None

    def on_error(self, error: BaseException) -> None:
        """Remember an exception raised by a handler, which stops the app."""
        self.error = self.error or error

    def on_connecting(self, event: events.Connecting) -> None:
        """Forget the previous attempt."""
        self._broken = ""
        self._closing = None

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Remember the protocol violation that ends the connection."""
        self._broken = event.error

    def on_closing(self, event: events.Closing) -> None:
        """Remember the server's close code, which determines whether the close is clean."""
        self._closing = event

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Remember why the attempt to connect failed."""
        self._end(Exit.NO_CONNECTION, event.reason, event.advice)

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Remember why the connection ended, or did not become a WebSocket."""
        if event.phase != "open":
            # If the server did not answer, the network has failed.
            code = Exit.REFUSED if event.ended_by == "server" else Exit.NO_CONNECTION
            self._end(code, event.reason, event.advice)
        elif self._broken:
            self._end(Exit.PROTOCOL, f"the server violated the protocol: {self._broken}")
        elif not event.graceful:
            unsent = f"; {len(event.unsent):,} messages were not sent" if event.unsent else ""
            self._end(Exit.LOST, event.reason + unsent, event.advice)
        elif self._closing is not None and self._closing.code not in _FINE:
            reason = f": {self._closing.reason}" if self._closing.reason else ""
            self._end(Exit.CLOSED_WITH_ERROR, f"the server closed with code {self._closing.code}{reason}")
        else:
            self._end(Exit.OK, "")

    def result(self) -> Exit:
        """Return the exit code of a clean close.

        Raises:
            Failed: the connection ended in another way, which the sentence describes.
        """
        if self.error is not None:
            raise self.error
        if self.sentence:
            raise Failed(self.sentence, self.code, is_event=True)
        return self.code

    def _end(self, code: Exit, reason: str, advice: str = "") -> None:
        self.code = code
        self.sentence = escaped(as_options(f"{reason}. {advice}" if advice else reason))
