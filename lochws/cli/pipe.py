"""`lochws connect` in a pipe: a line in is a message, a message is a line out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from .. import Backoff, WebSocketApp, events
from ..errors import QueueFull, TransportFail, WebSocketUnavailable
from ..text import escaped
from .exits import Exit, Failed, Outcome
from .lines import LineOutput, lines_of
from .payloads import Payloads
from .shown import as_json, as_object, one_line
from .target import running

#: How often it is looked whether anything still moves, in seconds.
LOOK_SECONDS = 0.25
#: How long the closing handshake may take once nobody wants what comes.
HURRY_SECONDS = 1.0

#: What the ping behind the last line says.
_END = b"end of input"


class Pipe:
    """One run, from the first line to the end of the connection.

    The calling thread waits, a thread of its own reads the input, and the app's reader writes the output. A
    slow reader of the output holds the server back, and a slow server holds whoever writes the input back.

    Args:
        app: with ``when_full="block"``; started and ended in here.
        source: the descriptor of the input.
        target: the descriptor of the output.
        payloads: how lines and messages become one another.
        json: write every event as an object of JSON, not only messages.
        is_shown: whether the output is a terminal: then what it could obey is escaped.
        stay: behind the end of the input, the connection is closed once the server has answered a ping and no
            message has come for so many seconds; None for until the server closes. (A Close frame right away
            would do for servers that answer in order. Some do not: they answer the Close frame while messages
            still wait for their handler, whose answers then cannot be sent any more.)
        count: close once so many messages have come; None for no such end.
        patience: seconds in which nothing moves, until the server's pong or Close frame; None for no limit.
    """

    def __init__(
        self, app: WebSocketApp, source: int, target: int, payloads: Payloads, *,
        json: bool = False, is_shown: bool = False, stay: float | None = 0.5, count: int | None = None,
        patience: float | None = 30.0,
    ) -> None:
        self._app = app
        self._source = source
        self._output = LineOutput(target)
        self._payloads = payloads
        self._as_line: Callable[[str], str] = escaped if is_shown else one_line
        self._stay = stay
        self._wanted = count
        self._came = 0  # the reader's
        self._has_read = threading.Event()  # the server has, all that was sent
        self._patience = patience
        self._persists = False
        self._unsent: tuple[str | bytes, ...] = ()
        # Written by the reader or the thread of the input, whichever fails first; read by the calling thread.
        self._failure: Failed | None = None
        self._outcome = Outcome()
        app.add_handler(self._outcome)
        app.add_handler(self)
        if json:
            app.on("event")(self._write_event)
        else:
            app.on("batch")(self._write_batch)

    def run(self, *, persist: bool | Backoff, ping_rate: float | None) -> Exit:
        """All of it. Blocks until the connection is over.

        Raises:
            Failed: it came to no good end; says why, with its exit code.
        """
        self._persists = bool(persist)
        # No limit for the handshake but ours: what the server still sends may take any time.
        with running(
            self._app, HURRY_SECONDS, poll=None, ping_rate=ping_rate, close_timeout=None, persist=persist
        ):
            threading.Thread(target=self._feed, name="lochws-input", daemon=True).start()
            self._wait()
        if self._failure is not None:
            raise self._failure
        code = self._outcome.result()
        if self._wanted is not None and self._came < self._wanted:
            raise Failed(f"the server closed after {self._came:,} of {self._wanted:,} messages", Exit.LOST)
        return code

    # On the reader thread.

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Keep what was not sent, for the connection that follows."""
        self._unsent = event.unsent if self._persists else ()

    def on_ready(self, event: events.Ready) -> None:
        """Send first what the last connection did not."""
        unsent, self._unsent = self._unsent, ()
        if unsent:
            try:
                self._app.send_many(unsent)
            except (QueueFull, TransportFail, WebSocketUnavailable) as error:
                self._fail(Failed(f"{len(unsent):,} messages were not sent: {error}", Exit.LOST))

    def on_pong(self, event: events.Pong) -> None:
        """The server has read what was sent before the ping."""
        if event.data == _END:
            self._has_read.set()

    def _write_event(self, event: events.Event) -> None:
        is_message = isinstance(event, (events.Text, events.Binary))
        if self._failure is None and (not is_message or self._wants(1)):
            self._write(as_json(as_object(event)) + "\n")

    def _wants(self, count: int) -> int:
        """How many of so many messages are wanted; closes when the last of them has come."""
        if self._wanted is None:
            return count
        count = min(count, self._wanted - self._came)
        self._came += count
        if self._came == self._wanted:
            self._app.close()
        return count

    def _write_batch(self, batch: list[events.Text | events.Binary]) -> None:
        if self._failure is not None:
            return  # nobody wants them
        try:
            lines = list(map(self._line, batch[:self._wants(len(batch))]))
        except Failed as failed:
            self._fail(failed)
        else:
            self._write("\n".join([*lines, ""]))

    def _line(self, event: events.Text | events.Binary) -> str:
        if isinstance(event, events.Text):
            return self._as_line(event.text)
        return self._payloads.written(event.data)

    def _write(self, text: str) -> None:
        try:
            self._output.write(text)
        except Failed as failed:
            self._fail(failed)

    # On the thread of the input.

    def _feed(self) -> None:
        try:
            self._app.wait_ready()  # closing before would call the attempt off
            number = 1
            for lines in lines_of(self._source):
                if not self._send(self._messages(lines, number)):
                    return
                number += len(lines)
            self._linger()
        except Failed as failed:
            self._fail(failed)
        except Exception as error:  # noqa: BLE001  the calling thread raises it
            self._outcome.on_error(error)
        finally:
            self._app.close()

    def _messages(self, lines: list[bytes], number: int) -> list[str | bytes]:
        messages: list[str | bytes] = []
        for line in lines:
            try:
                messages.append(self._payloads.message(line, f"line {number + len(messages)} of the input"))
            except Failed:
                self._send(messages)  # those before it are good
                raise
        return messages

    def _send(self, messages: list[str | bytes]) -> bool:
        """Send them, on the next connection if need be. Returns False if there is none to come."""
        while self._app.wait_ready():
            try:
                return self._app.send_many(messages)
            except (WebSocketUnavailable, TransportFail):
                # It has just ended, or is closing. Nothing was accepted.
                self._app.wait_closed(LOOK_SECONDS)
            except QueueFull:
                raise Failed("the lines that came together are too large to be sent at once") from None
        return False

    def _linger(self) -> None:
        """Wait until the server has said what it has to say."""
        if self._stay is None:
            self._app.wait_closed()
            return
        look = min(LOOK_SECONDS, self._stay / 4)
        moved, at, asked_on = -1, monotonic(), 0
        while self._app.wait_ready() and not self._app.wait_closed(look):
            counters = self._app.counters
            if asked_on != counters.connections:  # behind what was sent, also what was sent again
                asked_on = counters.connections
                self._ask()
            sign = self._output.written + counters.messages_received + counters.bytes_sent
            if sign != moved or self._output.is_writing:
                moved, at = sign, monotonic()
            limit = self._stay if self._has_read.is_set() else self._patience
            if limit is not None and monotonic() - at >= limit:
                return

    def _ask(self) -> None:
        self._has_read.clear()
        try:
            self._app.send_ping(_END)
        except (WebSocketUnavailable, TransportFail, QueueFull):
            pass  # the connection is ending: the next one is asked

    # On the calling thread.

    def _wait(self) -> None:
        moved, at = -1, monotonic()
        while not self._app.wait_closed(LOOK_SECONDS):
            now = monotonic()
            sign = self._output.written + self._app.counters.bytes_received + self._app.counters.bytes_sent
            if sign != moved or self._output.is_writing or not self._app.close_called.is_set():
                moved, at = sign, now
            limit = HURRY_SECONDS if self._failure is not None else self._patience
            if limit is not None and now - at > limit:
                self._app.force_disconnect()
        self._app.join()

    def _fail(self, failed: Failed) -> None:
        self._failure = self._failure or failed
        self._app.close()
