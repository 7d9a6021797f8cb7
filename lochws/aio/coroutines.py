"""Coroutine handlers: handlers of an app that run on an event loop, one at a time and in order."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any, cast

from .. import events
from ..base.callables import is_coroutine_function
from ..dispatch.registry import Registry
from ..errors import WebSocketError
from ..life.intake import Intake, Life
from ..options import MIB
from ..system.control import control_lock
from ..system.rate_limit import RateLimit
from ..system.report import report, safe_name
from .arrivals import TURN_SECONDS

#: The events that may wait for the coroutine handlers of one loop, and their memory in bytes.
MAX_EVENTS, MAX_BYTES = 1000, 16 * MIB
#: The events taken from the inbox at a time. They count as waiting until all of them have been handled.
BATCH = 100


class CoroutineHandlers:
    """The coroutine handlers of one app or feed on one event loop.

    The reader's thread puts events into a bounded inbox, and waits while it is full. A task on the loop calls
    the handlers for one event after the other, and ends when nothing is waiting. At most one call to start
    that task is scheduled at a time, so that the loop is never flooded.

    Args:
        life: the life of the app.
        registry: the app's handlers, to which failures are reported.
        loop: the event loop.
    """

    def __init__(self, life: Life, registry: Registry, loop: asyncio.AbstractEventLoop) -> None:
        self._life = life
        self._registry = registry
        self._loop = loop
        self._context = contextvars.copy_context()
        self._handlers: tuple[tuple[frozenset[type[events.Event]], Callable[..., Any]], ...] = ()
        self._task: asyncio.Task[None] | None = None  # the loop's
        self._is_scheduled = False  # set by the thread that schedules, cleared by the task before it looks
        self._is_over = False
        self._failures = RateLimit()
        self._intake = Intake(
            life, registry, frozenset(), "pause", MAX_EVENTS, MAX_BYTES,
            is_over=lambda: self._is_over or loop.is_closed(),
        )
        self._intake.on_change(self._arrived)

    @property
    def is_over(self) -> bool:
        """True if the handlers will never be called again, because their loop or task has ended."""
        return self._is_over or self._loop.is_closed()

    def add(
        self, function: Callable[..., Coroutine[Any, Any, object]], kinds: frozenset[type[events.Event]]
    ) -> None:
        """Add a handler. Any thread."""
        with control_lock():
            self._handlers += ((kinds, function),)
            self._intake.kinds |= kinds

    def remove(self, function: object) -> bool:
        """Remove a handler. Return whether it was one. Any thread."""
        while True:
            before = self._handlers
            left = tuple(one for one in before if one[1] is not function and one[1] != function)
            if len(left) == len(before):
                return False
            with control_lock():  # not during the comparisons, which may run the user's code
                if self._handlers is before:
                    self._handlers = left
                    self._intake.kinds = frozenset().union(*(kinds for kinds, _ in left))
                    return True

    def discard(self) -> None:
        """End without ever having had a handler. Any thread."""
        self._is_over = True
        self._intake.close()

    def _arrived(self) -> None:
        """Have the loop start the task. Any thread."""
        if self._is_over:
            return
        self._intake.on_change(self._arrived)
        if self._is_scheduled or not len(self._intake.inbox):
            return
        try:
            self._is_scheduled = True
            self._loop.call_soon_threadsafe(self._start, context=self._context)
        except RuntimeError:
            self._end("their event loop was closed")
        except BaseException:  # Ctrl-C: the next event schedules it
            self._is_scheduled = False
            raise

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        inbox = self._intake.inbox
        turn_ends = monotonic() + TURN_SECONDS
        try:
            while True:
                self._is_scheduled = False
                batch = inbox.take_batch(BATCH)
                if not batch:
                    return
                for event in batch:
                    for kinds, function in self._handlers:
                        if type(event) in kinds:
                            await self._call(function, event)
                    if monotonic() >= turn_ends:
                        await asyncio.sleep(0)
                        turn_ends = monotonic() + TURN_SECONDS
                inbox.end_batch()
        except BaseException as error:
            # Cancelled, usually because the loop is about to close; or SystemExit, which ends the loop.
            self._end(f"their task ended with {type(error).__name__}")
            raise

    async def _call(self, function: Callable[..., Any], event: events.Event) -> None:
        try:
            await function(event)
        except asyncio.CancelledError as error:
            # A handler may also have waited for something that was cancelled. Python 3.10 cannot tell.
            task = asyncio.current_task()
            if task is None or not hasattr(task, "cancelling") or task.cancelling():
                raise
            self._failed(function, event, error)
        except Exception as error:  # noqa: BLE001  it is reported
            self._failed(function, event, error)

    def _failed(self, function: Callable[..., Any], event: events.Event, error: BaseException) -> None:
        """Report a failure on the reader's thread, as that of any handler."""
        try:
            self._life.call_later(0, partial(self._registry.handler_failed, function, event, error))
        except WebSocketError:  # the app has stopped
            words = "handler %s failed on %r"
            report(logging.ERROR, words, safe_name(function), event, error=error, limit=self._failures)

    def _end(self, why: str) -> None:
        self._is_over = True
        batch = len(self._intake.inbox.batch)
        dropped = self._intake.close() + batch
        names = ", ".join(safe_name(function) for _, function in self._handlers)
        report(
            logging.WARNING,
            "coroutine handlers will not be called any more, since %s; %d events dropped: %s",
            why, dropped, names,
        )


def add(
    life: Life, registry: Registry, function: Callable[..., Any], kinds: frozenset[type[events.Event]],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Add a coroutine function to the handlers on its event loop. Any thread.

    Args:
        life: the life of the app or feed.
        registry: its handlers.
        function: the function.
        kinds: the classes of its events.
        loop: the event loop.

    Raises:
        TypeError: the function is not a coroutine function of one argument, or `loop` is not an event loop.
    """
    check(function, loop)
    while True:
        before: tuple[tuple[object, CoroutineHandlers], ...] = registry.coroutines
        left = tuple(one for one in before if not one[1].is_over)
        handlers = next((one for own, one in left if own is loop), None)
        if handlers is not None:
            break
        # Registering them may call the user's wrappers, so the lock is not held meanwhile.
        handlers = CoroutineHandlers(life, registry, loop)
        with control_lock():
            if (is_unchanged := registry.coroutines is before):
                registry.coroutines = (*left, (loop, handlers))
        if is_unchanged:
            break
        handlers.discard()
    handlers.add(function, kinds)


def check(function: object, loop: object) -> None:
    """Refuse what cannot be a coroutine handler on a loop.

    Raises:
        TypeError: the function is not a coroutine function of one argument, or `loop` is not an event loop.
    """
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f"loop={loop!r}: expected an event loop, such as asyncio.get_running_loop(), or None")
    name = safe_name(function)
    if not is_coroutine_function(function):
        raise TypeError(f"{name} is not a coroutine function: leave out loop=, or write async def")
    try:
        inspect.signature(cast("Callable[..., object]", function)).bind(object())
    except TypeError:
        raise TypeError(f"{name} cannot be called with one argument, the event") from None
