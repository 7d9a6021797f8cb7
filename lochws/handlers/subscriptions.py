"""Subscriptions: a handler that sets up each new session (login, subscriptions) before other sends.

::

    subs = Subscriptions(app, [
        Step(lambda: {"op": "login", "token": fresh_token()}, expect={"event": "login"}, key="login"),
        Step({"op": "subscribe", "channel": "ticker"}, expect={"event": "subscribed"}),
    ])
    app.start()
    subs.wait_session_ready(10)
    subs.add(Step({"op": "subscribe", "channel": "trades"}))        # now, and after each reconnect

A server forgets your subscriptions when their connection ends. So the steps are sent again after each Ready,
in order, each once the previous one has been answered. Until all have been answered, a gate
(`lochws.app.Hooks.gate`) refuses all other sends. If a step fails, the connection is dropped, and the next
attempt follows after the back-off.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from .. import WebSocketApp, events
from ..base.callables import check_takes
from ..errors import QueueFull, TransportFail, WaitFailed, WebSocketError, WebSocketUnavailable
from ..options import as_timeout, check_bool, check_range
from ..system import forks
from ..system.control import control_lock
from ..system.report import safe_name, safe_repr
from ..text import cut
from ._parts.checks import check_app
from ._parts.departures import Departures
from ._parts.incoming import Incoming
from ._parts.lines import report_about
from ._parts.messages import Doubts, Message, as_payload, check_message, is_message, kind_of, quoted
from ._parts.steps import Step, StepFailed
from .packets import Split

__all__ = ["Step", "StepFailed", "Subscriptions"]


#: The longest name of a step in log lines and errors, in characters: its key may have been the server's.
MAX_NAME = 100


class _Progress:
    """A step and its progress on the current connection. For the handlers' thread."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.was_sent = False
        self.timer: Any = None
        self.attempt: object = None  # identifies the current wait for an answer
        self.in_turn = step.in_turn or step.takes_answer
        self.doubts = Doubts()

    @property
    def name(self) -> str:
        """The step's name in log lines and errors."""
        return "a step" if self.step.key is None else f"step {cut(safe_repr(self.step.key), MAX_NAME)}"


class Subscriptions:
    """Sends its steps after each Ready, and lets others send once all have been answered. Registers itself.

    Messages that the app sends in `on_ready` are refused, because they would precede the steps: make them
    steps, or send them in `on_session_ready`. The app's other handlers also see the answers, after this one
    has; this includes handlers of batches (`on_batch`). Once all steps have been answered, received messages
    have no overhead.

    A step fails if its message cannot be created or sent, if the answer is a refusal, or if no answer arrives
    in time. The failure is then logged, with the server's words, and kept as `failure`. The connection is
    dropped, and the `Backoff` decides when the next attempt begins; a connection that ends this way never
    counts as stable. If a step with `Step.give_up` is refused, the app is closed instead. The same applies to
    steps that are added later. The time limit of a step begins when its message is sent, however long the
    message had to wait in the send queue.

    All methods may be called from any thread; only `wait_session_ready` waits. Messages are created and sent
    on the handlers' thread, and no lock is held meanwhile.

    Args:
        app: the app.
        steps: the steps, in the order in which they are sent.
        on_session_ready: called on the handlers' thread with the connection's `Ready` event, once all steps
            have been answered. It may send. Its exceptions are treated like those of a handler.
        on_step_failed: called on the handlers' thread with the step and a `StepFailed`, after the connection
            has been dropped. It may call `WebSocketApp.close` to stop reconnecting.
        max_steps: the maximum number of steps.
        split: for protocols that treat the messages of a connection as one stream of bytes, such as MQTT: a
            function that is given bytes and returns the length of the packet that begins there, or None to
            ask for more bytes (see `lochws.handlers.packets.Packets`). `Step.expect`, `Step.refused` and
            `Step.message` then get a `Binary` for each packet, however packets were distributed over
            messages, and every message is read, even after the session is ready. If the function raises an
            exception, the connection is dropped.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    def __init__(
        self,
        app: WebSocketApp,
        steps: Iterable[Step] = (),
        *,
        on_session_ready: Callable[[events.Ready], object] | None = None,
        on_step_failed: Callable[[Step, StepFailed], object] | None = None,
        max_steps: int = 10_000,
        split: Split | None = None,
    ) -> None:
        check_app(app)
        for name, function, count in (
            ("on_session_ready", on_session_ready, 1), ("on_step_failed", on_step_failed, 2)
        ):
            if not (function is None or callable(function)):
                raise TypeError(f"{name}={function!r}: expected a function, or None")
            if function is not None:
                check_takes(name, function, count)
        check_range("max_steps", max_steps, 1)
        self._app = app
        self._on_session_ready = on_session_ready
        self._on_step_failed = on_step_failed
        self._max_steps = max_steps
        self._incoming = Incoming(app, split)
        self._codec = app.hooks.codec
        self._kind = kind_of(app)
        # Guards the next three.
        self._lock = control_lock()
        self._table: dict[Hashable, _Progress] = {}
        self._unsent: deque[_Progress] = deque()  # not sent yet on the current connection
        self._ready: events.Ready | None = None  # of the current connection, once its steps are being sent
        # Changed by the handlers' thread only; read by any thread.
        self._unanswered: list[_Progress] = []  # sent, and waiting for an answer
        self._departures = Departures(app)
        self._answer: events.Text | events.Binary | None = None  # to the last step that has been answered
        self._listens = False
        self._is_session_ready = False
        self._failure: StepFailed | None = None
        for step in steps:
            self.add(step)
        forks.register(self)
        app.add_handler(self)
        self._gate = app.hooks.gate()

    # Called on any thread.

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""
        with self._lock:
            table = list(self._table.values())
        return tuple(progress.step for progress in table)

    @property
    def is_session_ready(self) -> bool:
        """True if all steps have been answered on the current connection; steps added since do not count."""
        return self._is_session_ready

    @property
    def failure(self) -> StepFailed | None:
        """The failure of the last step that failed, or None if the session has become ready since.

        Its str says which step failed and why, with the server's words; `StepFailed.answer` is the message
        with which the server refused it. If `wait_session_ready` returned False, this says why, unless there
        was no connection at all.
        """
        return self._failure

    def add(self, step: Step) -> None:
        """Add a step: it is sent at once if there is a connection, and after each Ready from now on.

        A step that equals an existing one is not added again. A step that differs from an existing one but
        has the same key replaces it.

        Raises:
            TypeError: `step` is not a Step, or its message cannot be written as JSON or by the app's codec.
            ValueError: the message contains a value that cannot be written, such as NaN; there are already
                `max_steps` steps; or the message is a function of the previous answer, and no step before it
                expects one.
        """
        if not isinstance(step, Step):
            raise TypeError(f"step={step!r}: expected a lochws.handlers.subscriptions.Step")
        if is_message(step.message):
            check_message("message", step.message, self._codec)
        key = step.identity
        takes_answer, name = step.takes_answer, safe_name(step.message)
        before = self._table.get(key)
        if before is not None and before.step == step:  # compares users' objects, so without the lock
            return
        with self._lock:
            before = self._table.get(key)
            if before is None and len(self._table) >= self._max_steps:
                raise ValueError(f"there are already {len(self._table)} steps: max_steps={self._max_steps!r}")
            if takes_answer and all(known.step.expect is None for known in self._table.values()):
                raise ValueError(f"message={name}: it takes an answer, but no step before it expects one")
            progress = self._table[key] = _Progress(step)
            ready = self._ready
            if ready is not None:
                self._drop_unsent(before)
                self._unsent.append(progress)
        self._soon(ready, before, None)

    def remove(self, step: Step | Hashable, message: Message | None = None) -> bool:
        """Remove a step: it is not sent again, and its answer is no longer awaited.

        Args:
            step: the step, or its key.
            message: a message to unsubscribe, sent if the step was sent on the current connection. If it
                cannot be sent, the connection is dropped.

        Returns:
            Whether the step existed.

        Raises:
            TypeError, ValueError: `message` is not a str, bytes, a mapping or a list, or cannot be encoded.
                In that case the step is not removed.
        """
        if not (message is None or is_message(message)):
            raise TypeError(f"message={message!r}: expected str, bytes, a mapping or a list")
        if message is not None:
            check_message("message", message, self._codec)
        with self._lock:
            before = self._table.pop(step.identity if isinstance(step, Step) else step, None)
            ready = self._ready
            self._drop_unsent(before)
        if before is not None:
            self._soon(ready, before, message)
        return before is not None

    def send(self, message: Message) -> bool:
        """Send a message even while the session is being set up, when other sends are refused.

        Use it for messages that the server wants at any time, such as answers to its own pings. See also
        `lochws.handlers.heartbeat`.

        Args:
            message: text, bytes, or a mapping or list that is sent as JSON.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``).

        Raises:
            TypeError: it is not a message, or cannot be written as JSON.
            ValueError: the text contains lone surrogates and cannot be encoded as UTF-8.
            WebSocketUnavailable: there is no connection, or it is closing.
            QueueFull: the app's send queue is full.
            TransportFail: the network failed, and the message was not sent completely.
        """
        if not is_message(message):
            raise TypeError(f"message={message!r}: expected str, bytes, a mapping or a list")
        return self._gate.send(as_payload("message", message, self._codec))

    def wait_session_ready(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """Wait until all steps have been answered and other threads may send. Must not be called in handlers.

        Equivalent to `WebSocketApp.wait_ready`.

        Args:
            timeout: seconds to wait at most, or None for no limit.
            check: whether to raise WaitFailed, which says why, instead of returning False.

        Returns:
            True once the session is ready; False after `timeout` seconds, or if the app has stopped. Then
            `failure` is the last step that failed, if one has.

        Raises:
            TypeError, ValueError: the timeout is not a number, or `check` is not a bool.
            WebSocketError: called in a handler, where it would deadlock; or the app has not been started.
            WaitFailed: with ``check=True``, the wait failed. If a step has failed, the message says so, and
                `failure` is the exception's ``__cause__``.
        """
        timeout = as_timeout("wait_session_ready", timeout)
        check_bool("check", check)
        if self._app.in_handler:
            raise WebSocketError("wait_session_ready would deadlock in a handler: use on_session_ready")
        if not check:
            return self._app.wait_ready(timeout, check=check)
        try:
            return self._app.wait_ready(timeout, check=True)
        except WaitFailed as error:
            if (failure := self._failure) is None:
                raise
            words = f"{error}; {failure}"
            raise WaitFailed(words, event=error.event, timed_out=error.timed_out) from failure

    def leave(self) -> None:
        """Stop sending steps, and open the gate. Subscriptions already made stay active at the server."""
        with suppress(ValueError):  # leave() was called before
            self._app.remove_handler(self)
        with self._lock:
            self._table.clear()
        self._gate.remove()
        with suppress(WebSocketError):  # not running
            self._app.call_later(0, self._end)

    def reset_after_fork(self) -> None:
        """Reset the progress of the steps in the child of a fork. The steps themselves are kept."""
        self._lock = control_lock()
        self._unsent.clear()
        self._unanswered.clear()
        self._ready = None
        self._answer = None
        self._is_session_ready = False
        self._incoming.clear()

    def _drop_unsent(self, progress: _Progress | None) -> None:
        if progress is not None and progress in self._unsent:
            self._unsent.remove(progress)

    def _soon(self, ready: events.Ready | None, before: _Progress | None, message: Message | None) -> None:
        if ready is not None:
            with suppress(WebSocketError):  # the app has stopped in the meantime
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
        self._incoming.clear()
        if self._incoming.is_stream:
            self._start_listening()
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
        """Send the steps that are due, or announce that the session is ready if all have been answered."""
        while self._ready is ready:
            with self._lock:
                progress = self._unsent[0] if self._unsent else None
                if progress is not None and not (self._unanswered and progress.in_turn):
                    self._unsent.popleft()
            if progress is None:
                break
            if self._unanswered and progress.in_turn:
                return
            if progress.step.expect is not None:
                self._listen(progress)
            if not self._send(progress):
                return
        if self._ready is ready and not self._unanswered and not self._is_session_ready:
            self._is_session_ready = True
            self._failure = None
            self._gate.open()
            if self._on_session_ready is not None:
                self._on_session_ready(ready)

    def _send(self, progress: _Progress) -> bool:
        """Send the message of a step. Return False if that failed; the connection is then dropped."""
        step = progress.step
        try:
            message = step.make(self._answer)
            begin = partial(self._begin_time, progress, progress.attempt)
            if message is None and not callable(step.message):
                begin()
            elif not self._departures.send(
                self._gate.send, as_payload("the step's function", message, self._codec), begin
            ):
                raise QueueFull("the send queue is full")
        except (WebSocketUnavailable, TransportFail):
            self._end()  # closing or lost, which the Disconnected event reports
            return False
        except BaseException as error:  # noqa: BLE001  not even SystemExit may leave the gate closed forever
            self._fail(progress, f"could not be sent ({type(error).__name__})", cause=error)
            return False
        progress.was_sent = True
        return True

    def _listen(self, progress: _Progress) -> None:
        """Start waiting for the answer. Called before the message is sent, in case the answer is fast."""
        self._unanswered.append(progress)
        progress.doubts.clear()
        progress.attempt = object()
        self._start_listening()

    def _begin_time(self, progress: _Progress, attempt: object) -> None:
        """Begin the time limit of a step, whose message has left the send queue, unless it was answered."""
        timeout = progress.step.timeout
        if progress.attempt is attempt and progress in self._unanswered and timeout is not None:
            progress.timer = self._app.call_later(timeout, partial(self._timed_out, progress, False))

    def _start_listening(self) -> None:
        if not self._listens:
            self._listens = True
            self._app.on("event")(self._received)

    def _received(self, event: events.Event) -> None:
        """Check whether this message, or a packet in it, is an answer."""
        ready = self._ready
        for message in self._incoming.of(event):
            if ready is None or self._ready is not ready:
                return
            self._check(message, ready)

    def _check(self, event: events.Text | events.Binary, ready: events.Ready) -> None:
        """Check whether this is an answer. It settles only the first step that accepts it."""
        for progress in self._unanswered:
            try:
                is_answer = progress.step.is_answer(event, progress.doubts, self._kind)
            except StepFailed as error:
                self._fail(progress, str(error), answer=error.answer, cause=error.__cause__)
                return
            if is_answer:
                self._answer = event
                self._settle(progress)
                self._continue(ready)
                return

    def _timed_out(self, progress: _Progress, again: bool) -> None:
        if progress not in self._unanswered:
            return
        timeout = progress.step.timeout
        if not again and self._app.waiting_bytes and timeout is not None:
            # The answer may be among the messages queued behind a slow handler.
            progress.timer = self._app.call_later(timeout, partial(self._timed_out, progress, True))
            return
        self._fail(progress, f"got no answer within {timeout:g} s", more=str(progress.doubts))

    def _settle(self, progress: _Progress) -> None:
        """Stop waiting for this answer."""
        self._unanswered.remove(progress)
        if progress.timer is not None:
            progress.timer.cancel()
            progress.timer = None
        if not self._incoming.is_stream:
            self._stop_listening()

    def _stop_listening(self) -> None:
        if not self._unanswered and self._listens:
            self._listens = False
            self._app.remove_handler(self._received)

    def _end(self) -> None:
        """Stop waiting for answers, and send nothing until the next Ready."""
        with self._lock:
            self._ready = None
            self._unsent.clear()
        self._is_session_ready = False
        self._answer = None
        for progress in self._unanswered.copy():
            self._settle(progress)
        self._departures.clear()
        self._stop_listening()

    def _fail(
        self, progress: _Progress, words: str, *, more: str = "",
        answer: events.Text | events.Binary | None = None, cause: BaseException | None = None,
    ) -> None:
        """Drop the connection because a step has failed; close the app if it is to give up.

        Args:
            progress: the step.
            words: why it failed, for the `Disconnected` event, which the server may see too.
            more: details for the log and for `failure`.
            answer: the message with which the server refused the step.
            cause: the exception that caused the failure.
        """
        step = progress.step
        if answer is not None and cause is None:
            more = f"; the server said: {quoted(answer)}"
        failure = StepFailed(f"{progress.name} {words}{more}", answer, step)
        failure.__cause__ = cause
        gives_up = answer is not None and step.give_up
        then = "giving up" if gives_up else "disconnecting"
        shown = None if isinstance(cause, StepFailed) else cause
        report_about(
            self._app, logging.WARNING, "gave_up" if gives_up else "step_failed", f"{then}: %s", failure,
            error=shown, ws_reason=str(failure),
        )
        self._end()
        self._failure = failure
        self._app.force_disconnect(f"{progress.name} {words}")
        if gives_up:
            self._app.close()
        if self._on_step_failed is not None:
            self._on_step_failed(step, failure)
