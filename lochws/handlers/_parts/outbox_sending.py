"""Sending side of an outbox: messages in flight, their confirmations, and what is in doubt afterwards.

It takes messages from the ledger, a window of them at most, sends them over the connection in use, and tells
the ledger what became of them. It keeps no messages of a connection that has ended.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import time
from typing import Any, Literal, NamedTuple, TypeAlias

from ... import Feed, Receipt, ReceiptState, WebSocketApp, events
from ...errors import QueueFull, TransportFail, WebSocketError, WebSocketUnavailable
from ...life.calls import ScheduledCall
from ...options import MIB
from ...system.rate_limit import RateLimit
from ...system.report import report, safe_name
from .lines import report_about
from .messages import Doubts
from .outbox_keepers import Keeper
from .outbox_ledger import End, Return, Take
from .outbox_messages import Fate, OutboxMessage, as_str

#: What confirms a message: a receipt, the operating system, or a function of received messages.
Confirm: TypeAlias = "Literal['receipt', 'written'] | Callable[[Any], _Ids]"
_Ids: TypeAlias = "str | int | bool | Iterable[str | int] | None"

#: Seconds until a full send queue is tried again, and between two looks at what has been written.
LOOK_SECONDS = 0.05
#: The largest size of the messages that are taken from the ledger at once, in bytes.
MAX_BYTES = 4 * MIB
#: Time limits are counted in this many parts.
_PARTS = 4


class Rules(NamedTuple):
    """The arguments of an outbox that concern sending; `lochws.handlers.outbox.Outbox` describes them."""

    confirm: Confirm
    on_in_doubt: Callable[[OutboxMessage], object] | None
    window: int
    timeout: float | None


class Flight:
    """A message that was sent and is not confirmed."""

    __slots__ = ("leg", "message", "receipt", "sent_in")

    def __init__(self, message: OutboxMessage, leg: WebSocketApp, receipt: Receipt, sent_in: int) -> None:
        self.message = message
        self.leg = leg
        self.receipt = receipt
        self.sent_in = sent_in  # the part of the time limit


class Sending:
    """Sends the messages of a ledger. For the handlers' thread, except `wake` and `stop`.

    Args:
        app: the app or the feed.
        keeper: runs the steps of the ledger.
        rules: the arguments of the outbox that concern sending.
    """

    def __init__(self, app: WebSocketApp | Feed, keeper: Keeper, rules: Rules) -> None:
        self._app = app
        self._keeper = keeper
        self._rules = rules
        self._function = rules.confirm if callable(rules.confirm) else None
        self._marks = rules.on_in_doubt is not None
        self.sent = self.doubts = 0
        self._is_stopped = False
        self._is_woken = False
        self._is_taking = False
        self._arrived: deque[list[OutboxMessage]] = deque()  # any thread appends
        self._buffer: deque[OutboxMessage] = deque()
        self._flights: dict[int, Flight] = {}
        self._by_id: dict[str, list[Flight]] = {}
        self._legs: dict[WebSocketApp, list[Callable[[Any], object]]] = {}  # with our handlers
        self._timers: dict[str, ScheduledCall] = {}  # those that run
        self._part = 0
        self._unrelated = Doubts()
        self._lines = RateLimit()
        self._gate = app.hooks.gate() if isinstance(app, WebSocketApp) else None
        if self._gate is not None:
            self._gate.remove()
            self._gate.when_all_open(self.wake)
        app.on("ready")(self._ready)
        if isinstance(app, WebSocketApp):
            self._join(app)

    @property
    def in_flight(self) -> int:
        """The number of messages that have been sent and are not confirmed. Any thread."""
        return len(self._flights)

    # Any thread.

    def wake(self) -> None:
        """Have messages sent soon, if there are any and the session is ready."""
        if self._is_woken or self._is_stopped:
            return
        self._is_woken = True
        try:
            self._app.call_later(0, self._pump)
        except WebSocketError:  # not running; Ready wakes again
            self._is_woken = False

    def stop(self) -> None:
        """Send nothing more."""
        self._is_stopped = True
        with suppress(ValueError):
            self._app.remove_handler(self._ready)
        if self._gate is not None:
            with suppress(ValueError):
                self._gate.forget(self.wake)
        for leg in list(self._legs):  # copied in one step, unlike by tuple(): the handlers' thread adds
            self._part_from(leg)

    def _taken(self, messages: list[OutboxMessage]) -> None:
        self._arrived.append(messages)
        # Not `wake`: that may have been asked for by a call that is no longer made.
        with suppress(WebSocketError):  # the app has stopped; they are returned after the next Ready
            self._app.call_later(0, self._pump)

    # The handlers' thread.

    def _ready(self, _event: events.Ready) -> None:
        self._is_woken = False
        for timer in self._timers.values():  # if the app has stopped meanwhile, they will never run
            timer.cancel()
        self._timers.clear()
        if self._flights:  # of another connection of a feed
            self._start_timers()
        self.wake()

    def _start_timers(self) -> None:
        if self._rules.confirm == "written":
            self._later("look", LOOK_SECONDS, self._look)
        elif (timeout := self._rules.timeout) is not None:
            self._later("timeout", timeout / _PARTS, self._count_time)

    def _join(self, leg: WebSocketApp) -> None:
        """Note what happens on the connections that messages are sent over."""
        handlers: list[Callable[[Any], object]] = [partial(self._ended, leg)]
        leg.on("disconnected")(handlers[0])
        if self._function is not None:
            handlers.append(partial(self._received, self._function, leg))
            leg.on("event")(handlers[1])
        self._legs[leg] = handlers

    def _part_from(self, leg: WebSocketApp) -> None:
        for handler in self._legs.pop(leg, ()):
            with suppress(ValueError):
                leg.remove_handler(handler)

    def _pump(self) -> None:
        """Send what can be sent, and take more from the ledger."""
        self._is_woken = False
        while self._arrived:
            self._is_taking = False
            self._buffer.extend(self._arrived.popleft())
        if self._is_stopped:
            return
        if not self._app.is_active:
            self._return_buffer()
            return
        while self._buffer and self._send(self._buffer[0]):
            pass
        if self._rules.confirm == "written":
            self._look()
        ledger = self._keeper.ledger
        room = self._rules.window - len(self._flights) - len(self._buffer)
        is_worth_it = room >= max(1, self._rules.window // 2) and ledger.waiting > 0
        if is_worth_it and not self._is_taking and ledger.failure is None:
            self._is_taking = True
            self._keeper.ask(Take(room, MAX_BYTES, self._marks, self._taken))

    def _send(self, message: OutboxMessage) -> bool:
        """Send the first message of the buffer, or drop it; return False if it must wait."""
        fate: Fate | None = None
        if message.was_sent and self._marks:  # by an earlier run of the program
            self._buffer.popleft()
            self._tell([message])
            return True
        if message.number in self._keeper.ledger.outdated:
            fate = "superseded"
        elif message.expires_at is not None and message.expires_at <= time():
            fate = "expired"
        if fate is not None:
            self._buffer.popleft()
            self._keeper.ask(End([message], fate))
            return True
        wait: float | None = LOOK_SECONDS
        try:
            leg = self._app.app if isinstance(self._app, Feed) else self._app
            if leg not in self._legs:
                self._join(leg)
            if isinstance(message.payload, str):
                receipt = leg.send_text(message.payload, receipt=True)
            else:
                receipt = leg.send_binary(message.payload, receipt=True)
            if receipt.state is not ReceiptState.UNSENT:  # else the full queue has dropped it
                self._buffer.popleft()
                self._take_off(Flight(message, leg, receipt, self._part))
                return True
        except QueueFull:
            pass
        except (WebSocketUnavailable, TransportFail):
            wait = None  # Ready or Disconnected follows
        except BaseException as error:  # noqa: BLE001  a subclass may override these methods
            words = "a message of an outbox cannot be sent; trying again"
            report(logging.ERROR, words, error=error, limit=self._lines)
            wait = 1.0
        if wait is not None:
            self._later("pump", wait, self._pump)
        return False

    def _take_off(self, flight: Flight) -> None:
        self.sent += 1
        self._flights[flight.message.number] = flight
        if self._function is not None:
            self._by_id.setdefault(flight.message.id, []).append(flight)
        elif self._rules.confirm == "receipt":
            flight.receipt.add_done_callback(partial(self._settled, flight))
        self._start_timers()

    def _settled(self, flight: Flight, receipt: Receipt) -> None:
        if receipt.state is ReceiptState.CONFIRMED:
            self._confirm([flight])

    def _received(
        self, function: Callable[[Any], object], leg: WebSocketApp, event: events.Event
    ) -> None:
        """Confirm the messages that this one is the reply to."""
        if not self._flights or not isinstance(event, (events.Text, events.Binary)):
            return
        try:
            found: Any = function(event)
            if found is None or found is False:
                return
            if found is True:
                first = next((flight for flight in self._flights.values() if flight.leg is leg), None)
                self._confirm([] if first is None else [first])
                return
            if isinstance(found, (bytes, bytearray, memoryview)):  # else its numbers would be taken for ids
                raise TypeError("confirm returned bytes: expected an id, several ids, True or None")
            ids = [found] if isinstance(found, (str, int)) else found
            names = (as_str(one) if isinstance(one, str) else str(one) for one in ids)
            self._confirm([flight for name in names for flight in self._by_id.get(name, ())])
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._unrelated.add(function, error)

    def _look(self) -> None:
        """Confirm the messages that have been written, if ``confirm="written"`` asks for no more."""
        waiting = ReceiptState.QUEUED, ReceiptState.UNSENT
        self._confirm([one for one in self._flights.values() if one.receipt.state not in waiting])
        if self._flights:
            self._start_timers()

    def _confirm(self, flights: list[Flight]) -> None:
        landed = [flight.message for flight in flights if self._land(flight)]
        if landed:
            self._keeper.ask(End(landed, "confirmed"))
            self.wake()

    def _land(self, flight: Flight) -> bool:
        """Forget that a message is in flight; return False if that was forgotten before."""
        if self._flights.pop(flight.message.number, None) is None:
            return False
        if (of_id := self._by_id.get(flight.message.id)) is not None:
            of_id.remove(flight)
            if not of_id:
                del self._by_id[flight.message.id]
        return True

    def _ended(self, leg: WebSocketApp, _event: events.Disconnected) -> None:
        """Decide on the messages that were sent over a connection which has ended."""
        if self._is_stopped:
            return
        if leg is not self._app:
            self._part_from(leg)
        unsent, doubtful, written = [], [], []
        for flight in [flight for flight in self._flights.values() if flight.leg is leg]:
            state = flight.receipt.state
            if state is ReceiptState.UNSENT:
                self._land(flight)
                unsent.append(flight.message)
            elif self._rules.confirm == "written" or (
                self._rules.confirm == "receipt" and state is ReceiptState.CONFIRMED
            ):
                written.append(flight)
            else:
                self._land(flight)
                doubtful.append(flight.message)
        self._confirm(written)
        self._return(unsent)
        if doubtful:
            self.doubts += len(doubtful)
            if self._marks:
                self._tell(doubtful)
            else:
                self._return(doubtful)
        if self._app.is_active:  # another connection of the feed
            self.wake()
        else:
            self._return_buffer()

    def _return(self, messages: list[OutboxMessage]) -> None:
        if messages:
            self._keeper.ask(Return(messages, self._marks, self.wake))

    def _return_buffer(self) -> None:
        """Return the messages that could not be sent. The next connection takes them again, in order."""
        doubtful = [message for message in self._buffer if message.was_sent and self._marks]
        self._return([message for message in self._buffer if not (message.was_sent and self._marks)])
        self._buffer.clear()
        self._tell(doubtful)

    def _tell(self, messages: list[OutboxMessage]) -> None:
        """Pass messages in doubt to the user's function. They are removed after that."""
        function = self._rules.on_in_doubt
        for message in messages:
            try:
                if function is not None:
                    function(message)
            except BaseException as error:  # noqa: BLE001  each must be told
                name = safe_name(function)
                report(logging.ERROR, "on_in_doubt of an outbox, %s, failed", name, error=error)
        if messages:
            self._keeper.ask(End(messages, "told"))

    # Timers.

    def _later(self, name: str, seconds: float, function: Callable[[], object]) -> None:
        """Call a function later, unless the timer of this name runs already."""
        if name not in self._timers:
            call = partial(self._time_has_come, name, function)
            with suppress(WebSocketError):  # the app has stopped
                self._timers[name] = self._app.call_later(seconds, call)

    def _time_has_come(self, name: str, function: Callable[[], object]) -> None:
        self._timers.pop(name, None)
        if not self._is_stopped:
            function()

    def _count_time(self) -> None:
        """Drop connections on which a message has not been confirmed in time."""
        self._part += 1
        late: dict[WebSocketApp, int] = {}
        for flight in self._flights.values():
            parts = self._part - flight.sent_in
            if flight.receipt.state is ReceiptState.QUEUED:
                flight.sent_in = self._part  # it has not left
            elif parts > _PARTS * (2 if flight.leg.waiting_bytes else 1):  # a handler may delay the reply
                late[flight.leg] = late.get(flight.leg, 0) + 1
        for leg, count in late.items():
            words = f"no confirmation within {self._rules.timeout:g} s (messages of the outbox: {count})"
            report_about(leg, logging.WARNING, "not_confirmed", "disconnecting: %s", words)
            leg.force_disconnect(words)
        if self._flights:
            self._start_timers()
