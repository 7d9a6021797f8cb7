"""What a connection tells and asks whoever made it: the life of an app, or an iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .. import events

if TYPE_CHECKING:
    from .connection import Connection


class Owner(Protocol):
    """What a connection tells whoever made it."""

    def connection_ended(self, connection: Connection, event: events.Disconnected) -> None:
        """The connection is over and `event` is about to be posted. Baton holder."""

    def ready_handled(self) -> None:
        """The handlers of Ready have run. On the handlers' thread."""

    def end_handled(self) -> None:
        """The handlers of Disconnected have run. On the handlers' thread."""

    def ask_flush(self, connection: Connection) -> None:
        """Messages wait to be flushed. Any thread, without locks."""

    def may_block(self) -> bool:
        """Whether the calling thread may wait for room in the queue."""

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Whether anyone would get such an event now. Any thread; a touch follows when it becomes so."""
