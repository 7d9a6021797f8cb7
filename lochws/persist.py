"""persist(): iterate the events of a WebSocket that reconnects automatically, without threads."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from time import monotonic, time
from typing import Literal

from . import events
from .life.backoff import USUAL, AttemptEnd, Backoff, Retries
from .options import Timing
from .system.waits import wait_set
from .websocket import WebSocket

__all__ = ["USUAL", "Backoff", "persist"]

#: How often `persist` looks, during a wait for the user's `exit_event`, whether `close` was called.
CLOSE_LOOK_SECONDS = 0.25


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
    backoff: Backoff | None = None,
) -> Generator[events.Event, None, None]:
    """Iterate the events of a WebSocket that is connected again whenever it ends, without threads.

    Between two connections comes a BackOff event, then the wait. The iteration ends when
    `WebSocket.close` was called, when `exit_event` is set (looked at during the wait and after each
    event, so within `poll` seconds), or when the back-off gives up.

    Args:
        websocket: what to connect.
        poll, ping_rate, ping_timeout, auto_pong, close_timeout: as for `WebSocket.connect`.
        min_wait, max_wait, respect_retry_after: as for `Backoff`.
        exit_event: ends the iteration when it is set by another thread.
        backoff: the whole policy, instead of the three parameters.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    if backoff is not None and not isinstance(backoff, Backoff):
        raise TypeError(f"backoff={backoff!r}: expected a Backoff, or None")
    policy = backoff or Backoff(min_wait, max_wait, respect_retry_after=respect_retry_after)
    timing = Timing(
        poll=poll, ping_rate=ping_rate, ping_timeout=ping_timeout, auto_pong=auto_pong,
        close_timeout=close_timeout,
    )
    websocket.close_called.clear()
    return _persist(websocket, timing, policy, exit_event or websocket.close_called)


def _persist(
    websocket: WebSocket, timing: Timing, policy: Backoff, exit_event: threading.Event
) -> Generator[events.Event, None, None]:
    retries = Retries(policy)

    def is_over() -> bool:
        return exit_event.is_set() or websocket.close_called.is_set()

    while not is_over():
        outcome: AttemptEnd | None = None
        with closing(websocket.connect(**vars(timing))) as connection:
            for event in connection:
                if isinstance(event, events.Ready):
                    retries.opened(monotonic())
                elif isinstance(event, events.Rejected):
                    outcome = event
                elif isinstance(event, (events.ConnectFail, events.Disconnected)):
                    retries.ended(monotonic())
                    outcome = outcome or event
                yield event
                if is_over() and not websocket.is_closing:
                    # Also if it was close(): it may have come before the attempt began.
                    websocket.close()
        if is_over() or outcome is None:
            return
        wait = retries.next_wait(outcome, monotonic(), time())
        if wait is None:
            return
        yield events.BackOff(wait)
        _wait(wait, exit_event, websocket.close_called)


def _wait(seconds: float, exit_event: threading.Event, close_called: threading.Event) -> None:
    """Wait until one is set. Nothing waits for two at once: the second is looked at now and then."""
    if exit_event is close_called:
        wait_set(exit_event, seconds)
        return
    end = monotonic() + seconds
    while not close_called.is_set() and (left := end - monotonic()) > 0:
        if exit_event.wait(min(left, CLOSE_LOOK_SECONDS)):
            return
