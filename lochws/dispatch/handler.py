"""The methods that a handler may have, one per event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events

if TYPE_CHECKING:
    from ..sent import Sent


class Handler:
    """A handler whose methods do nothing: inherit from it for the names, or write a class without it.

    Each method gets the event that it is named after. All of one app's handlers run on its reader
    thread, one at a time, in the order of the events. They may send, close and reconnect. While one
    runs, further events wait; a handler that takes long holds up the others, not the connection.
    """

    def on_event(self, event: events.Event) -> None:
        """Any event, before its own method."""

    def on_error(self, error: BaseException) -> None:
        """A handler raised `error`, which has been logged. What this raises is only logged."""

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        """Text and binary messages that came together, in order; `on_text` and `on_binary` then get none.

        For floods of small messages: one call for all that one read brought, hundreds at times.
        """

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        """What leaves, in order: text as str, binary messages as bytes, and `lochws.sent.ControlFrame`.

        No event: it is called on whichever thread writes, while handlers may run on the reader thread, right
        before these are written; nothing overtakes them. Further messages wait meanwhile, so it has to be
        quick, and must not wait for others that send. What it raises is only logged. What the connection
        fails under in the midst of these is in `Disconnected.unsent` besides.
        """

    def on_connecting(self, event: events.Connecting) -> None:
        """An attempt to connect begins."""

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """The attempt failed before there was a connection. It is over."""

    def on_connected(self, event: events.Connected) -> None:
        """The network connection stands and the upgrade was asked for."""

    def on_rejected(self, event: events.Rejected) -> None:
        """The server did not upgrade."""

    def on_ready(self, event: events.Ready) -> None:
        """The WebSocket is open."""

    def on_poll(self, event: events.Poll) -> None:
        """Once after Ready, then every `poll` seconds."""

    def on_text(self, event: events.Text) -> None:
        """A text message."""

    def on_binary(self, event: events.Binary) -> None:
        """A binary message."""

    def on_ping(self, event: events.Ping) -> None:
        """The server sent a ping, which has been answered."""

    def on_pong(self, event: events.Pong) -> None:
        """The server answered a ping."""

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """The server broke the protocol."""

    def on_unresponsive(self, event: events.Unresponsive) -> None:
        """The server has been silent for too long."""

    def on_closing(self, event: events.Closing) -> None:
        """The server asks to close; messages may still be sent."""

    def on_closed(self, event: events.Closed) -> None:
        """The server answered our Close frame."""

    def on_disconnected(self, event: events.Disconnected) -> None:
        """The connection has ended."""

    def on_back_off(self, event: events.BackOff) -> None:
        """A pause before the next attempt to connect."""
