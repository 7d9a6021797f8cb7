"""persist(): iterate the events of a WebSocket that reconnects automatically, without threads."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Literal

from . import events
from .dispatch.arguments import refusing_unknown
from .dispatch.callables import accepted
from .life.backoff import USE_BACKOFF, AttemptEnd, Backoff, Retries
from .options import Timing
from .system.waits import wait_set
from .websocket import WebSocket

__all__ = ["USE_BACKOFF", "Backoff", "persist"]

#: While `persist` waits for an `exit_event`, it checks this often, in seconds, whether `close` was called.
CLOSE_LOOK_SECONDS = 0.25


@refusing_unknown(is_app=False)
def persist(
    websocket: WebSocket,
    poll: float | None = 5,
    min_wait: float = 5,
    max_wait: float = 30,
    ping_rate: float | None = 30,
    ping_timeout: float | Literal["auto"] | None = "auto",
    exit_event: threading.Event | None = None,
    respect_retry_after: bool = True,
    *,
    auto_pong: bool = True,
    close_timeout: float | None = 30.0,
    stale_after: float | None = None,
    on_stale: Literal["reconnect", "tell"] = "reconnect",
    backoff: Backoff | None = None,
) -> Generator[events.AnyEvent, None, None]:
    """Iterate the events of a WebSocket that reconnects automatically, without threads.

    Before each wait between two attempts, a BackOff event is yielded. The iteration ends when
    `WebSocket.close` has been called, when `exit_event` is set (it is checked during the wait and after each
    event, so at least every `poll` seconds), or when the back-off gives up.

    A subclass may override `connect` with fewer parameters: an argument for a missing parameter is passed
    only if it differs from its default.

    Args:
        websocket: the WebSocket to connect.
        poll: seconds between Poll events; 0 or None for none.
        min_wait: the shortest wait before the next attempt, in seconds.
        max_wait: the longest wait, in seconds, unless the server asks for a longer one.
        ping_rate: seconds between automatic pings; 0 or None for none.
        ping_timeout: seconds to wait after a ping for any byte from the server before giving up the
            connection; ``"auto"`` is twice the ping rate; 0 or None for no limit.
        exit_event: ends the iteration when another thread sets it; with None, only `close` ends it.
        respect_retry_after: whether a refusal's Retry-After header lengthens the wait.
        auto_pong: whether to answer the server's pings automatically.
        close_timeout: seconds that the server has to answer a Close frame and end the connection; 0 or None
            for no limit.
        stale_after: seconds without any part of a message after which a Stale event is yielded, even if
            the server answers pings; 0 or None for no limit.
        on_stale: what happens then: ``"reconnect"`` drops the connection, as `WebSocket.force_disconnect`
            does, and the next attempt follows; ``"tell"`` leaves it open.
        backoff: the complete policy, used instead of `min_wait`, `max_wait` and `respect_retry_after`.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    if not isinstance(websocket, WebSocket):
        raise TypeError(f"websocket={websocket!r}: expected a lochws.WebSocket")
    if hasattr(websocket, "run_forever"):
        raise TypeError(f"websocket={websocket!r}: a WebSocketApp reconnects by itself: call run_forever()")
    if exit_event is not None and not hasattr(exit_event, "is_set"):
        raise TypeError(f"exit_event={exit_event!r}: expected a threading.Event, or None")
    if backoff is not None and not isinstance(backoff, Backoff):
        raise TypeError(f"backoff={backoff!r}: expected a Backoff, or None")
    # Without a policy the waits are Lomond's, which knows no clean ends.
    lomonds = Backoff(min_wait, max_wait, factor=2.0, respect_retry_after=respect_retry_after)
    retries = Retries(backoff or lomonds, is_shared=backoff is None)
    timing = Timing(
        poll=poll, ping_rate=ping_rate, ping_timeout=ping_timeout, auto_pong=auto_pong,
        close_timeout=close_timeout, stale_after=stale_after, on_stale=on_stale,
    )
    websocket.close_called.clear()
    return _persist(websocket, timing, retries, exit_event or websocket.close_called)


def _persist(
    websocket: WebSocket, timing: Timing, retries: Retries, exit_event: threading.Event
) -> Generator[events.AnyEvent, None, None]:
    def is_over() -> bool:
        return exit_event.is_set() or websocket.close_called.is_set()

    while not is_over():
        outcome: AttemptEnd | None = None
        connection = websocket.connect(**accepted(websocket.connect, vars(timing), vars(Timing())))
        with _closed(connection):
            for event in connection:
                if isinstance(event, events.Ready):
                    retries.opened(monotonic())
                elif isinstance(event, events.Rejected):
                    outcome = event
                    event.fatal = retries.ends_with(event)
                elif isinstance(event, (events.ConnectFail, events.Disconnected)):
                    retries.ended(monotonic())
                    outcome = outcome or event
                    event.fatal = retries.ends_with(outcome)
                yield event
                if is_over() and not websocket.is_closing:
                    # Needed even if close() was called: that may have happened before the attempt began.
                    websocket.close()
        if is_over() or outcome is None or outcome.fatal:
            return
        wait = retries.next_wait(outcome, monotonic(), time())
        if wait is None:
            return
        yield events.BackOff(wait)
        _wait(wait, exit_event, websocket.close_called)


@contextmanager
def _closed(connection: Iterable[events.AnyEvent]) -> Iterator[None]:
    """Close a generator at the end of the block; an overridden `connect` may return another iterable."""
    try:
        yield
    finally:
        if isinstance(connection, Generator):
            connection.close()


def _wait(seconds: float, exit_event: threading.Event, close_called: threading.Event) -> None:
    """Wait until one of two events is set. Python cannot wait for two at once, so one is polled."""
    if exit_event is close_called:
        wait_set(exit_event, seconds)
        return
    end = monotonic() + seconds
    while not close_called.is_set() and (left := end - monotonic()) > 0:
        if exit_event.wait(min(left, CLOSE_LOOK_SECONDS)):
            return
