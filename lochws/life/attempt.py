"""Attempt: one attempt of an app to connect, as steps that its loop takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias, TypeVar

from .. import events
from ..opening.dial import Dialler, Opened
from ..system.deadline import Deadline
from ..system.report import report_aside, safe_str
from ..system.steps import Steps, raisable, told
from ..transport.background import Background
from ..url import without_secrets

T = TypeVar("T")

#: The callers of the functions that were passed as options, by option. A string, because `typing` caches
#: evaluated aliases: it would keep the class, and with it a copy of lochws that is no longer used.
UserFunctions: TypeAlias = "dict[str, Background[Any]]"


class AttemptListener(Protocol):
    """The life of an app, as an attempt sees it."""

    url: str
    is_forked_copy: bool

    def hold(self, deadline: Deadline | None) -> None:
        """Keep this deadline, to cancel it if the app is closed; None when it is no longer needed."""

    def attempt_event(self, event: events.Event) -> None:
        """Record an event of the attempt, and pass it to the handlers."""

    def opened(self, opened: Opened) -> None:
        """Take over the open WebSocket."""


class Attempt:
    """One attempt to connect. Whatever happens, it produces exactly one final event.

    Args:
        life: receives the events and the result.
        dialler: opens connections.
        functions: the callers of functions passed as options, which keep track of calls that are running.
    """

    def __init__(self, life: AttemptListener, dialler: Dialler, functions: UserFunctions) -> None:
        self._life = life
        self._dialler = dialler
        self._functions = functions
        self._has_begun = False

    def steps(self, open_timeout: float | None, wake: Callable[[], object]) -> Steps[None]:
        """Make the attempt.

        Args:
            open_timeout: the limit in seconds, or None.
            wake: has these steps resumed; any thread may call it.
        """
        try:
            opened = yield from self._open(open_timeout, wake)
            if opened is not None:
                self._hand_over(opened)
        except GeneratorExit:
            raise  # the loop has ended before the attempt
        except BaseException as error:  # noqa: BLE001  no memory, say: one more way to fail
            url = without_secrets(self._life.url)
            report_aside(logging.ERROR, "unexpected error while connecting to %s", url, error=error)
            if not self._has_begun:
                self._tell(events.Connecting(url))
            self._tell(events.ConnectFail(f"error; {safe_str(error)}", phase="prepare", error=error))

    def _open(self, open_timeout: float | None, wake: Callable[[], object]) -> Steps[Opened | None]:
        deadline = Deadline(open_timeout)
        deadline.attend(wake)
        try:
            self._life.hold(deadline)
            attempt = self._dialler.dial(deadline, Ask(deadline, self._functions))
            return (yield from told(attempt, self._tell))
        finally:
            self._life.hold(None)

    def _hand_over(self, opened: Opened) -> None:
        try:
            self._life.opened(opened)
        except GeneratorExit as error:  # raised by a user's socket
            raise raisable(error) from error

    def _tell(self, event: events.Event) -> None:
        self._has_begun = True
        self._life.attempt_event(event)


class Ask:
    """A caller of functions passed as options. They may never return, so a deadline limits each wait.

    Args:
        deadline: the limit for each wait.
        functions: the callers for each option; a call that is still running is waited for, not repeated.
        key: the value that the results depend on: only a running call with the same key is reused.
    """

    def __init__(self, deadline: Deadline, functions: UserFunctions, key: Hashable = None) -> None:
        self._deadline = deadline
        self._functions = functions
        self._key = key

    def __call__(self, option: str, function: Callable[[], T], /, key: Hashable = None) -> Steps[T]:
        """Return what the function returns, or raise what it raises.

        Raises:
            TimeoutError: the function did not return in time.
            Cancelled: the deadline was cancelled.
        """
        self._deadline.until()  # nothing is called for an app that has gone on
        background: Background[T] | None = self._functions.get(option)
        if background is None:
            background = self._functions[option] = Background(f"lochws-{option}")
        try:
            calling = background.call(function, self._deadline, key=self._key if key is None else key)
            return (yield from calling)
        except TimeoutError as error:
            if not background.is_busy:
                raise  # by the function
            raise TimeoutError(f"the function given as {option} did not return: {error}") from error
