"""Closing: Close frames, and how a connection ends (RFC 6455 sections 5.5.1 and 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lochws.errors import CriticalProtocolError, ProtocolError
from lochws.status import Status

from ..base.records import record

if TYPE_CHECKING:
    from lochws.events import EndedBy

#: The maximum length of a reason, in bytes: 125 for a control frame, minus the code.
MAX_REASON = 123
#: Seconds that the server gets to end the connection after both Close frames, before we end it.
LINGER_SECONDS = 1.0

CLIENT: Final = "client"
SERVER: Final = "server"
NETWORK: Final = "network"


@record(frozen=True)
class CloseFrame:
    """A Close frame, sent or received.

    Attributes:
        code: the close code, or None if the frame has no payload.
        reason: the reason, empty if there is none.
    """

    code: int | None
    reason: str

    @property
    def size(self) -> int:
        """The length of the frame's payload in bytes."""
        return 0 if self.code is None else 2 + len(self.reason.encode())


def encode_close(code: int | None, reason: str | bytes = "") -> bytes:
    """Return the payload of a Close frame.

    Args:
        code: the close code, or None for an empty payload; the reason is then dropped.
        reason: text, or its bytes in UTF-8. It is cut to 123 bytes, at the end of a character.

    Raises:
        TypeError: the code is not an int, or the reason is neither str nor bytes.
        ValueError: the code may not be sent, or the reason is not valid UTF-8.
    """
    text = as_reason(reason)
    if code is None:
        return b""
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"close code {code!r}: expected a whole number, or None")
    if not Status.is_valid(code):
        raise ValueError(
            f"close code {code} may not be sent: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999"
        )
    return code.to_bytes(2, "big") + text.encode()


def as_reason(reason: str | bytes) -> str:
    """Return a close reason as text of at most 123 bytes in UTF-8, cut at the end of a character.

    Raises:
        TypeError: the reason is neither str nor bytes.
        ValueError: the reason is not valid UTF-8, or is a str with lone surrogates.
    """
    if isinstance(reason, str):
        try:
            encoded = reason.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"close reason {reason!r} cannot be encoded as UTF-8") from error
    elif isinstance(reason, (bytes, bytearray)):
        encoded = bytes(reason)
        try:
            reason = encoded.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"close reason {reason!r} is not valid UTF-8") from error
    else:
        raise TypeError(f"close reason {reason!r}: expected str or bytes")
    if len(encoded) <= MAX_REASON:
        return reason
    return encoded[:MAX_REASON].decode(errors="ignore")


def parse_close(payload: bytes) -> CloseFrame:
    """Parse the payload of a Close frame.

    Raises:
        ProtocolError: the payload is 1 byte long, or its code may not be sent (1002).
        CriticalProtocolError: the reason is not valid UTF-8 (1007).
    """
    if not payload:
        return CloseFrame(None, "")
    if len(payload) == 1:
        raise ProtocolError("Close frame with a payload of 1 byte")
    code = int.from_bytes(payload[:2], "big")
    if not Status.is_valid(code):
        raise ProtocolError(f"Close frame with the invalid code {code}")
    try:
        return CloseFrame(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise CriticalProtocolError("Close frame with a reason that is not valid UTF-8") from None


@record(frozen=True)
class Outcome:
    """The way a connection ended.

    Attributes:
        reason: one sentence for humans.
        ended_by: ``"client"``, ``"server"`` or ``"network"``.
        graceful: whether both Close frames were exchanged and the connection then ended by itself.
        error: the exception that caused it, or None.
    """

    reason: str
    ended_by: EndedBy
    graceful: bool = False
    error: BaseException | None = None

    def checked(self, is_taken: bool) -> Outcome:
        """Return the outcome, no longer graceful if our Close frame was still queued when the server
        ended."""
        if is_taken or not self.graceful:
            return self
        return Outcome("closed by the server before it took our Close frame", self.ended_by)


class ClosingHandshake:
    """The closing handshake of one connection: a state machine that decides when and how it ends.

    Times are seconds of the caller's monotonic clock. Not thread-safe: one thread at a time.

    The handshake consists of our Close frame and the server's, in either order. After both, the server ends
    the connection (section 7.1.1). It gets `LINGER_SECONDS` for that, no matter which side closed first; then
    we end it.

    Args:
        close_timeout: seconds that the server gets to answer our Close frame, and the kernel to take it;
            0 for no limit.

    Attributes:
        outcome: how the connection ended; None until then.
        deadline: when `time_passed` must be called, or None.
        overtakes_at: when `must_overtake` must be called, or None.
        is_begun: whether a Close frame was sent or the connection is being abandoned: automatic pings and
            their time-out no longer apply.
    """

    def __init__(self, close_timeout: float) -> None:
        self.outcome: Outcome | None = None
        self.deadline: float | None = None
        self.overtakes_at: float | None = None
        self._close_timeout = close_timeout
        self._linger = min(LINGER_SECONDS, close_timeout or LINGER_SECONDS)
        self._sent = False
        self._taken = False  # the kernel has all of our Close frame
        self._limit: float | None = None  # when the time for our Close frame and the server's is over
        self._received = False
        self._server_first = False
        self._failure: Outcome | None = None
        self._eof = False

    @property
    def is_begun(self) -> bool:
        """Return whether our Close frame was sent or is owed."""
        return self._sent or self._failure is not None

    def sent(self, now: float, *, taken: bool = True) -> None:
        """Record that our Close frame was sent. Call this again until the kernel has taken it.

        Args:
            now: the time.
            taken: whether the kernel has taken it, and all messages before it.
        """
        if self._sent and (self._taken or not taken):
            return
        is_first, self._sent, self._taken = not self._sent, True, taken
        if self._failure is not None:
            if is_first:
                self.deadline = now + self._linger
        elif self._eof:
            self._end(self._complete())
        else:
            if is_first and self._close_timeout:
                self._limit = now + self._close_timeout
                self.overtakes_at = now + self._close_timeout / 2
            if taken:
                self.overtakes_at = None
            self._set_deadline(now)

    def received(self, now: float) -> None:
        """Record that the server's Close frame arrived; it was the first unless `sent` was called before."""
        self._received = True
        if not self._sent:
            self._server_first = True
        else:
            self._set_deadline(now)

    def failed(self, error: BaseException, now: float) -> None:
        """Record a protocol violation by the server, which then gets a moment to read our Close frame."""
        self._failure = Outcome(f"protocol error: {error}", SERVER, error=error)
        self.deadline = now + self._linger

    def dropped(self, reason: str) -> None:
        """Record that the user ends the connection at once."""
        self._end(Outcome(reason, CLIENT))

    def eof(self) -> None:
        """Record that the server ended the connection. It has ended unless our Close frame is still owed."""
        if self._failure is not None:
            self._end(self._failure)
        elif self._received and self._sent:
            self._end(self._complete())
        elif self._received:
            self._eof = True
        elif self._sent:
            self._end(Outcome("closed by the server without answering our Close frame", SERVER))
        else:
            self._end(Outcome("connection lost: ended by the server", NETWORK))

    def lost(self, reason: str, error: BaseException | None = None) -> None:
        """Record that the connection failed. After both Close frames this counts as a graceful end."""
        if self._failure is not None:
            self._end(self._failure)
        elif self._received and self._sent:
            self._end(self._complete())
        else:
            self._end(Outcome(reason, NETWORK, error=error))

    def must_overtake(self, now: float) -> bool:
        """Return, once, whether our Close frame has waited too long for the messages before it.

        It waits for half of the time limit, so that the server has the other half to answer it.
        """
        if self.overtakes_at is None or now < self.overtakes_at:
            return False
        self.overtakes_at = None
        return True

    def time_passed(self, now: float) -> bool:
        """Act if `deadline` has passed. Return whether our Close frame is still owed and must be sent now."""
        if self.deadline is None or now < self.deadline:
            return False
        if self._failure is not None:
            if not self._sent:
                # The handlers of earlier messages have had enough time to send their own.
                return True
            self._end(self._failure)
        elif self._received and self._taken:
            self._end(self._complete())
        elif self._sent and not self._taken and (self._limit is None or now < self._limit):
            self._set_deadline(now)
        else:
            reason = f"the server did not answer our Close frame within {self._close_timeout:g} s"
            self._end(Outcome(reason, NETWORK))
        return False

    def _set_deadline(self, now: float) -> None:
        if self._taken and not self._received:
            self.deadline = self._limit
        else:
            # Until the kernel has taken our Close frame, this is the time of the next check.
            linger = now + self._linger
            self.deadline = linger if self._taken or self._limit is None else min(linger, self._limit)

    def _complete(self) -> Outcome:
        return Outcome("closed", SERVER if self._server_first else CLIENT, graceful=True)

    def _end(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
