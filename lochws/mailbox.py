"""Mailbox: received events that wait, within bounds, for a thread or a coroutine that asks for them.

::

    app = WebSocketApp("wss://feed.example.org")
    mailbox = app.mailbox("text", size=1000)
    app.start()
    for message in mailbox:
        print(message.json)

`WebSocketApp.mailbox` and `Feed.mailbox` create mailboxes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from time import monotonic
from typing import Any, Generic, TypeVar, cast

from . import events
from .base.callables import check_takes
from .dispatch.naming import CLASSES, EventName, event_names
from .dispatch.registry import Registry
from .engine.bounded_inbox import WHEN_FULL, WhenFull
from .errors import WebSocketClosed, WebSocketError
from .life.intake import Intake, Life
from .options import as_timeout, check_choice, check_range
from .system.control import interrupts
from .system.lazy import ensure_whole
from .system.waits import slice_of

__all__ = ["Mailbox"]

_E_co = TypeVar("_E_co", bound=events.Event, covariant=True)


class Mailbox(Generic[_E_co]):
    """Events of an app or a feed, kept until a thread or coroutine asks for them. Created by their `mailbox`.

    Each event is handed out once, in order of arrival, to one consumer: `get`, a ``for`` loop or an
    ``async for`` loop, of which there may be several at the same time. An app may have several mailboxes, and
    handlers too; each of them gets every event that it asked for.

    A mailbox outlives connections: a reconnect does not end it. It ends when the app has stopped, and hands
    out what is still waiting first. If the app is started again, it goes on. A mailbox that nothing refers to
    any more, such as that of a loop that was left by ``break``, is closed.

    Any thread may call any method. `get` and loops wait; a handler of the same app must not wait for events,
    and is refused. In a coroutine, use ``async for``.
    """

    def __init__(self, life: Life, intake: Intake) -> None:
        # For `WebSocketApp.mailbox`. The app keeps the intake, but no reference to this object.
        self._life = life
        self._intake = intake

    def get(self, timeout: float | None = None) -> _E_co:
        """Wait for the next event, and return it.

        Args:
            timeout: the longest time to wait, in seconds; 0 to return or raise at once; None for no limit.

        Raises:
            TimeoutError: no event has arrived in time.
            WebSocketClosed: the app has stopped and nothing is waiting any more, or the mailbox was closed;
                `WebSocketClosed.event` is the final event of the app's last connection or attempt, or None.
            WebSocketError: called in a handler of the same app, or by code that interrupts lochws on its own
                thread, while nothing is waiting: it would wait for itself.
            TypeError, ValueError: the timeout is not a number.
        """
        if timeout is not None:
            timeout = as_timeout("get", timeout)
        event = self._intake.inbox.take()
        if event is None:
            event = self._wait("get", timeout)
        return cast("_E_co", event)

    def __iter__(self) -> Iterator[_E_co]:
        """Iterate over the events, waiting for each, until the app has stopped or the mailbox is closed.

        Raises:
            WebSocketError: used in a handler of the same app while nothing is waiting.
        """
        return _Loop(self)

    def __aiter__(self) -> AsyncIterator[_E_co]:
        """Iterate over the events in a coroutine, until the app has stopped or the mailbox is closed.

        The event loop is never blocked. A loop that is always behind lets other coroutines run every few
        milliseconds. Cancelling loses no event.
        """
        ensure_whole("lochws.aio.arrivals")
        from .aio.arrivals import Arrivals  # noqa: PLC0415  only programs with an event loop need asyncio

        return cast("AsyncIterator[_E_co]", Arrivals(self._intake, self))

    def __len__(self) -> int:
        """Return the number of events that are waiting."""
        return len(self._intake.inbox)

    def __bool__(self) -> bool:
        """Return True, even if nothing is waiting."""
        return True

    def __repr__(self) -> str:
        names = ", ".join(sorted({kind.name for kind in self._intake.kinds}))
        return f"<Mailbox of {names}: {len(self)} waiting, {self.dropped} dropped>"

    def __del__(self) -> None:
        if hasattr(self, "_intake"):
            self._intake.abandon()

    @property
    def dropped(self) -> int:
        """The number of events dropped so far because the mailbox was full or was closed. Any thread."""
        return self._intake.dropped

    @property
    def is_closed(self) -> bool:
        """True if `close` was called. Any thread."""
        return self._intake.inbox.is_closed

    def close(self) -> int:
        """Stop receiving events, and drop those that are waiting. Any thread may call it; never blocks.

        Loops over the mailbox end, and `get` raises `WebSocketClosed`. The app is not affected, but if it was
        waiting for room in this mailbox, it continues.

        Returns:
            The number of events dropped by this call.
        """
        return self._intake.close()

    def _wait(self, method: str, timeout: float | None) -> events.Event:
        """Wait for an event, and take it. Raises as `get` does."""
        intake = self._intake
        end = None if timeout is None else monotonic() + timeout
        self._check_may_wait(method, timeout)
        while True:
            inbox = intake.inbox
            with inbox.lock:
                has_ended = intake.has_ended  # before looking: all events have arrived by then
                event = inbox.take()
                if event is not None:
                    return event
                left = None if end is None else end - monotonic()
                if not has_ended and (left is None or left > 0):
                    inbox.changed.wait(slice_of(left))
                    continue
            if has_ended:
                raise self._ended(method)
            raise TimeoutError(f"{method}(): nothing has arrived within {timeout:g} s")

    def _check_may_wait(self, method: str, timeout: float | None) -> None:
        """Raise WebSocketError if the calling thread must not wait for an event."""
        if timeout == 0 or self._intake.has_ended:
            return
        if self._life.in_handler:
            raise WebSocketError(
                f"{method}() was called in a handler of the same app while nothing was waiting, and would "
                "wait for that handler's end"
            )
        if interrupts():
            raise WebSocketError(
                f"{method}() was called by code that interrupts lochws, such as a signal handler, while "
                "nothing was waiting: pass timeout=0 there"
            )

    def _ended(self, method: str) -> WebSocketClosed:
        if self.is_closed:
            return WebSocketClosed(f"{method}(): the mailbox was closed")
        event = self._life.final_event
        how = "the app has stopped" if event is None else str(event)
        return WebSocketClosed(f"{method}(): no more events will arrive: {how}", event=event)


class _Loop(Iterator[_E_co]):
    """One ``for`` loop over a mailbox, which it keeps alive."""

    __slots__ = ("_mailbox", "_take")

    def __init__(self, mailbox: Mailbox[_E_co]) -> None:
        self._mailbox = mailbox

    def __next__(self) -> _E_co:
        try:
            return self._mailbox.get()
        except WebSocketClosed:
            raise StopIteration from None


def make_mailbox(
    life: Life,
    registry: Registry,
    names: tuple[EventName, ...],
    *,
    size: int,
    when_full: WhenFull,
    key: Callable[[Any], Hashable] | None,
    max_bytes: int,
    caller: str = "app.mailbox",
) -> Mailbox[Any]:
    """Create a mailbox and register it: see `WebSocketApp.mailbox`.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.
    """
    kinds = kinds_of(names or ("text", "binary"), caller)
    check_range("size", size, 1)
    check_range("max_bytes", max_bytes, 1)
    check_choice("when_full", when_full, WHEN_FULL)
    if key is not None:
        if not callable(key):
            raise TypeError(f"key={key!r}: expected a function of an event, or None")
        check_takes("key", key, 1)
        if when_full != "latest":
            raise ValueError(f"key: only when_full='latest' uses it, not when_full={when_full!r}")
    intake = Intake(life, registry, kinds, when_full, size, max_bytes, key=key)
    return Mailbox(life, intake)


def kinds_of(names: tuple[EventName, ...], caller: str) -> frozenset[type[events.Event]]:
    """Return the classes of events that were passed by name or by class; ``"event"`` means all of them.

    Raises:
        TypeError: an argument is neither a name nor an event class.
        ValueError: no event has that name, or it is the name of something that is not an event.
    """
    wanted = event_names(names, caller)
    if "event" in wanted:
        return frozenset({*CLASSES.values(), events._EncodedText})
    for name in wanted:
        if name not in CLASSES:
            raise ValueError(f"{caller}({name!r}): expected an event, such as 'text'; {name!r} is not one")
    kinds = frozenset(CLASSES[name] for name in wanted)
    return kinds | {events._EncodedText} if events.Text in kinds else kinds
