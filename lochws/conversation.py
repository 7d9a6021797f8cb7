"""Conversation: a connection for scripts, which ask for each message themselves.

::

    with lochws.connect("wss://feed.example.org") as ws:
        ws.send_json(type="subscribe")
        print(ws.receive(timeout=5).text)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from . import events
from .app import WebSocketApp, WebSocketAppOptions
from .errors import ConnectionFailed
from .options import MIB, URL, Deflate, Protocols, Proxies

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
elif TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Conversation", "connect"]


class _Opening:
    """Notes why a server refused, and replaces the log lines, since the exceptions say the same."""

    replaces_default_lines = True

    def __init__(self) -> None:
        self.rejected: events.Rejected | None = None

    def on_rejected(self, event: events.Rejected) -> None:
        """Keep the refusal."""
        self.rejected = event


class Conversation(WebSocketApp):
    """A connection for scripts: `receive` returns the next message. Created by `lochws.connect`.

    It is a `WebSocketApp` that does not reconnect, so all methods of an app are available: any thread may
    send, and handlers may be added for events other than messages. Threads in the background answer pings
    and keep the connection alive between calls of `receive`. Messages wait in a mailbox of limited size; when
    it is full, lochws stops reading, and TCP backpressure slows the server down.
    """

    def receive(self, timeout: float | None = None) -> events.Text | events.Binary:
        """Wait for the next message, and return it.

        Any thread may call this. If several do, each message goes to one of them.

        Args:
            timeout: the longest time to wait, in seconds; 0 to return or raise at once; None for no limit.

        Raises:
            TimeoutError: no message has arrived in time. None is lost: the next call may return it.
            WebSocketClosed: the connection has ended, and all messages that arrived before have been
                received; `WebSocketClosed.event` is its final event.
            WebSocketError: called in a handler of this connection, or by code that interrupts lochws on its
                own thread, while nothing is waiting: it would wait for itself.
            TypeError, ValueError: the timeout is not a number.
        """
        return self._messages.get(timeout)

    def __iter__(self) -> Iterator[events.Text | events.Binary]:
        """Iterate over the messages until the connection has ended; `last_end` then says how."""
        return iter(self._messages)

    def __enter__(self) -> Self:
        """Return the connection, which is open already; `__exit__` closes it and waits for its end."""
        return self

    def _open(
        self, size: int, max_bytes: int, opening: _Opening, **timing: float | bool | str | None
    ) -> None:
        """Connect, and wait until the connection is open.

        Raises:
            ConnectionFailed: it could not be opened.
        """
        self._messages = self.mailbox("text", "binary", size=size, max_bytes=max_bytes)
        self.add_handler(opening)
        try:
            self.start(persist=False, **timing)  # type: ignore[arg-type]  # as `connect` got them
            is_open = self.wait_ready()
        except BaseException:
            self.close()
            raise
        if is_open:
            return
        self.join()
        event = opening.rejected or self.last_end
        # A connection that has opened and ended again before anybody looked is not a failure to open it.
        if isinstance(event, events.Disconnected) and event.phase == "open":
            return
        assert event is not None
        raise ConnectionFailed(str(event), event=event) from event.error


def connect(
    url: URL,
    *,
    size: int = 1000,
    max_bytes: int = 16 * MIB,
    ping_rate: float | None = 30.0,
    ping_timeout: float | Literal["auto"] | None = "auto",
    auto_pong: bool = True,
    close_timeout: float | None = 30.0,
    stale_after: float | None = None,
    proxies: Proxies = None,
    protocols: Protocols | None = None,
    compress: bool | Deflate = False,
    **options: Unpack[WebSocketAppOptions],
) -> Conversation:
    """Open a connection (RFC 6455), and return it: for scripts that ask for each message themselves.

    ::

        with lochws.connect("wss://feed.example.org") as ws:
            ws.send_json(type="subscribe")
            print(ws.receive(timeout=5).text)
            for message in ws:
                print(message.text)

    This call blocks until the connection is open, for `open_timeout` seconds at most. At the end of the
    ``with`` block the connection is closed; without one, call `stop`. There is no automatic reconnect: use
    `WebSocketApp` for that, and in programs with an event loop.

    Args:
        url: a ``ws://`` or ``wss://`` URL, or a function that returns one.
        size: the maximum number of messages that wait to be received. While that many wait, lochws soon stops
            reading, and TCP backpressure slows the server down.
        max_bytes: the maximum memory for these messages, in bytes. A single message is accepted whatever its
            size.
        ping_rate: seconds between automatic pings; 0 or None for none.
        ping_timeout: seconds to wait after a ping for any byte from the server before giving up the
            connection; ``"auto"`` is twice the ping rate; 0 or None for no limit.
        auto_pong: whether to answer the server's pings automatically.
        close_timeout: seconds that the server has to answer a Close frame and end the connection; 0 or None
            for no limit.
        stale_after: seconds without any part of a message after which the connection is dropped, even if the
            server answers pings; 0 or None for no limit.
        proxies: a proxy URL, a mapping, or a function: see `WebSocketApp`.
        protocols: the subprotocols to offer, in order of preference.
        compress: offer permessage-deflate (RFC 7692): True, or a `Deflate` with details.
        options: all other options of `WebSocketApp`, such as `headers`, `auth`, `open_timeout`, `ssl_cafile`
            and `max_message_size`; but not `stream_above`, since `receive` returns complete messages.

    Returns:
        The open connection.

    Raises:
        ConnectionFailed: the connection could not be opened; its attributes say in which phase, why, and what
            would help.
        TypeError, ValueError: an argument is invalid; the message names it.
        WebSocketError: called in a handler that runs on the given `threads`: it would wait for itself.
        RuntimeError: no thread can be started.
        OSError: there are no file descriptors left.
    """
    if options.get("stream_above") is not None:
        raise ValueError(
            f"stream_above={options['stream_above']!r}: lochws.connect receives complete messages; use a "
            "WebSocketApp with on_stream, or with app.mailbox('text', 'binary', 'stream')"
        )
    conversation = Conversation(url, proxies=proxies, protocols=protocols, compress=compress, **options)
    conversation._open(
        size, max_bytes, _Opening(), poll=None, ping_rate=ping_rate, ping_timeout=ping_timeout,
        auto_pong=auto_pong, close_timeout=close_timeout, stale_after=stale_after,
    )
    return conversation
