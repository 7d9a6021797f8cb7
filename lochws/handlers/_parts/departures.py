"""Departures: when the messages of a ready-made handler leave the send queue, and their time limits begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ... import WebSocketApp
from ...errors import WebSocketError
from ...protocol.frames import BytesLike
from ...sent import Sent


class Departures:
    """Calls a function for each message once it leaves the send queue of the app. For the handlers' thread.

    Messages usually leave immediately. They wait if the server does not keep up, or if they exceed the budget
    of the option `rate`; only then is a handler of ``"sent"`` registered, for as long as any of them waits.

    Args:
        app: the app.
    """

    def __init__(self, app: WebSocketApp) -> None:
        self._app = app
        # The messages that have not left yet, in the order of sending. The handlers' thread appends and
        # clears, and the writing thread removes; each of these operations is atomic.
        self._waiting: deque[tuple[str | BytesLike, Callable[[], object]]] = deque()
        self._listens = False

    def send(
        self, send: Callable[[str | BytesLike], bool], message: str | BytesLike, left: Callable[[], object]
    ) -> bool:
        """Send a message, and have `left` called on this thread once the message has left.

        Args:
            send: sends the message. What it raises reaches the caller, and `left` is then not called.
            message: the message.
            left: called during this call if the message leaves immediately, otherwise later.

        Returns:
            What `send` returned. If False, `left` is not called.
        """
        app = self._app
        if not (self._waiting or app.queued_bytes or app.queued_for):
            if not send(message):
                return False
            left()
            return True
        entry = message, left
        self._waiting.append(entry)
        if not self._listens:
            self._listens = True
            app.on("sent")(self._sent)
        accepted = False
        try:
            accepted = send(message)
        finally:
            if not accepted:
                with suppress(ValueError):
                    self._waiting.remove(entry)
                self._rest()
        return accepted

    def clear(self) -> None:
        """Forget the messages that have not left yet: their connection has ended, or is about to end."""
        self._waiting.clear()
        self._rest()

    # The thread that writes.

    def _sent(self, sent: tuple[Sent, ...]) -> None:
        for item in sent:
            # No message waits, the handlers' thread has just removed this one, or the app has stopped.
            with suppress(IndexError, ValueError, WebSocketError):
                entry = self._waiting[0]
                if item == entry[0]:
                    self._waiting.remove(entry)
                    self._app.call_later(0, partial(self._has_left, entry[1]))

    # The handlers' thread.

    def _has_left(self, left: Callable[[], object]) -> None:
        left()
        self._rest()

    def _rest(self) -> None:
        """Stop listening unless a message waits."""
        if self._listens and not self._waiting:
            self._listens = False
            self._app.remove_handler(self._sent)
