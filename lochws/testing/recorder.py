"""Notes what happens to an app, and lets a test wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from .. import clock, events
from ..app import WebSocketApp
from ..life.state import State
from .clock import VirtualClock
from .stacks import stacks

SomeEvent = TypeVar("SomeEvent", bound=events.Event)
SomeError = TypeVar("SomeError", bound=BaseException)

#: Every kind of event that there is.
KINDS = tuple(
    kind for kind in map(vars(events).__getitem__, events.__all__)
    if kind not in (events.Event, events.UnknownMessage)
)
#: Events whose number is a matter of time.
PASSING = (events.Ping, events.Poll, events.Pong)
#: How many events a message shows.
_SHOWN = 40
#: Seconds between two looks whether the app is over.
_LOOK = 0.05


class Recorder:
    """What has happened to an app, in order. Any thread may wait; the test's does.

    An event is noted when the app's own handlers have run, those that were registered before the recorder:
    so when `wait_for` returns, they have done what they do. (But messages that go to a handler of batches
    are noted right before that.)

    Args:
        app: what is recorded; it may run already.
        patience: seconds, of the machine's clock, for everything that is waited for.

    Attributes:
        app: the app.
        events: what was noted so far; it only grows.
        errors: what handlers have raised and `wait_for_error` has not returned, in order.
    """

    def __init__(self, app: WebSocketApp, *, patience: float = 10.0) -> None:
        self.app = app
        self.events: list[events.Event] = []
        self.errors: list[BaseException] = []
        self._patience = patience
        self._times: list[float] = []  # of the events
        self._position = 0  # events before it were waited for, or passed over
        self._changed = threading.Condition()  # guards all of these
        app.on(events.Event)(self._note_of_batch)
        app.on(*KINDS)(self._note)
        app.on("error")(self._note_error)

    def __repr__(self) -> str:
        return f"<Recorder of {self.app!r}, {len(self.events)} events>"

    def wait_for(
        self, kind: type[SomeEvent], *, count: int = 1, where: Callable[[SomeEvent], object] | None = None,
        timeout: float | None = None,
    ) -> SomeEvent:
        """Wait for an event behind the one that was waited for last, and return it.

        Events before it are passed over.

        Args:
            kind: its class; `lochws.events.Event` for whatever comes next.
            count: that many of them, of which the last is returned.
            where: says whether it is one of those that are wanted.
            timeout: seconds that may pass before it comes. While the fixture ``ws_clock`` is in use they
                are its seconds, which pass as fast as the threads can follow. None has the time stand
                still then, and else stands for the recorder's patience.

        Raises:
            AssertionError: it did not come, or the app was over before; the message shows what came.
            TypeError: `kind` is no class of events.
        """
        __tracebackhide__ = True
        if not (isinstance(kind, type) and issubclass(kind, events.Event)):
            raise TypeError(f"kind={kind!r}: expected a class of lochws.events, such as events.Ready")
        what = kind.__name__ + " that is wanted" * bool(where) + f" ({count} of them)" * (count > 1)

        def find() -> int | None:
            left = count
            for number in range(self._position, len(self.events)):
                event = self.events[number]
                if isinstance(event, kind) and (where is None or where(event)):
                    left -= 1
                    if not left:
                        return number
            return None

        number = self._wait(find, what, timeout)
        with self._changed:
            self._position = number + 1
        event = self.events[number]
        assert isinstance(event, kind)
        return event

    def wait_for_error(self, kind: type[SomeError], *, timeout: float | None = None) -> SomeError:
        """Wait until a handler raises such an exception, and return it: then it fails the test no more.

        Raises:
            AssertionError: none did within this time; see `wait_for`.
        """
        __tracebackhide__ = True

        def find() -> int | None:
            return next((number for number, error in enumerate(self.errors) if isinstance(error, kind)), None)

        number = self._wait(find, f"a handler that raises {kind.__name__}", timeout)
        with self._changed:
            error = self.errors.pop(number)
        assert isinstance(error, kind)
        return error

    def assert_exhausted(self) -> None:
        """Check that nothing has come behind the event that was waited for last, and no handler has raised.

        Poll, Ping and Pong do not count: how many there are is a matter of time. While the fixture
        ``ws_clock`` is in use, what is under way is waited for; else only what has come by now is seen.

        Raises:
            AssertionError: something has.
        """
        __tracebackhide__ = True
        if isinstance(virtual := clock.current(), VirtualClock):
            virtual.settle()
        with self._changed:
            left = [event for event in self.events[self._position:] if not isinstance(event, PASSING)]
            if left:
                raise AssertionError(f"{left[0]!r} has come, which was not waited for. {self._told()}")
        self.check()

    def check(self) -> None:
        """Raise what a handler has raised, unless `wait_for_error` has returned it."""
        with self._changed:
            for error in self.errors:
                raise AssertionError(f"a handler of {self.app!r} raised {error!r}") from error

    def finish(self) -> None:
        """Stop the app if it runs, and record no more. What handlers have raised stays for `check`.

        Raises:
            AssertionError: the app, or a thread of its own, did not end; the message shows what they are at.
        """
        try:
            if self.app.state in (State.NEW, State.STOPPED):
                return
            if isinstance(virtual := clock.current(), VirtualClock):
                with virtual.passing():
                    is_over = self.app.stop(self._patience)
            else:
                is_over = self.app.stop(self._patience)
            if not is_over:
                at = stacks("lochws-")
                raise AssertionError(f"{self.app!r} did not stop within {self._patience:g} s:\n{at}")
        finally:
            for handler in (self._note_of_batch, self._note, self._note_error):
                self.app.remove_handler(handler)

    # The reader's thread.

    def _note_of_batch(self, event: events.Event) -> None:
        if isinstance(event, (events.Text, events.Binary)) and self.app.handles("batch"):
            self._note(event)

    def _note(self, event: events.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._times.append(clock.current().monotonic())
            self._changed.notify_all()

    def _note_error(self, error: BaseException) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    # Waiting.

    def _wait(self, find: Callable[[], int | None], what: str, timeout: float | None) -> int:
        """Wait until `find` finds something, and return it."""
        __tracebackhide__ = True
        virtual = clock.current()
        if timeout is not None and isinstance(virtual, VirtualClock):
            try:
                self._pass(virtual, find, virtual.monotonic() + timeout)
            except AssertionError as error:
                raise AssertionError(f"in vain for {what}: {error}\n{self._told()}") from None
            limit = 0.0
        else:
            limit = self._patience if timeout is None else timeout
        end = monotonic() + limit
        with self._changed:
            while (number := find()) is None:
                is_over = self.app.is_closed  # before what was noted last is looked at for the last time
                left = end - monotonic()
                if (is_over or left <= 0) and (number := find()) is None:
                    why = "The app is over" if is_over else f"waited {timeout or limit:g} s"
                    raise AssertionError(f"{why}: in vain for {what}. {self._told()}")
                self._changed.wait(min(max(left, 0.0), _LOOK))
            return number

    def _pass(self, virtual: VirtualClock, find: Callable[[], int | None], until: float) -> None:
        """Let virtual time pass until something is found."""
        while True:
            due = virtual.settle()
            with self._changed:
                if find() is not None:
                    return
            if due is None or due > until:
                virtual.advance_to(until)
                return
            virtual.advance_to(due)

    def _told(self) -> str:
        """What has come, in words."""
        hidden = max(0, len(self.events) - _SHOWN)
        lines = [f"{self.app!r} is {self.app.state.value}. What has come:"]
        if not self.events:
            lines.append("  nothing")
        if hidden:
            lines.append(f"  ({hidden} more before)")
        for number in range(hidden, len(self.events)):
            mark = "->" if number == self._position else "  "
            lines.append(f"{mark} {self._times[number] - self._times[0]:8.3f} s  {self.events[number]!r}")
        lines += [f"   a handler raised {error!r}" for error in self.errors]
        return "\n".join(lines)
