"""`lochws connect` in a pipe: input lines are sent as messages, and received messages are output lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from .. import Backoff, WebSocketApp, events
from ..errors import QueueFull, TransportFail, WebSocketUnavailable
from ..text import escaped
from .exits import Ending, Exit, Failed
from .highlight import colored
from .lines import LineOutput, lines_of
from .payloads import Payloads
from .shown import as_json, as_object, one_line, timestamp
from .target import running

#: The interval between checks for progress, in seconds.
LOOK_SECONDS = 0.25
#: The time limit for the closing handshake, in seconds, once further messages are no longer needed.
HURRY_SECONDS = 1.0

#: The payload of the ping sent after the last line.
_END = b"end of input"


class Pipe:
    """One run, from the first line to the end of the connection.

    The calling thread waits, a dedicated thread reads the input, and the app's reader thread writes the
    output. A slow reader of the output slows the server down, and a slow server slows down the writer of the
    input.

    Args:
        app: the app, created with ``when_full="block"``; it is started and stopped here.
        source: the descriptor of the input, or the lines themselves.
        target: the descriptor of the output.
        payloads: how lines become messages, and messages become lines.
        json: write every event as a JSON object, not only messages.
        is_shown: whether the output is a terminal, so that control characters must be escaped.
        colors: whether to print JSON in color.
        timestamps: whether each message begins with the time of its arrival.
        wait: after the end of the input, close once the server has answered a ping and no message has arrived
            for this many seconds; None to leave closing to the server. (An immediate Close frame would work
            with servers that answer in order. Some do not: they answer the Close frame while earlier messages
            are still waiting for their handler, whose answers can then no longer be sent.)
        count: close once this many messages have arrived; None for no limit.
        patience: how many seconds may pass without progress while the server owes a pong or a Close frame;
            None for no limit.
    """

    def __init__(
        self, app: WebSocketApp, source: int | Sequence[str], target: int, payloads: Payloads, *,
        json: bool = False, is_shown: bool = False, colors: bool = False, timestamps: bool = False,
        wait: float | None = 0.5, count: int | None = None, patience: float | None = 30.0,
    ) -> None:
        self._app = app
        self._source = source
        self._output = LineOutput(target)
        self._payloads = payloads
        self._as_line: Callable[[str], str] = escaped if is_shown else one_line
        self._line = self._line_with_time if timestamps else self._line_without_time
        self._colored: Callable[[str], str] | None = colored if colors else None
        self._wait_seconds = wait
        self._wanted = count
        self._received = 0  # used only by the reader thread
        self._was_answered = threading.Event()  # the server has read everything sent so far
        self._patience = patience
        self._persists = False
        self._unsent: tuple[str | bytes, ...] = ()
        # Written by the reader thread or the input thread, whichever fails first; read by the calling thread.
        self._failure: Failed | None = None
        self._ending = Ending()
        app.add_handler(self._ending)
        app.add_handler(self)
        if json:
            app.on("event")(self._write_event)
        else:
            app.on("batch")(self._write_batch)

    def run(self, *, persist: bool | Backoff, ping_rate: float | None) -> Exit:
        """Run the app, the input and the output. Blocks until the connection has ended for good.

        Args:
            persist: whether to reconnect, or how: the argument of `WebSocketApp.start`.
            ping_rate: seconds between pings, or None for none.

        Raises:
            Failed: the connection did not end cleanly, or the input or output failed.
        """
        self._persists = bool(persist)
        # Only our own limit applies to the closing handshake, since the remaining messages may take any time.
        with running(
            self._app, HURRY_SECONDS, poll=None, ping_rate=ping_rate, close_timeout=None, persist=persist
        ):
            threading.Thread(target=self._feed, name="lochws-input", daemon=True).start()
            self._wait()
        if self._failure is not None:
            raise self._failure
        code = self._ending.result()
        if self._wanted is not None and self._received < self._wanted:
            text = f"the server closed after {self._received:,} of {self._wanted:,} messages"
            raise Failed(text, Exit.LOST)
        return code

    # The reader thread.

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Keep unsent messages for the next connection."""
        self._unsent = event.unsent if self._persists else ()

    def on_ready(self, event: events.Ready) -> None:
        """Send the messages that the last connection left unsent, before any others."""
        unsent, self._unsent = self._unsent, ()
        if unsent:
            try:
                self._app.send_many(unsent)
            except (QueueFull, TransportFail, WebSocketUnavailable) as error:
                self._fail(Failed(f"{len(unsent):,} messages were not sent: {error}", Exit.LOST))

    def on_pong(self, event: events.Pong) -> None:
        """Record that the server has read everything sent before the ping."""
        if event.data == _END:
            self._was_answered.set()

    def _write_event(self, event: events.Event) -> None:
        is_message = isinstance(event, (events.Text, events.Binary))
        if self._failure is None and (not is_message or self._wants(1)):
            line = as_json(as_object(event))
            self._write((line if self._colored is None else self._colored(line)) + "\n")

    def _wants(self, count: int) -> int:
        """Return how many of `count` messages are still wanted; close if that includes the last one."""
        if self._wanted is None:
            return count
        count = min(count, self._wanted - self._received)
        self._received += count
        if self._received == self._wanted:
            self._app.close()
        return count

    def _write_batch(self, batch: list[events.Text | events.Binary]) -> None:
        if self._failure is not None:
            return
        try:
            lines = list(map(self._line, batch[:self._wants(len(batch))]))
        except Failed as failed:
            self._fail(failed)
        else:
            self._write("\n".join([*lines, ""]))

    def _line_without_time(self, event: events.Text | events.Binary) -> str:
        if not isinstance(event, events.Text):
            return self._payloads.written(event.data)
        line = self._as_line(event.text)
        return line if self._colored is None else self._colored(line)

    def _line_with_time(self, event: events.Text | events.Binary) -> str:
        return f"{timestamp(event.received_time)} {self._line_without_time(event)}"

    def _write(self, text: str) -> None:
        try:
            self._output.write(text)
        except Failed as failed:
            self._fail(failed)

    # The input thread.

    def _feed(self) -> None:
        """Send the input, and close when the server has nothing more to send."""
        try:
            self._app.wait_ready()  # closing earlier would cancel the attempt to connect
            number = 1
            for lines in self._input():
                if not self._send(self._messages(lines, number)):
                    return
                number += len(lines)
            self._linger()
        except Failed as failed:
            self._fail(failed)
        except Exception as error:  # noqa: BLE001  the calling thread raises it
            self._ending.on_error(error)
        finally:
            self._app.close()

    def _input(self) -> Iterator[list[bytes]]:
        if isinstance(self._source, int):
            return lines_of(self._source)
        return iter([[line.encode("utf-8", "surrogateescape") for line in self._source]])

    def _messages(self, lines: list[bytes], number: int) -> list[str | bytes]:
        messages: list[str | bytes] = []
        for line in lines:
            try:
                at = number + len(messages)
                where = f"line {at} of the input" if isinstance(self._source, int) else f"message {at} of -x"
                messages.append(self._payloads.message(line, where))
            except Failed:
                self._send(messages)  # the lines before the invalid one
                raise
        return messages

    def _send(self, messages: list[str | bytes]) -> bool:
        """Send messages, on the next connection if necessary. Return False if there will be none."""
        while self._app.wait_ready():
            try:
                return self._app.send_many(messages)
            except (WebSocketUnavailable, TransportFail):
                # The connection has just ended, or is closing. No message was accepted.
                self._app.wait_closed(LOOK_SECONDS)
            except QueueFull:
                raise Failed("the lines that arrived together are too large to be sent at once") from None
        return False

    def _linger(self) -> None:
        """Wait until the server has nothing more to send."""
        if self._wait_seconds is None:
            self._app.wait_closed()
            return
        look = min(LOOK_SECONDS, self._wait_seconds / 4)
        moved, at, asked_on = -1, monotonic(), 0
        while self._app.wait_ready() and not self._app.wait_closed(look):
            counters = self._app.counters
            if asked_on != counters.connections:  # pinged after everything sent, including resent messages
                asked_on = counters.connections
                self._ask()
            sign = self._output.written + counters.messages_received + counters.bytes_sent
            if sign != moved or self._output.is_writing:
                moved, at = sign, monotonic()
            limit = self._wait_seconds if self._was_answered.is_set() else self._patience
            if limit is not None and monotonic() - at >= limit:
                return

    def _ask(self) -> None:
        """Ping the server; its pong shows that it has read everything before the ping."""
        self._was_answered.clear()
        try:
            self._app.send_ping(_END)
        except (WebSocketUnavailable, TransportFail, QueueFull):
            pass  # the connection is ending: the next one will be asked

    # The calling thread.

    def _wait(self) -> None:
        """Wait for the end of the connection; force it if the server does not answer our Close frame."""
        moved, at = -1, monotonic()
        while not self._app.wait_closed(LOOK_SECONDS):
            now = monotonic()
            sign = self._output.written + self._app.counters.bytes_received + self._app.counters.bytes_sent
            if sign != moved or self._output.is_writing or not self._app.close_called.is_set():
                moved, at = sign, now
            limit = HURRY_SECONDS if self._failure is not None else self._patience
            if limit is not None and now - at > limit:
                self._app.force_disconnect(f"the server did not answer our Close frame within {limit:g} s")
        self._app.join()

    def _fail(self, failed: Failed) -> None:
        self._failure = self._failure or failed
        self._app.close()
