"""Handler: a base class with a method for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events

if TYPE_CHECKING:
    from ..sent import Sent


class Handler:
    """A handler whose methods do nothing: a base class, which gives editors the method names. It is optional.

    Each method receives the event that it is named after. All handlers of an app run on its reader thread,
    one at a time, in the order of the events. They may send, close and reconnect. While a handler runs,
    further events wait: a slow handler delays other handlers, but not the connection.
    """

    def on_event(self, event: events.AnyEvent) -> None:
        """Handle every event, before the handlers of its own kind."""

    def on_error(self, error: BaseException) -> None:
        """Handle an exception that a handler raised and lochws logged. Its own exceptions are only logged."""

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        """Handle a list of text and binary messages that arrived together, in order, in a single call.

        Use it for floods of small messages: the list holds everything that one read from the network
        returned, sometimes hundreds of messages. While an app has a handler of batches, `on_text` and
        `on_binary` are not called.
        """

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        """Observe what is sent, in order: str for text, bytes for binary, and `lochws.sent.ControlFrame`.

        A message of `send_stream` is observed with its last fragment, as `lochws.sent.Streamed`.

        Unlike other handlers, this one is called by the thread that writes, right before it writes, and may
        run at the same time as a handler on the reader thread. Further messages wait until it returns, so it
        must be quick, and must not wait for other threads that send. Exceptions that it raises are only
        logged. Messages that were not sent completely because the connection failed also appear in
        `Disconnected.unsent`.
        """

    def on_connecting(self, event: events.Connecting) -> None:
        """Handle the beginning of an attempt to connect, or a redirect."""

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Handle an attempt to connect that failed. This is the attempt's last event."""

    def on_connected(self, event: events.Connected) -> None:
        """Handle an open network connection before the upgrade to WebSocket: messages cannot be sent yet."""

    def on_rejected(self, event: events.Rejected) -> None:
        """Handle a server that did not upgrade to WebSocket. Disconnected follows."""

    def on_ready(self, event: events.Ready) -> None:
        """Handle the opening of the WebSocket: messages can be sent from now on."""

    def on_poll(self, event: events.Poll) -> None:
        """Do periodic work: called once after Ready, then every `poll` seconds."""

    def on_text(self, event: events.Text) -> None:
        """Handle a text message."""

    def on_binary(self, event: events.Binary) -> None:
        """Handle a binary message."""

    def on_stream(self, event: events.Stream) -> None:
        """Handle a message above `stream_above` while it arrives: read it here, or pass it to a thread."""

    def on_ping(self, event: events.Ping) -> None:
        """Handle a ping from the server. It has already been answered, unless `auto_pong` is off."""

    def on_pong(self, event: events.Pong) -> None:
        """Handle a pong: the answer to a ping, or an unsolicited one."""

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Handle a protocol violation by the server. Disconnected follows."""

    def on_unresponsive(self, event: events.Unresponsive) -> None:
        """Handle a server that has been silent for too long. Disconnected follows."""

    def on_stale(self, event: events.Stale) -> None:
        """Handle a server that has sent no message for `stale_after` seconds."""

    def on_closing(self, event: events.Closing) -> None:
        """Handle the server's Close frame. It is answered after this handler, which may still send."""

    def on_closed(self, event: events.Closed) -> None:
        """Handle the server's answer to our Close frame. Disconnected follows."""

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Handle the end of the connection. This is the connection's last event."""

    def on_back_off(self, event: events.BackOff) -> None:
        """Handle the beginning of a wait before the next attempt to connect."""
