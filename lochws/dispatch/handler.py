"""Handler: a base class with a method for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events
from ..system.report import safe_name

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
        if callable(event):
            _refuse(self, "event", event)  # type: ignore[unreachable]  # for those who use no type checker

    def on_error(self, error: BaseException) -> None:
        """Handle an exception that a handler raised and lochws logged. Its own exceptions are only logged."""
        if callable(error):
            _refuse(self, "error", error)

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        """Handle a list of text and binary messages that arrived together, in order, in a single call.

        Use it for floods of small messages: the list holds everything that one read from the network
        returned, sometimes hundreds of messages. While an app has a handler of batches, `on_text` and
        `on_binary` are not called.
        """
        if callable(messages):
            _refuse(self, "batch", messages)

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        """Observe what is sent, in order: str for text, bytes for binary, and `lochws.sent.ControlFrame`.

        A message of `send_stream` is observed with its last fragment, as `lochws.sent.Streamed`.

        Unlike other handlers, this one is called by the thread that writes, right before it writes, and may
        run at the same time as a handler on the reader thread. Further messages wait until it returns, so it
        must be quick, and must not wait for other threads that send. Exceptions that it raises are only
        logged. Messages that were not sent completely because the connection failed also appear in
        `Disconnected.unsent`.
        """
        if callable(sent):
            _refuse(self, "sent", sent)

    def on_connecting(self, event: events.Connecting) -> None:
        """Handle the beginning of an attempt to connect, or a redirect."""
        if callable(event):
            _refuse(self, "connecting", event)

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Handle an attempt to connect that failed. This is the attempt's last event."""
        if callable(event):
            _refuse(self, "connect_fail", event)

    def on_connected(self, event: events.Connected) -> None:
        """Handle an open network connection before the upgrade to WebSocket: messages cannot be sent yet."""
        if callable(event):
            _refuse(self, "connected", event)

    def on_rejected(self, event: events.Rejected) -> None:
        """Handle a server that did not upgrade to WebSocket. Disconnected follows."""
        if callable(event):
            _refuse(self, "rejected", event)

    def on_ready(self, event: events.Ready) -> None:
        """Handle the opening of the WebSocket: messages can be sent from now on."""
        if callable(event):
            _refuse(self, "ready", event)

    def on_poll(self, event: events.Poll) -> None:
        """Do periodic work: called once after Ready, then every `poll` seconds."""
        if callable(event):
            _refuse(self, "poll", event)

    def on_text(self, event: events.Text) -> None:
        """Handle a text message."""
        if callable(event):
            _refuse(self, "text", event)

    def on_binary(self, event: events.Binary) -> None:
        """Handle a binary message."""
        if callable(event):
            _refuse(self, "binary", event)

    def on_stream(self, event: events.Stream) -> None:
        """Handle a message above `stream_above` while it arrives: read it here, or pass it to a thread."""
        if callable(event):
            _refuse(self, "stream", event)

    def on_ping(self, event: events.Ping) -> None:
        """Handle a ping from the server. It has already been answered, unless `auto_pong` is off."""
        if callable(event):
            _refuse(self, "ping", event)

    def on_pong(self, event: events.Pong) -> None:
        """Handle a pong: the answer to a ping, or an unsolicited one."""
        if callable(event):
            _refuse(self, "pong", event)

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Handle a protocol violation by the server. Disconnected follows."""
        if callable(event):
            _refuse(self, "protocol_error", event)

    def on_unresponsive(self, event: events.Unresponsive) -> None:
        """Handle a server that has been silent for too long. Disconnected follows."""
        if callable(event):
            _refuse(self, "unresponsive", event)

    def on_stale(self, event: events.Stale) -> None:
        """Handle a server that has sent no message for `stale_after` seconds."""
        if callable(event):
            _refuse(self, "stale", event)

    def on_closing(self, event: events.Closing) -> None:
        """Handle the server's Close frame. It is answered after this handler, which may still send."""
        if callable(event):
            _refuse(self, "closing", event)

    def on_closed(self, event: events.Closed) -> None:
        """Handle the server's answer to our Close frame. Disconnected follows."""
        if callable(event):
            _refuse(self, "closed", event)

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Handle the end of the connection. This is the connection's last event."""
        if callable(event):
            _refuse(self, "disconnected", event)

    def on_back_off(self, event: events.BackOff) -> None:
        """Handle the beginning of a wait before the next attempt to connect."""
        if callable(event):
            _refuse(self, "back_off", event)


def _refuse(handler: Handler, name: str, function: object) -> None:
    """Raise TypeError for a function that was passed in place of an event, perhaps to register it.

    Stand-ins for events, such as mocks, may be callable; but like events, they have a `name`.
    """
    if hasattr(function, "name"):
        return
    hint = "expected an event"
    if (place := getattr(getattr(handler, "on", None), "__qualname__", None)) is not None:
        hint = f"write @{'feed' if place == 'Feed.on' else 'app'}.on({name!r})"
    raise TypeError(f"on_{name}({safe_name(function)}) does not register a function: {hint}")
