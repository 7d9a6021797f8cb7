"""How a command ends: the exit codes, the sentence for stderr, and what ended a connection."""

from __future__ import annotations

import enum

from .. import events
from ..text import escaped
from .shown import as_options


class Exit(enum.IntEnum):
    """The exit codes of `lochws`; those from 128 up are 128 and a signal's number, as shells have it."""

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
    NO_READER = 141
    TERMINATED = 143


#: What each code says, for ``--help``.
MEANINGS = {
    Exit.OK: "both sides said goodbye: Close frames were exchanged, and the code was 1000, 1001 or none",
    Exit.FAILED: "something here failed: input that cannot be sent, output that cannot be written",
    Exit.USAGE: "the command line is wrong",
    Exit.NO_CONNECTION: "no connection: name, address, proxy or TLS",
    Exit.REFUSED: "who answered did not upgrade to a WebSocket",
    Exit.LOST: "the connection was lost, or ended without its Close frames",
    Exit.PROTOCOL: "the server broke the WebSocket protocol",
    Exit.CLOSED_WITH_ERROR: "the server closed with another code than 1000 or 1001",
    Exit.HUNG_UP: "the terminal was closed (SIGHUP)",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.NO_READER: "nobody reads the output any more (SIGPIPE)",
    Exit.TERMINATED: "SIGTERM",
}

#: The codes of a Close frame that report no trouble (RFC 6455 section 7.4.1).
_FINE = (None, 1000, 1001)


class Failed(Exception):
    """Ends a command with a sentence on stderr and an exit code.

    Args:
        sentence: what is wrong, and what would be right.
        code: the exit code.
    """

    def __init__(self, sentence: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(sentence)
        self.code = code


class Outcome:
    """A handler that remembers what ended a connection, or the last of them.

    Attributes:
        code: the exit code; `Exit.NO_CONNECTION` before there was anything.
        sentence: what to tell on stderr; empty after a graceful end.
        error: what a handler raised, if one did; it is a defect.
    """

    def __init__(self) -> None:
        self.code = Exit.NO_CONNECTION
        self.sentence = ""
        self.error: BaseException | None = None
        self._broken = ""
        self._closing: events.Closing | None = None

    def on_error(self, error: BaseException) -> None:
        """A handler failed, and the app stops."""
        self.error = self.error or error

    def on_connecting(self, event: events.Connecting) -> None:
        """Begin anew: what counts is the last attempt."""
        self._broken = ""
        self._closing = None

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """The reason of the end that follows."""
        self._broken = event.error

    def on_closing(self, event: events.Closing) -> None:
        """The server's code says whether that is a good end."""
        self._closing = event

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """There was no connection."""
        self._end(Exit.NO_CONNECTION, event.reason, event.advice)

    def on_disconnected(self, event: events.Disconnected) -> None:
        """The connection has ended, or came to no WebSocket."""
        if event.phase != "open":
            # The network may have ended it before there was an answer to judge.
            code = Exit.REFUSED if event.ended_by == "server" else Exit.NO_CONNECTION
            self._end(code, event.reason, event.advice)
        elif self._broken:
            self._end(Exit.PROTOCOL, f"the server broke the protocol: {self._broken}")
        elif not event.graceful:
            unsent = f"; {len(event.unsent):,} messages were not sent" if event.unsent else ""
            self._end(Exit.LOST, event.reason + unsent, event.advice)
        elif self._closing is not None and self._closing.code not in _FINE:
            reason = f": {self._closing.reason}" if self._closing.reason else ""
            self._end(Exit.CLOSED_WITH_ERROR, f"the server closed with code {self._closing.code}{reason}")
        else:
            self._end(Exit.OK, "")

    def result(self) -> Exit:
        """The exit code of a graceful end.

        Raises:
            Failed: it was none; says why.
        """
        if self.error is not None:
            raise self.error
        if self.sentence:
            raise Failed(self.sentence, self.code)
        return self.code

    def _end(self, code: Exit, reason: str, advice: str = "") -> None:
        self.code = code
        self.sentence = escaped(f"{reason}. {as_options(advice)}" if advice else reason)
