"""The client under test: a `WebSocketApp` that echoes."""

from __future__ import annotations

from typing import Any

from lochws import WebSocketApp, events

MIB = 1024 * 1024


class Echo(WebSocketApp):
    """Sends every message back as it came."""

    def on_text(self, event: events.Text) -> None:
        self.send_text(event.text)

    def on_binary(self, event: events.Binary) -> None:
        self.send_binary(event.data)


class Question(WebSocketApp):
    """Keeps the one text that the server sends."""

    answer = ""

    def on_text(self, event: events.Text) -> None:
        self.answer = event.text


def echo(url: str, fragment: int | None = None) -> None:
    """Echo until the server ends the connection.

    Args:
        url: where.
        fragment: the largest payload of a frame in bytes, or None for lochws's default.
    """
    # The largest message is 16 MiB, and its echo has a frame head on top of that.
    options: dict[str, Any] = {} if fragment is None else {"fragment": fragment}
    app = Echo(url, proxies={}, compress=True, max_queue=32 * MIB, **options)
    # The server counts what it receives: pings of our own would be something it did not ask for.
    app.run_forever(persist=False, ping_rate=0)


def ask(url: str) -> str:
    """Return what the server says at `url`."""
    app = Question(url, proxies={})
    app.run_forever(persist=False, ping_rate=0)
    return app.answer
