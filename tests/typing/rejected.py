"""Handlers that type checkers reject: mypy and pyright must report a mistake in each line with an ignore.

Both of them also report an ignore that is not needed.
"""

from __future__ import annotations

from typing import Any

from lochws import WebSocket, WebSocketApp, events, on, route
from lochws.sent import Sent

app = WebSocketApp("wss://feed.example.org")


# Functions for another event, by name and by class.

@app.on("text")  # type: ignore[type-var]
def text_by_name(event: events.Binary) -> None: ...


@app.on(events.Text)  # type: ignore[type-var]
def text_by_class(event: events.Binary) -> None: ...


@app.on("ready")  # type: ignore[type-var]
def ready(event: events.Connected) -> None: ...


@app.on("disconnected")  # type: ignore[type-var]
def disconnected(event: events.ConnectFail) -> None: ...


@app.on("back_off")  # type: ignore[type-var]
def back_off(event: events.Disconnected) -> None: ...


@app.on("closing")  # type: ignore[type-var]
def closing(event: events.Closed) -> None: ...


@app.on("event")  # type: ignore[type-var]
def every(event: events.Text) -> None: ...


@app.on(events.Event)  # type: ignore[type-var]
def every_by_class(event: events.Text) -> None: ...


@app.on("error")  # type: ignore[type-var]
def error(event: events.ProtocolError) -> None: ...


@app.on("batch")  # type: ignore[type-var]
def batch(event: events.Text) -> None: ...


@app.on("sent")  # type: ignore[type-var]
def sent(message: Sent) -> None: ...


# Functions that take too little of several events.

@app.on("text", "binary")  # type: ignore[type-var]
def only_text(event: events.Text) -> None: ...


@app.on(events.Text, events.Binary)  # type: ignore[type-var]
def only_binary(event: events.Binary) -> None: ...


@app.on("disconnected", "connect_fail")  # type: ignore[type-var]
def only_disconnected(event: events.Disconnected) -> None: ...


@app.on("poll", "pong")  # type: ignore[type-var]
def only_the_second(event: events.Pong) -> None: ...


# Functions that cannot be called with one argument.

@app.on("text")  # type: ignore[type-var]
def too_many(app: WebSocketApp, message: str) -> None: ...


@app.on("text")  # type: ignore[type-var]
def too_few() -> None: ...


# Names that are not names of events.

@app.on("message")  # type: ignore[call-overload,untyped-decorator]
def unknown(event: events.Text) -> None: ...


@app.on("text", "bynary")  # type: ignore[call-overload,untyped-decorator]
def second_unknown(event: events.Text | events.Binary) -> None: ...


app.on()  # type: ignore[call-overload]
app.on(5)  # type: ignore[call-overload]
app.on(str)  # type: ignore[arg-type]
app.hooks.handles("message")  # type: ignore[arg-type]


class Marked:
    """The same mistakes in a class."""

    @on("text")  # type: ignore[type-var]
    def text_by_name(self, event: events.Binary) -> None: ...

    @on(events.Text)  # type: ignore[type-var]
    def text_by_class(self, event: events.Binary) -> None: ...

    @on("text", "binary")  # type: ignore[type-var]
    def only_text(self, event: events.Text) -> None: ...

    @on("text")  # type: ignore[type-var]
    def too_few(self) -> None: ...

    @on("message")  # type: ignore[call-overload,untyped-decorator]
    def unknown(self, event: Any) -> None: ...


class Overridden(WebSocketApp):
    """Methods whose parameter is another event."""

    def on_text(self, event: events.Binary) -> None:  # type: ignore[override]
        ...

    def on_event(self, event: events.Text) -> None:  # type: ignore[override]
        ...


# Attributes that an event does not have, and values that one cannot have.

for each in WebSocket("wss://feed.example.org"):
    content: Any = each.text  # type: ignore[union-attr]
    if each.name == "text":
        content = each.code  # type: ignore[attr-defined]
    is_message = each.name == "message"  # type: ignore[comparison-overlap]
    if isinstance(each, events.Disconnected):
        is_ours = each.ended_by == "me"  # type: ignore[comparison-overlap]


# Routes.

@app.route(type="ticker")  # type: ignore[type-var]
def routed(event: events.Ready) -> None: ...


class Routed(WebSocketApp):
    @route(type="ticker")  # type: ignore[type-var]
    def routed(self, event: events.Ready) -> None: ...
