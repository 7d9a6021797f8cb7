"""Heartbeats: messages that a protocol wants at regular intervals, and answers to the server's own.

::

    Every(app, 30, {"op": "ping"}, expect={"op": "pong"})   # two missing replies drop the connection
    Answer(app, {"op": "ping"}, {"op": "pong"})             # the server asks, even during session setup

These are messages of the application's protocol. The pings of WebSocket itself (RFC 6455 section 5.5.2) need
none of this: lochws sends and answers them automatically.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeAlias

from .. import WebSocketApp, events
from ..base.callables import check_takes
from ..errors import QueueFull, TransportFail, WebSocketError, WebSocketUnavailable
from ..life.calls import ScheduledCall
from ..life.gate import Gate
from ..options import check_choice, check_number, check_range
from ..system import forks
from ..system.rate_limit import RateLimit
from ._parts.checks import check_app
from ._parts.departures import Departures
from ._parts.incoming import Incoming
from ._parts.lines import report_about
from ._parts.messages import (
    Doubts,
    Expected,
    Message,
    as_payload,
    check_expected,
    check_message,
    fits,
    is_message,
    kind_of,
)
from .packets import Split

__all__ = ["Answer", "Every"]

#: The shortest interval in seconds: a server that dictates a shorter one cannot keep the app busy.
MIN_SECONDS = 0.01

#: An interval, or a function of an event that returns it, or None if the event does not tell.
Interval: TypeAlias = "float | Callable[[Any], float | None] | None"
#: A heartbeat, or a function that makes one.
Beat: TypeAlias = "Message | Callable[[], Message | Future[Any] | None]"


class Every:
    """Sends a heartbeat at regular intervals while there is a session. Registers itself with the app.

    The first heartbeat is sent one interval after the session (or the connection) is ready, the last before
    it ends. The next connection begins anew, so there is never more than one series. Replies, if any are
    expected, are checked when a heartbeat is due: if none of the last `missing` heartbeats has had a reply,
    this is logged, the connection is dropped, and the app reconnects as after any loss.

    Everything runs on the handlers' thread, so a handler that blocks delays heartbeats; a reply that waits
    behind it is not counted as missing. Neither is that of a heartbeat which has not left the send queue yet,
    because the network is slow or the budget of the option `rate` is used up; meanwhile no other is sent.

    Args:
        app: the app.
        seconds: the interval in seconds, at least 0.01; 0 or None for no heartbeats until `seconds` is set.
            If the server dictates the interval: a function that is called with the events `Ready`, `Text` and
            `Binary` of each connection, until it returns the seconds (0 for no heartbeats on this connection,
            at least 0.01 otherwise) and not None. If it raises an exception, the event counts as unrelated.
        message: text, bytes, or a mapping or list that is sent as JSON; or a function that is called without
            arguments for each heartbeat and returns one of these. It may return None to leave this heartbeat
            out. It may also send a request itself and return its reply, a `concurrent.futures.Future` (see
            `lochws.handlers.replies`), which counts as the reply to the heartbeat when it succeeds.
        expect: the reply, described as in `lochws.handlers.subscriptions.Step`: text, bytes, fields of a JSON
            object, the first elements of a JSON array, or a function of the `Text` or `Binary` event. If the
            function raises an exception, the message counts as unrelated. None: no reply is expected.
        missing: how many heartbeats in a row may remain without a reply before the connection is dropped.
        begins: ``"session"`` to begin once ordinary sends are allowed (when all steps of a `Subscriptions`
            have been answered), ``"connection"`` to begin with Ready and pass closed gates.
        split: for protocols that treat messages as one stream of bytes; see
            `lochws.handlers.packets.Packets`. `seconds` and `expect` then get a `Binary` per packet.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    def __init__(
        self,
        app: WebSocketApp,
        seconds: Interval,
        message: Beat,
        *,
        expect: Expected | None = None,
        missing: int = 2,
        begins: Literal["session", "connection"] = "session",
        split: Split | None = None,
    ) -> None:
        check_app(app)
        if callable(message):
            check_takes("message", message, 0)
        elif is_message(message):
            check_message("message", message, app.hooks.codec)
        else:
            raise TypeError(f"message={message!r}: expected str, bytes, a mapping, a list or a function")
        if callable(seconds):
            check_takes("seconds", seconds, 1)
        if expect is not None:
            check_expected("expect", expect)
        check_range("missing", missing, 1)
        check_choice("begins", begins, ("session", "connection"))
        self._ask = seconds if callable(seconds) else None
        self._given = None if callable(seconds) else _as_interval("seconds", seconds)
        self._app = app
        self._message = message
        self._expect = expect
        self._missing = missing
        self._waits_for_session = begins == "session"
        self._incoming = Incoming(app, split)
        self._codec = app.hooks.codec
        self._kind = kind_of(app)
        self._doubts = Doubts()
        self._drops = RateLimit(burst=3, per_second=1 / 10)
        # Written on the handlers' thread; `seconds` also by the thread that sets it.
        self._interval = self._given  # on this connection
        self._is_asking = False  # whether the function has not told the interval of this connection yet
        self._ready: events.Ready | None = None
        self._has_begun = False
        self._unanswered = 0
        self._waiting: object = None  # identifies the heartbeat that is in the send queue, if one is
        self._departures = Departures(app)
        self._timer: ScheduledCall | None = None
        self._listens = False
        self._has_left = False
        forks.register(self)
        self._gate = _open_gate(app)
        self._gate.when_all_open(self._gates_opened)
        app.add_handler(self)

    # Any thread.

    @property
    def seconds(self) -> float | None:
        """The interval in seconds, or None while heartbeats are off or have not begun. It may be set.

        A new interval begins when it is set. It also applies to later connections, unless a function tells
        theirs.

        Raises:
            TypeError, ValueError: the value is neither None, nor 0, nor a finite number of at least 0.01.
        """
        return self._interval

    @seconds.setter
    def seconds(self, seconds: float | None) -> None:
        interval = _as_interval("seconds", seconds)
        if self._ask is None:
            self._given = interval
        self._interval = interval
        self._is_asking = False
        self._soon(self._arm)

    @property
    def is_running(self) -> bool:
        """True if there is a session (or a connection) and an interval, so that heartbeats are being sent."""
        return self._has_begun and self._interval is not None

    @property
    def unanswered(self) -> int:
        """The number of heartbeats in a row that have had no reply so far."""
        return self._unanswered

    def beat(self) -> None:
        """Send a heartbeat now, on the handlers' thread, and begin a new interval. Never blocks.

        Nothing is sent while there is no session (or connection, with ``begins="connection"``). If an earlier
        heartbeat has had no reply so far, this one does not count as another that has none, and the interval
        goes on: however often this is called, a server has the usual time to reply.
        """
        self._soon(self._beat_early)

    def leave(self) -> None:
        """Stop for good, and stop handling events. Never blocks."""
        self._has_left = True
        with suppress(ValueError):  # leave() was called before
            self._app.remove_handler(self)
        with suppress(ValueError):
            self._gate.forget(self._gates_opened)
        self._soon(self._end)

    def reset_after_fork(self) -> None:
        """Stop in the child of a fork: the connection is the parent's."""
        self._ready = self._timer = self._waiting = None
        self._has_begun = False
        self._unanswered = 0
        self._incoming.clear()

    def _gates_opened(self) -> None:
        """Begin, now that other sends are allowed. Called by the thread that opened the last gate."""
        if self._waits_for_session:
            self._soon(self._begin)

    def _soon(self, function: Callable[[], object]) -> None:
        if self._app.in_handler:
            function()
            return
        with suppress(WebSocketError):  # the app is not running
            self._app.call_later(0, function)

    # The handlers' thread.

    def on_ready(self, event: events.Ready) -> None:
        """Begin, unless there is a session to wait for."""
        self._end()
        self._ready = event
        self._interval = self._given
        self._incoming.clear()
        self._is_asking = self._ask is not None
        if self._is_asking or self._incoming.is_stream:
            self._listen()
        if not self._waits_for_session or self._app.is_active:
            self._begin()
        if self._is_asking:  # last, because it raises an exception if the function returns nonsense
            self._ask_interval(event)
            self._rest()

    def on_disconnected(self, _event: events.Disconnected) -> None:
        """Stop, until the next connection."""
        self._end()

    def _begin(self) -> None:
        may_begin = self._app.is_active or not self._waits_for_session
        if self._ready is not None and may_begin and not (self._has_begun or self._has_left):
            self._has_begun = True
            self._arm()

    def _arm(self) -> None:
        """Schedule the next heartbeat in place of the one that is scheduled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._has_begun and self._interval is not None:
            with suppress(WebSocketError):  # the app has stopped
                self._timer = self._app.call_later(self._interval, self._beat)

    def _end(self) -> None:
        self._ready = self._waiting = None
        self._has_begun = False
        self._unanswered = 0
        self._departures.clear()
        self._arm()
        self._stop_listening()

    def _beat(self) -> None:
        ready = self._ready
        if ready is None or not self._has_begun:
            return
        # One more is allowed if a reply may be among the messages that wait behind a slow handler.
        allowed = self._missing + (1 if self._app.waiting_bytes else 0)
        if self._unanswered >= allowed:
            self._drop()
            return
        self._arm()  # first, so that an exception of the user's function does not end the heartbeats
        self._make_and_send(ready, counts=True)

    def _beat_early(self) -> None:
        """Send a heartbeat that was asked for; it does not count as another without a reply."""
        ready = self._ready
        if ready is None or not self._has_begun:
            return
        counts = not self._unanswered
        if counts:
            self._arm()
        self._make_and_send(ready, counts)

    def _make_and_send(self, ready: events.Ready, counts: bool) -> None:
        """Make and send a heartbeat, unless one is in the send queue.

        Args:
            ready: the connection.
            counts: whether it counts as one without a reply, until the reply arrives.
        """
        if self._waiting is not None:
            return
        message = self._message() if callable(self._message) else self._message
        if message is None or self._ready is not ready:
            return
        if isinstance(message, Future):
            self._unanswered += counts
            message.add_done_callback(partial(self._future_done, ready))
            return
        self._send(as_payload("the heartbeat's function", message, self._codec), counts)

    def _send(self, payload: str | bytes, counts: bool) -> None:
        self._waiting = heartbeat = object()
        if self._expect is not None:  # before sending: the reply may be fast
            self._listen()
        try:
            left = partial(self._departed, heartbeat, counts)
            was_accepted = self._departures.send(self._gate.send, payload, left)
        except QueueFull:
            was_accepted = False
        except (WebSocketUnavailable, TransportFail):
            self._end()  # closing or lost, which the Disconnected event reports
            return
        if not was_accepted:
            self._waiting = None
            _report_full(self._app, "a heartbeat", self._drops)

    def _departed(self, heartbeat: object, counts: bool) -> None:
        """Count a heartbeat that has left the send queue as unanswered, unless its reply has arrived."""
        if self._waiting is heartbeat:
            self._waiting = None
            if self._expect is not None:
                self._unanswered += counts

    def _drop(self) -> None:
        count = "a heartbeat" if self._unanswered == 1 else f"{self._unanswered} heartbeats in a row"
        words = f"no reply to {count}"
        report_about(
            self._app, logging.WARNING, "heartbeat_lost", "disconnecting: %s%s", words, self._doubts,
            ws_reason=words,
        )
        self._end()
        self._app.force_disconnect(words)

    def _future_done(self, ready: events.Ready, future: Future[Any]) -> None:
        if self._ready is ready and not future.cancelled() and future.exception() is None:
            self._unanswered = 0

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._app.on("event")(self._received)

    def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            self._app.remove_handler(self._received)

    def _received(self, event: events.Event) -> None:
        for message in self._incoming.of(event):
            if self._ready is None:
                return
            if self._is_asking:
                self._ask_interval(message)
            if self._is_reply(message):
                self._unanswered = 0
                self._waiting = None
                self._doubts.clear()
        self._rest()

    def _rest(self) -> None:
        """Stop listening unless a message may tell the interval, or a reply, or is part of a stream."""
        is_expecting = self._unanswered or self._waiting is not None
        if not (self._is_asking or is_expecting or self._incoming.is_stream):
            self._stop_listening()

    def _is_reply(self, message: events.Text | events.Binary) -> bool:
        if self._expect is None or not (self._unanswered or self._waiting):
            return False
        try:
            return fits(self._expect, message, self._kind)
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._expect, error)
            return False

    def _ask_interval(self, event: events.Event) -> None:
        """Ask the user's function whether an event tells the interval."""
        assert self._ask is not None
        try:
            seconds = self._ask(event)
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._ask, error)
            return
        if seconds is None:
            return
        self._is_asking = False
        self._interval = _as_interval("seconds: the function returned", seconds, shortest=0.0)
        self._arm()


class Answer:
    """Answers the heartbeats of a server, even while gates are closed. Registers itself with the app.

    Each message is compared with `ping`, on the handlers' thread, before the app's other handlers see it. A
    handler that blocks delays the answers.

    Args:
        app: the app.
        ping: the server's message, described as in `lochws.handlers.subscriptions.Step`: text, bytes, fields
            of a JSON object, the first elements of a JSON array, or a function of the `Text` or `Binary`
            event. If the function raises an exception, the message counts as unrelated.
        pong: the answer: text, bytes, or a mapping or list that is sent as JSON; or a function that is passed
            the server's message, the `Text` or `Binary` event, and returns one of these, or None for no
            answer. Its exceptions are treated like those of a handler.
        split: for protocols that treat messages as one stream of bytes; see
            `lochws.handlers.packets.Packets`. The functions then get a `Binary` per packet.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    def __init__(
        self,
        app: WebSocketApp,
        ping: Expected,
        pong: Message | Callable[[Any], Message | None],
        *,
        split: Split | None = None,
    ) -> None:
        check_app(app)
        check_expected("ping", ping)
        if callable(pong):
            check_takes("pong", pong, 1)
        elif is_message(pong):
            check_message("pong", pong, app.hooks.codec)
        else:
            raise TypeError(f"pong={pong!r}: expected str, bytes, a mapping, a list or a function")
        self._app = app
        self._ping = ping
        self._pong = pong
        self._incoming = Incoming(app, split)
        self._codec = app.hooks.codec
        self._kind = kind_of(app)
        self._doubts = Doubts()
        self._drops = RateLimit(burst=3, per_second=1 / 10)
        self._gate = _open_gate(app)
        app.add_handler(self)

    def leave(self) -> None:
        """Stop answering, and stop handling events. Any thread may call it; it never blocks."""
        with suppress(ValueError):  # leave() was called before
            self._app.remove_handler(self)

    def on_event(self, event: events.Event) -> None:
        """Answer the message if it is a heartbeat. (`on_text` is not called if a handler takes batches.)"""
        if isinstance(event, events.Ready):
            self._incoming.clear()
            return
        for message in self._incoming.of(event):
            if not self._is_ping(message):
                continue
            answer = self._pong(message) if callable(self._pong) else self._pong
            if answer is not None:
                self._send(as_payload("pong", answer, self._codec))

    def _send(self, payload: str | bytes) -> None:
        try:
            was_accepted = self._gate.send(payload)
        except QueueFull:
            was_accepted = False
        except (WebSocketUnavailable, TransportFail):
            return  # closing or lost, which the Disconnected event reports
        if not was_accepted:
            _report_full(self._app, "the answer to a heartbeat", self._drops)

    def _is_ping(self, message: events.Text | events.Binary) -> bool:
        try:
            return fits(self._ping, message, self._kind)
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._ping, error)
            return False


def _as_interval(name: str, seconds: float | None, shortest: float = MIN_SECONDS) -> float | None:
    """Return an interval in seconds, or None for no heartbeats.

    Raises:
        TypeError, ValueError: it is not a number, or between 0 and `shortest`, or negative, or not finite.
    """
    if seconds is None:
        return None
    check_number(name, seconds, 0, "0 seconds or more, or None")
    if 0 < seconds < shortest:
        raise ValueError(f"{name}={seconds!r}: expected 0, or at least {shortest:g} seconds")
    return max(float(seconds), MIN_SECONDS) if seconds else None


def _open_gate(app: WebSocketApp) -> Gate:
    """Return an open gate, through which messages pass the closed gates of others."""
    gate = app.hooks.gate()
    gate.remove()
    return gate


def _report_full(app: WebSocketApp, name: str, limit: RateLimit) -> None:
    text = "%s was dropped: the send queue is full"
    report_about(app, logging.WARNING, "heartbeat_dropped", text, name, limit=limit)
