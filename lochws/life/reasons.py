"""Reasons: why a wait for an app failed, in words."""

from __future__ import annotations

from .. import events
from ..url import without_queries
from .state import State

_UNREADY = {
    State.CONNECTING: "an attempt to connect is under way",
    State.OPEN: "the connection is open, but the handlers of Ready have not returned yet",
    State.CLOSING: "the connection is closing",
    State.DISCONNECTED: "the handlers of the last events have not returned yet",
    State.BACKING_OFF: "the app is waiting for its next attempt",
    State.STOPPED: "the app has stopped",
}
_RUNNING = {
    State.CONNECTING: "the attempt to connect has not ended yet",
    State.OPEN: "our Close frame has not been sent yet",
    State.CLOSING: "the server has not answered our Close frame yet",
    State.DISCONNECTED: "the handlers of the last events have not returned yet",
    State.STOPPED: "the app has stopped, but its threads have not ended: a handler is still running",
}


def why_not_ready(
    state: State, last_end: events.ConnectFail | events.Disconnected | None, *, behind_gate: bool
) -> str:
    """Say why an app is not ready.

    Args:
        state: the state of the app.
        last_end: the final event of its last attempt or connection, or None.
        behind_gate: whether the connection is open and a gate is closed.
    """
    if behind_gate:
        return "the connection is open, but session setup is still in progress (a gate is closed)"
    reason = _UNREADY.get(state, "the app has not been started")
    if state in (State.OPEN, State.CLOSING) or last_end is None:
        return reason
    is_attempt = isinstance(last_end, events.ConnectFail) or last_end.phase != "open"
    what = "the last attempt failed" if is_attempt else "the last connection ended"
    return f"{reason}; {what}: {without_queries(str(last_end))}"


def why_running(state: State, *, is_stopping: bool) -> str:
    """Say why an app is still running.

    Args:
        state: the state of the app.
        is_stopping: whether it was closed.
    """
    if state is not State.STOPPED and not is_stopping:
        return "the app has not been closed; call close() or stop()"
    return _RUNNING.get(state, "the app has not yet decided what to do next")
