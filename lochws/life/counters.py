"""Traffic: the messages and bytes that a WebSocket has sent and received over all its connections."""

from __future__ import annotations

from typing import Protocol

from ..base.records import fields_of, record
from ..counters import Counters


class CountedConnection(Protocol):
    """A connection, as the counters see it."""

    is_counted: bool

    @property
    def counters(self) -> Counters:
        """The messages and bytes of the connection so far."""


@record(frozen=True, slots=True)
class _Ended:
    """The totals of all connections that have ended, and the connection that is being added."""

    totals: Counters
    added: CountedConnection | None


_NONE = _Ended(Counters(), None)


class Traffic:
    """The totals of a WebSocket's connections, at most one of which is open at a time.

    There is no lock: `add` replaces the totals in one assignment, and readers retry if that happened while
    they were reading. So signal handlers and finalizers may read them at any moment.
    """

    def __init__(self) -> None:
        self._ended = _NONE

    def add(self, connection: CountedConnection) -> None:
        """Add the totals of a connection that has ended. For the baton holder, once per connection."""
        totals = _sum(self._ended.totals, connection)
        self._ended = _Ended(totals, connection)
        connection.is_counted = True
        self._ended = _Ended(totals, None)

    def with_open(self, connection: CountedConnection | None) -> Counters:
        """Return the totals, including those of the open connection. Any thread."""
        while True:
            is_counted = connection is None or connection.is_counted  # must be read before the totals
            ended = self._ended
            if connection is None or is_counted or ended.added is connection:
                return ended.totals
            totals = _sum(ended.totals, connection)
            if self._ended is ended and not connection.is_counted:
                return totals


def _sum(ended: Counters, connection: CountedConnection) -> Counters:
    """Add the counters of a connection to the totals of those before it."""
    added = connection.counters
    return Counters(*(getattr(ended, name) + getattr(added, name) for name in fields_of(Counters)))
