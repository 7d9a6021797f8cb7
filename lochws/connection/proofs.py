"""Proofs: which items of one connection the server has read, and the receipts that wait to learn it.

Items have positions, which count from the beginning of the connection in the order of sending. A pong proves
that the server has read everything before its ping, and so does the answer to our Close frame. Only pings
whose payloads nobody can guess count: the automatic ones, and barriers, which are sent for receipts. A
server may answer only the latest of several pings (RFC 6455 section 5.5.3), so a pong also settles what was
before earlier pings.

This is a plain data structure without lock, clock or socket. A `lochws.connection.sendqueue.SendQueue` owns
one and guards it with its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..base.records import record
from ..errors import QueueFull
from .receipts import NOWHERE, Receipt, ReceiptState

#: The number of barriers that may wait for their pongs. A receipt beyond that gets its barrier, together with
#: all others, once a pong arrives.
MAX_BARRIERS = 4
#: The number of automatic pings that are remembered until their pongs arrive.
MAX_PINGS = 16
#: The number of receipts of one connection that may be open: a server that never answers pings must not make
#: a program run out of memory.
MAX_RECEIPTS = 100_000


@record(frozen=True)
class Doubts:
    """The messages and receipts that are in doubt when a connection has ended.

    Attributes:
        messages: messages that were sent, and that the server may not have read, oldest first.
        omitted: how many items before them are in doubt too, and no longer in memory.
        receipts: the receipts that were open, with their final states.
    """

    messages: tuple[str | bytes, ...]
    omitted: int
    receipts: list[tuple[Receipt, ReceiptState]]


class Proofs:
    """The proofs and open receipts of one connection.

    Args:
        ping: builds the frame of a ping with this payload.
        random: a function that returns the given number of random bytes.

    Attributes:
        proven: the position before which the server has read everything.
        nested: messages dropped off by calls that interrupt the holder of the queue's lock, and their
            receipts. Such calls append without the lock.
    """

    __slots__ = ("_barriers", "_covered", "_ping", "_pings", "_random", "_receipts", "nested", "proven")

    def __init__(self, ping: Callable[[bytes], bytes], random: Callable[[int], bytes]) -> None:
        self._ping = ping
        self._random = random
        # Payloads of pings, and the positions before which everything was sent ahead of them.
        self._pings: tuple[tuple[bytes, int], ...] = ()
        self._barriers: tuple[tuple[bytes, int], ...] = ()
        self._covered = 0  # the position of the last barrier
        self._receipts: list[Receipt] = []  # those that are open, in the order of sending
        self.proven = 0
        self.nested: list[tuple[Sequence[Any], Receipt]] = []

    def check_room(self) -> None:
        """Raise QueueFull if too many receipts are open."""
        if len(self._receipts) >= MAX_RECEIPTS:
            raise QueueFull(f"not sent: {MAX_RECEIPTS} receipts of this connection are open already")

    def add(self, receipt: Receipt, first: int, end: int) -> None:
        """Note the positions of a receipt's messages: of the first one, and after the last one."""
        receipt._first, receipt._end = first, end
        self._receipts.append(receipt)

    def place_nested(self, entries: Sequence[Any], position: int) -> None:
        """Note the positions of the nested messages among dropped-off ones, which are about to be queued.

        The same object may have been dropped off several times. Which of them belongs to a receipt does not
        matter, because all of them count for it.

        Args:
            entries: what was dropped off.
            position: the position of the first one; `NOWHERE` if they will not be sent.
        """
        for nested in tuple(self.nested):
            items, receipt = nested
            firsts = [place for place, entry in enumerate(entries) if entry is items[0]]
            lasts = [place for place, entry in enumerate(entries) if entry is items[-1]]
            if not firsts or not lasts:
                continue  # about to be dropped off
            if position == NOWHERE:
                self.add(receipt, NOWHERE, NOWHERE)
            else:
                self.add(receipt, position + firsts[0], position + lasts[-1] + 1)
            self.nested.remove(nested)

    def inserted(self, position: int) -> None:
        """Note that an item was queued ahead of those from `position` on."""
        for receipt in reversed(self._receipts):
            if receipt._first < position:
                break
            receipt._first += 1
            receipt._end += 1
        self._barriers = tuple((payload, at + (at >= position)) for payload, at in self._barriers)
        self._covered += self._covered >= position

    def pinged(self, payload: bytes, before: int) -> None:
        """Note that an automatic ping is sent after everything before a position."""
        self._pings = (*self._pings[-MAX_PINGS + 1 :], (payload, before))

    @property
    def wants_barrier(self) -> bool:
        """True if a barrier is to be queued now, at the end of the queue. Read without the queue's lock."""
        last = self._receipts[-1:]  # in one step: another thread may take them all
        return bool(last) and self._covered < last[0]._end and len(self._barriers) < MAX_BARRIERS

    def barrier(self, position: int) -> bytes:
        """Return the frame of a barrier, which is about to be queued at a position.

        Raises:
            WebSocketClosing: our Close frame was sent.
        """
        payload = self._random(12)
        frame = self._ping(payload)
        self._barriers = (*self._barriers, (payload, position))
        self._covered = position
        return frame

    def answered(self, payload: bytes) -> bool:
        """Note a pong. Return whether it proves something new."""
        for sent, before in (*self._barriers, *self._pings):
            if sent == payload:
                return self.prove(before)
        return False

    def prove(self, position: int) -> bool:
        """Note that the server has read everything before a position. Return whether that is new."""
        # Also without news, the pings before that position have been answered.
        self._barriers = tuple(ping for ping in self._barriers if ping[1] > position)
        self._pings = tuple(ping for ping in self._pings if ping[1] > position)
        is_new = position > self.proven
        self.proven = max(self.proven, position)
        return is_new

    def take_confirmed(self) -> list[Receipt]:
        """Remove and return the receipts whose messages the server has read."""
        receipts = self._receipts
        count = 0
        while count < len(receipts) and receipts[count]._end <= self.proven:
            count += 1
        confirmed = receipts[:count]
        del receipts[:count]
        return confirmed

    def take_all(self, taken: int) -> list[tuple[Receipt, ReceiptState]]:
        """Remove all receipts at the end of the connection, and return them with their final states.

        Args:
            taken: the position before which the kernel has, or may have, taken everything.
        """
        receipts = [*self._receipts, *(receipt for _, receipt in self.nested)]
        self._receipts, self.nested = [], []
        settled = []
        for receipt in receipts:
            if receipt._end <= self.proven:
                state = ReceiptState.CONFIRMED
            else:
                state = ReceiptState.IN_DOUBT if receipt._first < taken else ReceiptState.UNSENT
            settled.append((receipt, state))
        return settled
