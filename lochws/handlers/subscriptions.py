"""Subscriptions: sets up each new session (log in, subscribe, …) before anything else is sent.

::

    subs = Subscriptions(app, [
        Step(lambda: {"op": "login", "token": fresh_token()}, expect={"event": "login"}, key="login"),
        Step({"op": "subscribe", "channel": "ticker"}, expect={"event": "subscribed"}),
    ])
    app.start()
    subs.wait_session_ready(10)
    subs.add(Step({"op": "subscribe", "channel": "trades"}))        # now, and after each reconnect

A server forgets your subscriptions when their connection ends. So after each Ready the steps are sent again,
one after the other, each once the one before it has been answered. Until all have been answered, a gate
(`WebSocketApp.gate`) refuses everything else that is sent. If a step fails, the connection is dropped, and
the next attempt follows after the back-off.
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
from ..options import check_range
from ..system import forks
from ..system.report import report
from ._parts.checks import check_app
from ._parts.steps import Message, Step, StepFailed

__all__ = ["Step", "StepFailed", "Subscriptions"]


class _Progress:
    """A step of the table, and how far it has got on the present connection. For the handlers' thread."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.was_sent = False
        self.timer: Any = None


class Subscriptions:
    """Sends its steps after each Ready, and lets others send once all have been answered. Registers itself.

    What the app itself sends in `on_ready` is refused, since it would come first: make it a step, or send it
    in `on_session_ready`. All other handlers see the answers, too, after they were seen here; also where
    messages arrive in batches (`on_batch`). Once everything has been answered, received messages cost
    nothing.

    A step fails if its message cannot be made or sent, if the answer is a refusal, or if no answer arrives in
    time. Then the failure is logged, the connection is dropped, and the `Backoff` decides when the next
    attempt begins; a connection that ends this way never counts as stable. Steps that are added later fail in
    the same way.

    All methods may be called from any thread; only `wait_session_ready` waits. Messages are made and sent on
    the handlers' thread, and no lock is held meanwhile.

    Args:
        app: the app.
        steps: what to send, in this order.
        on_session_ready: called on the handlers' thread with the connection's `Ready` event, once everything
            has been answered. It may send. Its exceptions are treated like those of a handler.
        on_step_failed: called on the handlers' thread with the step and the exception, after the connection
            was dropped. To give up, it calls `WebSocketApp.close`.
        max_steps: how many steps there may be.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
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
        check_range("max_steps", max_steps, 1)
        self._app = app
        self._on_session_ready = on_session_ready
        self._on_step_failed = on_step_failed
        self._max_steps = max_steps
        # Guards the next three; a leaf. Reentrant: a signal handler may add and remove steps, or leave.
        self._lock = threading.RLock()
        self._table: dict[Hashable, _Progress] = {}
        self._unsent: deque[_Progress] = deque()  # not sent yet on the present connection
        self._ready: events.Ready | None = None  # of the present connection, once its steps are being sent
        # The handlers' thread changes these; any thread reads them.
        self._unanswered: list[_Progress] = []  # sent, and waiting for an answer
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
            table = list(self._table.values())
        return tuple(progress.step for progress in table)

    @property
    def is_session_ready(self) -> bool:
        """True if all steps have been answered on the present connection, except for those added since."""
        return self._is_session_ready

    def add(self, step: Step) -> None:
        """Add a step: it is sent at once if there is a connection, and after each Ready from now on.

        A step that equals an existing one is not added again. One that has the same key and differs otherwise
        replaces it.

        Raises:
            TypeError: `step` is not a Step.
            ValueError: there are `max_steps` already.
        """
        if not isinstance(step, Step):
            raise TypeError(f"step={step!r}: expected a lochws.handlers.subscriptions.Step")
        key = step.identity
        before = self._table.get(key)
        if before is not None and before.step == step:  # compares users' objects, so without the lock
            return
        with self._lock:
            before = self._table.get(key)
            if before is None and len(self._table) >= self._max_steps:
                raise ValueError(f"there are {len(self._table)} steps already: max_steps={self._max_steps!r}")
            progress = self._table[key] = _Progress(step)
            ready = self._ready
            if ready is not None:
                self._drop_unsent(before)
                self._unsent.append(progress)
        self._soon(ready, before, None)

    def remove(self, step: Step | Hashable, message: Message | None = None) -> bool:
        """Remove a step: it is not sent again, and its answer is not waited for.

        Args:
            step: the step, or its key.
            message: sent if the step was sent on the present connection: to unsubscribe. If it cannot be
                sent, the connection is dropped.

        Returns:
            Whether there was such a step.

        Raises:
            TypeError: `message` is not a message.
        """
        if not (message is None or isinstance(message, (str, bytes, Mapping))):
            raise TypeError(f"message={message!r}: expected str, bytes or a mapping")
        with self._lock:
            before = self._table.pop(step.identity if isinstance(step, Step) else step, None)
            ready = self._ready
            self._drop_unsent(before)
        if before is not None:
            self._soon(ready, before, message)
        return before is not None

    def wait_session_ready(self, timeout: float | None = None) -> bool:
        """Wait until all steps have been answered and everybody may send. Not for handlers.

        It is what `WebSocketApp.wait_ready` does, too.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            False if that took longer, or if the app has stopped.

        Raises:
            WebSocketError: called in a handler, where it would deadlock; or the app has not been started.
        """
        if self._app.in_handler:
            raise WebSocketError("wait_session_ready would deadlock in a handler: use on_session_ready")
        return self._app.wait_ready(timeout)

    def leave(self) -> None:
        """Send no steps from now on, and let everybody send. The server keeps its subscriptions."""
        with suppress(ValueError):  # was called before
            self._app.remove_handler(self)
        with self._lock:
            self._table.clear()
        self._gate.remove()
        with suppress(WebSocketError):  # not running
            self._app.call_later(0, self._end)

    def reset_after_fork(self) -> None:
        """Forget, in the child of a fork, what the parent has sent. The steps stay."""
        self._lock = threading.RLock()
        self._unsent.clear()
        self._unanswered.clear()
        self._ready = None
        self._is_session_ready = False

    def _drop_unsent(self, progress: _Progress | None) -> None:
        if progress is not None and progress in self._unsent:
            self._unsent.remove(progress)

    def _soon(self, ready: events.Ready | None, before: _Progress | None, message: Message | None) -> None:
        if ready is not None:
            with suppress(WebSocketError):  # the app has stopped meanwhile
                self._app.call_later(0, partial(self._changed, ready, before, message))

    # The handlers' thread.

    def on_ready(self, event: events.Ready) -> None:
        """Begin with the first step."""
        self._end()
        with self._lock:
            self._unsent = deque(self._table.values())
            for progress in tuple(self._unsent):
                progress.was_sent = False
            self._ready = event
        self._continue(event)

    def on_disconnected(self, _event: events.Disconnected) -> None:
        """Stop waiting for answers."""
        self._end()

    def _changed(self, ready: events.Ready, removed: _Progress | None, message: Message | None) -> None:
        if self._ready is not ready:
            return
        if removed is not None and removed.was_sent:
            if removed in self._unanswered:
                self._settle(removed)
            if message is not None and not self._send(_Progress(Step(message))):
                return
        self._continue(ready)

    def _continue(self, ready: events.Ready) -> None:
        """Send what can be sent now. Once everything has been answered, the session is ready."""
        while self._ready is ready:
            with self._lock:
                progress = self._unsent[0] if self._unsent else None
                if progress is not None and not (self._unanswered and progress.step.in_turn):
                    self._unsent.popleft()
            if progress is None:
                break
            if self._unanswered and progress.step.in_turn:
                return
            if progress.step.expect is not None:
                self._listen(progress)
            if not self._send(progress):
                return
        if self._ready is ready and not self._unanswered and not self._is_session_ready:
            self._is_session_ready = True
            self._gate.open()
            if self._on_session_ready is not None:
                self._on_session_ready(ready)

    def _send(self, progress: _Progress) -> bool:
        """Send the message of a step. Returns False if that failed: then the connection ends."""
        message = progress.step.message
        try:
            if callable(message):
                message = message()
            if isinstance(message, Mapping):
                message = json.dumps(message)
            if not isinstance(message, (str, bytes)):
                raise TypeError(f"the step's function returned {type(message).__name__}")
            if not self._gate.send(message):
                raise QueueFull("the send queue is full")
        except (WebSocketUnavailable, TransportFail):
            self._end()  # closing or lost: Disconnected says so
            return False
        except BaseException as error:  # noqa: BLE001  SystemExit too must not leave the gate closed forever
            self._fail(progress, error, f"could not be sent ({type(error).__name__})")
            return False
        progress.was_sent = True
        return True

    def _listen(self, progress: _Progress) -> None:
        """Wait for an answer, from before the message is sent: the answer may be faster."""
        self._unanswered.append(progress)
        if progress.step.timeout is not None:
            progress.timer = self._app.call_later(
                progress.step.timeout, partial(self._timed_out, progress, False)
            )
        if not self._listens:
            self._listens = True
            self._app.on("event")(self._received)

    def _received(self, event: events.Event) -> None:
        """Check whether this is an answer: for the first step that accepts it, and no other."""
        if not isinstance(event, (events.Text, events.Binary)) or (ready := self._ready) is None:
            return
        for progress in self._unanswered:
            try:
                is_answer = progress.step.is_answer(event)
            except StepFailed as error:
                self._fail(progress, error, str(error))
                return
            except BaseException as error:  # noqa: BLE001  SystemExit too must not leave the gate closed forever
                self._fail(progress, error, f"was refused ({type(error).__name__})")
                return
            if is_answer:
                self._settle(progress)
                self._continue(ready)
                return

    def _timed_out(self, progress: _Progress, again: bool) -> None:
        if progress not in self._unanswered:
            return
        timeout = progress.step.timeout
        if not again and self._app.waiting_bytes and timeout is not None:
            # The answer may be among the messages that wait because a handler took long.
            progress.timer = self._app.call_later(timeout, partial(self._timed_out, progress, True))
            return
        words = f"got no answer within {timeout:g} s"
        self._fail(progress, StepFailed(words), words)

    def _settle(self, progress: _Progress) -> None:
        """Stop waiting for this answer."""
        self._unanswered.remove(progress)
        if progress.timer is not None:
            progress.timer.cancel()
            progress.timer = None
        if not self._unanswered and self._listens:
            self._listens = False
            self._app.remove_handler(self._received)

    def _end(self) -> None:
        """Stop waiting for answers, and send nothing until the next Ready."""
        with self._lock:
            self._ready = None
            self._unsent.clear()
        self._is_session_ready = False
        for progress in self._unanswered.copy():
            self._settle(progress)

    def _fail(self, progress: _Progress, error: BaseException, words: str) -> None:
        step = progress.step
        name = "a step" if step.key is None else f"step {step.key!r}"
        is_ours = isinstance(error, StepFailed)
        report(logging.WARNING, "%s %s: disconnecting", name, words, error=None if is_ours else error)
        self._end()
        self._app.force_disconnect(f"{name} {words}")
        if self._on_step_failed is not None:
            self._on_step_failed(step, error)
