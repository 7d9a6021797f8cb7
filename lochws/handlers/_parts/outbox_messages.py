"""Messages of an outbox: their records and counts, and the error for a file that cannot be used."""

from __future__ import annotations

import struct
import zlib
from typing import Literal, NamedTuple, TypeAlias

from ...errors import WebSocketError

#: What became of a message that is no longer kept.
Fate: TypeAlias = Literal["confirmed", "told", "expired", "superseded", "dropped"]
FATES: tuple[Fate, ...] = ("confirmed", "told", "expired", "superseded", "dropped")
#: What a message counts for against `max_bytes` besides its text or bytes: about the memory that it takes.
OVERHEAD_BYTES = 200

_CHECKED = struct.Struct("<q?d?d?")


def as_str(text: str) -> str:
    """Return a str of no subclass. The members of an enum, for one, are formatted as their names."""
    return str.__str__(text)


class OutboxError(WebSocketError):
    """The file of an outbox cannot be used: it is damaged, in use elsewhere, or cannot be written.

    The message names the file, says whether a message was stored, and what to do.
    """


class OutboxMessage(NamedTuple):
    """A message in an outbox.

    Attributes:
        number: its place in the order of sending.
        id: the id that the server can recognize a repetition by.
        payload: the message as it is sent, str for text and bytes for binary.
        supersedes: the key for which only the latest message is kept, or None.
        put_at: when it was put into the outbox, in seconds since 1970.
        expires_at: when it expires, in seconds since 1970, or None.
        was_sent: True if an earlier run of the program may have sent it (only with ``in_doubt="tell"``).
    """

    number: int
    id: str
    payload: str | bytes
    supersedes: str | None = None
    put_at: float = 0.0
    expires_at: float | None = None
    was_sent: bool = False

    @property
    def size(self) -> int:
        """The number of bytes that the message counts for against `max_bytes`."""
        payload = self.payload
        if isinstance(payload, str) and not payload.isascii():
            payload = payload.encode()
        return len(payload) + OVERHEAD_BYTES

    def checksum(self, data: bytes) -> int:
        """Return a checksum of all attributes, given the payload as bytes."""
        expires = self.expires_at
        is_text = isinstance(self.payload, str)
        fixed = _CHECKED.pack(
            self.number, is_text, self.put_at, expires is not None, expires or 0.0, self.was_sent
        )
        names = f"{self.id}\0{'' if self.supersedes is None else '=' + self.supersedes}\0".encode()
        return zlib.crc32(data, zlib.crc32(names, zlib.crc32(fixed)))


class OutboxCounts(NamedTuple):
    """Counts of an outbox. They begin with the object, except those of what is kept.

    Attributes:
        put: messages that `put` and `put_many` have accepted.
        pending: messages that are kept now, including those of earlier runs of the program.
        pending_bytes: their size, as `max_bytes` counts it.
        in_flight: how many of them have been sent and are not confirmed yet.
        sent: how often a message was sent.
        in_doubt: how often a connection ended and left a message in doubt.
        confirmed: messages that were confirmed (written, with ``confirm="written"``).
        told: messages that were passed to `on_in_doubt`, and are no longer kept.
        expired: messages that were not sent in time.
        superseded: messages that were replaced by a later one with the same key.
        dropped: messages that were dropped because the outbox was full.
    """

    put: int
    pending: int
    pending_bytes: int
    in_flight: int
    sent: int
    in_doubt: int
    confirmed: int
    told: int
    expired: int
    superseded: int
    dropped: int
