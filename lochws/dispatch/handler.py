"""Handler: a base class with a method for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events

if TYPE_CHECKING:
    from ..sent import Sent


class Handler:
    """A handler whose methods do nothing. Inherit from it for its method names, or write a class without it.

    Each method gets the event after which it is named. All handlers of an app run on its reader thread, one
    at a time, in the order of the events. They may send, close and reconnect. While one runs, further events
    wait: a slow handler delays the others, not the connection.
    """

    def on_event(self, event: events.Event) -> None:
        """Handle every event, before the handlers of its own kind."""

    def on_error(self, error: BaseException) -> None:
        """Handle an exception that a handler raised, after it was logged. What this raises is only logged."""

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        """Handle text and binary messages that arrived together, in order, instead of one call for each.

        For floods of small messages: a list holds everything that one read brought, at times hundreds. While
        an app has a handler of batches, `on_text` and `on_binary` are not called.
        """

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        """See what is sent, in order: text as str, binary messages as bytes, and `lochws.sent.ControlFrame`.

        Unlike the others, this is called by whichever thread writes, right before it writes, and may run at
        the same time as a handler on the reader thread. Further messages wait until it returns, so it must be
        quick, and must not wait for other threads that send. What it raises is only logged. Items that were
        not sent completely, because the connection failed, are in `Disconnected.unsent` as well.
        """

    def on_connecting(self, event: events.Connecting) -> None:
        """Handle the beginning of an attempt to connect, or a redirect."""

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Handle an attempt that failed before there was a connection. It is the attempt's last event."""

    def on_connected(self, event: events.Connected) -> None:
        """Handle an open network connection, before the upgrade to WebSocket: nothing can be sent yet."""

    def on_rejected(self, event: events.Rejected) -> None:
        """Handle a server that did not upgrade to WebSocket. Disconnected follows."""

    def on_ready(self, event: events.Ready) -> None:
        """Handle an open WebSocket: from now on messages can be sent."""

    def on_poll(self, event: events.Poll) -> None:
        """Do periodic work: called once after Ready, then every `poll` seconds."""

    def on_text(self, event: events.Text) -> None:
        """Handle a text message."""

    def on_binary(self, event: events.Binary) -> None:
        """Handle a binary message."""

    def on_ping(self, event: events.Ping) -> None:
        """Handle a ping from the server, which has been answered already."""

    def on_pong(self, event: events.Pong) -> None:
        """Handle a pong: the answer to a ping, or an unsolicited one."""

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Handle a server that broke the protocol. Disconnected follows."""

    def on_unresponsive(self, event: events.Unresponsive) -> None:
        """Handle a server that has been silent for too long. Disconnected follows."""

    def on_closing(self, event: events.Closing) -> None:
        """Handle the server's Close frame. Messages may still be sent; then it is answered."""

    def on_closed(self, event: events.Closed) -> None:
        """Handle the server's answer to our Close frame. Disconnected follows."""

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Handle the end of the connection. It is the connection's last event."""

    def on_back_off(self, event: events.BackOff) -> None:
        """Handle the beginning of a wait before the next attempt to connect."""
