"""What must be said after each Ready, before anybody else says anything: log in, subscribe, and so on.

::

    subs = Subscriptions(app, [
        Step(lambda: {"op": "login", "token": fresh_token()}, expect={"event": "login"}, key="login"),
        Step({"op": "subscribe", "channel": "ticker"}, expect={"event": "subscribed"}),
    ])
    app.start()
    subs.wait_session_ready(10)
    subs.add(Step({"op": "subscribe", "channel": "trades"}))        # now, and after each reconnect

The steps are said one after the other, each once the one before it was answered. Until all have been
answered a gate (`WebSocketApp.gate`) keeps everybody else from sending. If one fails, the connection is
dropped, and the next attempt comes after the back-off.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from .. import WebSocketApp, events
from ..errors import QueueFull, TransportFail, WebSocketError, WebSocketUnavailable
from ..system import forks
from ..system.report import report
from ._parts.checks import check_app
from ._parts.steps import Said, Step, StepFailed

__all__ = ["Step", "StepFailed", "Subscriptions"]


class _Entry:
    """A step in the table, and how far it is over the present connection: the handlers' thread's."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.was_said = False
        self.timer: Any = None


class Subscriptions:
    """Says its steps after each Ready, and lets others send when all were answered. Registers itself.

    What the app itself sends in `on_ready` is refused, for it would come first: make it a step, or send it
    in `on_session_ready`. The answers are seen by all other handlers too, after they were seen here, also
    where messages come in batches (`on_batch`). Once all has been answered, received messages cost nothing.

    A step fails if its message cannot be made or sent, if its answer is a refusal, or does not come in time.
    Then the failure is logged, the connection dropped, and the `Backoff` says when the next one comes; a
    connection that ends like this never counts as stable. A step that is added later fails likewise.

    All methods may be called from any thread; only `wait_session_ready` waits. Messages are made and sent on
    the handlers' thread, and no lock is held meanwhile.

    Args:
        app: the app.
        steps: what to say, in this order.
        on_session_ready: called on the handlers' thread with the connection's `Ready`, once all has been
            answered. It may send. What it raises is treated as what a handler raises.
        on_step_failed: called on the handlers' thread with the step and the exception, when the connection
            was dropped. To give up, it calls `WebSocketApp.close`.
        max_steps: how many steps there may be.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        app: WebSocketApp,
        steps: Iterable[Step] = (),
        *,
        on_session_ready: Callable[[events.Ready], object] | None = None,
        on_step_failed: Callable[[Step, BaseException], object] | None = None,
        max_steps: int = 10_000,
    ) -> None:
        check_app(app)
        for name, function in (("on_session_ready", on_session_ready), ("on_step_failed", on_step_failed)):
            if not (function is None or callable(function)):
                raise TypeError(f"{name}={function!r}: expected a function, or None")
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"max_steps={max_steps!r}: expected a whole number from 1 up")
        self._app = app
        self._on_session_ready = on_session_ready
        self._on_step_failed = on_step_failed
        self._max_steps = max_steps
        # Guards the next three; a leaf. Reentrant: a signal handler may add and remove steps, or leave.
        self._lock = threading.RLock()
        self._table: dict[Hashable, _Entry] = {}
        self._todo: deque[_Entry] = deque()  # not said yet over the present connection
        self._ready: events.Ready | None = None  # of the present connection, while its steps are being said
        # The handlers' thread's; read by anyone.
        self._open: list[_Entry] = []  # said, and not answered yet
        self._listens = False
        self._is_session_ready = False
        for step in steps:
            self.add(step)
        forks.register(self)
        app.add_handler(self)
        self._gate = app.gate()

    # Any thread.

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""
        with self._lock:
            return tuple(entry.step for entry in self._table.values())

    @property
    def is_session_ready(self) -> bool:
        """Whether over the present connection all steps have been answered, but for those added since."""
        return self._is_session_ready

    def add(self, step: Step) -> None:
        """Add a step: say it soon if there is a connection, and after each Ready to come.

        A step that is there already is not added again. One with the same key and anything else different
        takes the other's place.

        Raises:
            TypeError: it is no Step.
            ValueError: there are `max_steps` already.
        """
        if not isinstance(step, Step):
            raise TypeError(f"{step!r} is no step: expected a lochws.handlers.subscriptions.Step")
        key = step.known_by
        with self._lock:
            before = self._table.get(key)
            if before is not None and before.step == step:
                return
            if before is None and len(self._table) >= self._max_steps:
                raise ValueError(f"there are {len(self._table)} steps already: max_steps={self._max_steps!r}")
            entry = self._table[key] = _Entry(step)
            ready = self._ready
            if ready is not None:
                self._drop_todo(before)
                self._todo.append(entry)
        self._soon(ready, before, None)

    def remove(self, step: Step | Hashable, message: Said | None = None) -> bool:
        """Remove a step, given itself or by its key: it is not said again, and no answer is waited for.

        Args:
            step: the step, or what it is known by.
            message: what to say if the step was said over the present connection: to unsubscribe. If it
                cannot be sent the connection is dropped.

        Returns:
            Whether there was such a step.

        Raises:
            TypeError: the message is none.
        """
        if not (message is None or isinstance(message, (str, bytes, Mapping))):
            raise TypeError(f"message={message!r}: expected str, bytes or a mapping")
        with self._lock:
            before = self._table.pop(step.known_by if isinstance(step, Step) else step, None)
            ready = self._ready
            self._drop_todo(before)
        if before is not None:
            self._soon(ready, before, message)
        return before is not None

    def wait_session_ready(self, timeout: float | None = None) -> bool:
        """Wait until all steps have been answered and everybody may send. Not for handlers.

        It is what `WebSocketApp.wait_ready` does.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            False if that took longer, or if the app is over.

        Raises:
            WebSocketError: called in a handler, which would wait for itself.
        """
        if self._app.in_handler:
            raise WebSocketError("wait_session_ready in a handler would wait for itself")
        return self._app.wait_ready(timeout)

    def leave(self) -> None:
        """Say nothing any more, and keep nobody from sending. What was said stays said."""
        with suppress(ValueError):  # has left before
            self._app.remove_handler(self)
        with self._lock:
            self._table.clear()
        self._gate.remove()
        with suppress(WebSocketError):  # not running
            self._app.call_later(0, self._end)

    def reset_after_fork(self) -> None:
        """In the child of a fork: what was said was said by the parent. The steps stay."""
        self._lock = threading.RLock()
        self._todo.clear()
        self._open.clear()
        self._ready = None
        self._is_session_ready = False

    def _drop_todo(self, entry: _Entry | None) -> None:
        if entry is not None and entry in self._todo:
            self._todo.remove(entry)

    def _soon(self, ready: events.Ready | None, before: _Entry | None, message: Said | None) -> None:
        if ready is not None:
            with suppress(WebSocketError):  # the app is over meanwhile
                self._app.call_later(0, partial(self._changed, ready, before, message))

    # The handlers' thread.

    def on_ready(self, event: events.Ready) -> None:
        """Begin with the first step."""
        self._end()
        with self._lock:
            for entry in self._table.values():
                entry.was_said = False
            self._todo = deque(self._table.values())
            self._ready = event
        self._go_on(event)

    def on_disconnected(self, _event: events.Disconnected) -> None:
        """Forget what was said."""
        self._end()

    def _changed(self, ready: events.Ready, gone: _Entry | None, message: Said | None) -> None:
        if self._ready is not ready:
            return
        if gone is not None and gone.was_said:
            if gone in self._open:
                self._settle(gone)
            if message is not None and not self._say(_Entry(Step(message))):
                return
        self._go_on(ready)

    def _go_on(self, ready: events.Ready) -> None:
        """Say what can be said now; when all has been answered the session is ready."""
        while self._ready is ready:
            with self._lock:
                entry = self._todo[0] if self._todo else None
                if entry is not None and not (self._open and entry.step.in_turn):
                    self._todo.popleft()
            if entry is None:
                break
            if self._open and entry.step.in_turn:
                return
            if entry.step.expect is not None:
                self._listen(entry)
            if not self._say(entry):
                return
        if self._ready is ready and not self._open and not self._is_session_ready:
            self._is_session_ready = True
            self._gate.open()
            if self._on_session_ready is not None:
                self._on_session_ready(ready)

    def _say(self, entry: _Entry) -> bool:
        """Say a step. Returns whether it was possible; if not, the connection is or will be over."""
        message = entry.step.message
        try:
            if callable(message):
                message = message()
            if isinstance(message, Mapping):
                message = json.dumps(message)
            if not isinstance(message, (str, bytes)):
                raise TypeError(f"a step's function returned {type(message).__name__}")
            if not self._gate.send(message):
                raise QueueFull("the queue is full")
        except (WebSocketUnavailable, TransportFail):
            self._end()  # closing or lost: that is for Disconnected to tell
            return False
        except BaseException as error:  # noqa: BLE001  SystemExit too must not leave the gate shut for good
            self._fail(entry, error, f"could not be said ({type(error).__name__})")
            return False
        entry.was_said = True
        return True

    def _listen(self, entry: _Entry) -> None:
        """Wait for an answer: from before the message is sent, or the answer could be faster."""
        self._open.append(entry)
        if entry.step.timeout is not None:
            entry.timer = self._app.call_later(entry.step.timeout, partial(self._timed_out, entry, False))
        if not self._listens:
            self._listens = True
            self._app.on("event")(self._received)

    def _received(self, event: events.Event) -> None:
        """Look whether this is an answer; for one step, the first that takes it."""
        if not isinstance(event, (events.Text, events.Binary)) or (ready := self._ready) is None:
            return
        for entry in self._open:
            try:
                is_it = entry.step.is_answer(event)
            except StepFailed as error:
                self._fail(entry, error, str(error))
                return
            except BaseException as error:  # noqa: BLE001  as above
                self._fail(entry, error, f"was refused ({type(error).__name__})")
                return
            if is_it:
                self._settle(entry)
                self._go_on(ready)
                return

    def _timed_out(self, entry: _Entry, again: bool) -> None:
        if entry not in self._open:
            return
        timeout = entry.step.timeout
        if not again and self._app.waiting_bytes and timeout is not None:
            # The answer may be among what waits since some handler took long.
            entry.timer = self._app.call_later(timeout, partial(self._timed_out, entry, True))
            return
        words = f"was not answered in {timeout:g} s"
        self._fail(entry, StepFailed(words), words)

    def _settle(self, entry: _Entry) -> None:
        """Wait no more for this answer."""
        self._open.remove(entry)
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if not self._open and self._listens:
            self._listens = False
            self._app.remove_handler(self._received)

    def _end(self) -> None:
        """Wait for nothing, and say nothing until the next Ready."""
        with self._lock:
            self._ready = None
            self._todo.clear()
        self._is_session_ready = False
        for entry in self._open.copy():
            self._settle(entry)

    def _fail(self, entry: _Entry, error: BaseException, words: str) -> None:
        step = entry.step
        called = "a step" if step.key is None else f"step {step.key!r}"
        is_ours = isinstance(error, StepFailed)
        report(logging.WARNING, "%s %s: disconnecting", called, words, error=None if is_ours else error)
        self._end()
        self._app.force_disconnect(f"{called} {words}")
        if self._on_step_failed is not None:
            self._on_step_failed(step, error)
