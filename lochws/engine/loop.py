"""The event loop: selector, wake-up, deadlines; knows nothing of WebSocket and has no thread.

A `Loop` moves the bytes of its channels. The right to do so is its baton: whoever holds it may call
`turn`, and only inside `turn` is anything of the channels touched. In a threaded program that is
the reader or its stand-in (`lochws.engine.reader`); in an iteration it is the iterating thread.
"""

from __future__ import annotations

import logging
import selectors
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ..clock import SYSTEM, Clock, Rest
from ..system.report import is_interrupt, report, report_aside
from ..system.waits import LONGEST_SECONDS
from ..system.wakeup import WakePipe
from .inbox import BATCHES_PER_DELIVERY, Inbox
from .suspension import SuspensionDetector
from .timers import Timers

#: What one receive call can take; one buffer serves all channels of a loop.
BUFFER_BYTES = 256 * 1024
#: What a receive call can take at least, however many channels are ready.
SHARE_BYTES = 16 * 1024


class Channel(Protocol):
    """What a loop moves. Every method is called with the baton held."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def interest(self) -> int:
        """What to wait for: selectors' EVENT_READ and EVENT_WRITE, or 0."""

    def on_start(self, now: float) -> bool:
        """The channel has joined the loop. Returns whether it has more to do at once."""

    def on_touch(self, now: float) -> bool:
        """`Loop.touch` was called. Returns whether it has more to do at once."""

    def on_ready(self, mask: int, buffer: memoryview, now: float) -> bool:
        """The descriptor is ready. Does a bounded amount of work; returns whether there is more."""

    def on_timer(self, now: float) -> None:
        """The moment that `next_timer` named has come, or an earlier one."""

    def on_gap(self, now: float) -> None:
        """This machine may have been suspended. What had come is read; no timer has run since."""

    def next_timer(self) -> float | None:
        """When `on_timer` should be called next, monotonic seconds, or None."""

    def on_error(self, error: BaseException) -> None:
        """One of the calls above raised, which none should: the channel must finish."""

    @property
    def is_finished(self) -> bool:
        """Whether the loop should let go of the channel."""

    def release(self) -> None:
        """The loop has let go: close the descriptor."""


class Loop:
    """Selector, wake-up and deadlines for any number of channels.

    `add`, `touch`, `wake` and `notify` may be called from any thread; all else belongs to the
    baton holder.

    Args:
        clock: what the timers go by.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self._monotonic, self._wall = clock.monotonic, clock.wall  # asked in each turn
        #: The right to call `turn`.
        self.baton = threading.Lock()
        self._pipe = WakePipe()
        self._added: deque[Channel] = deque()  # any thread appends, the baton holder takes
        self._touched: deque[Channel] = deque()  # likewise
        self._mail: deque[Inbox] = deque()  # any thread appends, the reader takes
        # The baton holder's.
        try:
            self._selector = selectors.DefaultSelector()
        except BaseException:
            self._pipe.close()
            raise
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._registered: dict[Channel, tuple[int, int]] = {}  # descriptor, mask (0: not in the selector)
        self._again: dict[Channel, None] = {}  # in order; what `more` was said for
        self._timers: Timers[Channel] = Timers()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._gaps = SuspensionDetector(self._monotonic(), self._wall())
        self._asleep = False
        self._turns = 0
        self._due: float | None = None  # when the wait of the turn under way is over at the latest

    # Any thread.

    def add(self, channel: Channel) -> None:
        """Let a channel join."""
        self._added.append(channel)
        self.wake()

    def touch(self, channel: Channel) -> None:
        """Have the channel's `on_touch` called soon, in a turn."""
        self._touched.append(channel)
        self.wake()

    def notify(self, inbox: Inbox) -> None:
        """Have the inbox delivered soon."""
        self._mail.append(inbox)
        self.wake()

    def ask_flush(self, channel: Channel, _flush: Callable[[], object] | None) -> None:
        """Have a channel's queue flushed in the next turn. What a loop without a crew offers in its place."""
        self.touch(channel)

    def wake(self) -> None:
        """End the wait of a turn under way, if one waits."""
        # The waiter says that it sleeps before it looks at the deques for the last time, so
        # whoever appends first and looks here second cannot be missed.
        if self._asleep:
            self._pipe.wake()

    def look_at_clock(self) -> None:
        """End the wait of a turn under way, or of the next: the clock was moved on."""
        self._pipe.wake()

    def rest(self) -> Rest | None:
        """How the turn under way waits; None if it does not, or will not for long."""
        rest = Rest(self._turns, self._due)
        if not self._asleep or self._touched or self._added:
            return None
        try:
            return None if self._selector.select(0) else rest
        except (OSError, ValueError, RuntimeError):  # closed in this moment, or changed
            return None

    @property
    def has_mail(self) -> bool:
        """Whether something waits to be delivered."""
        return bool(self._mail)

    @property
    def has_channels(self) -> bool:
        """Whether any channel is in the loop or about to join."""
        return bool(self._registered or self._added)

    # The one who takes from the inboxes: the reader.

    def deliver(self) -> None:
        """Deliver a bounded part of what waits in each inbox. Called without the baton."""
        waiting = len(self._mail)
        # The more of them wait the less each has handled. Else what a slow handler has let line up would keep
        # the reader for so long that it looks slow again, and is read ahead of again.
        batches = max(1, BATCHES_PER_DELIVERY // max(1, waiting))
        for _ in range(waiting):
            inbox = self._mail.popleft()
            inbox.is_scheduled = False
            try:
                more = inbox.deliver(batches)
            except BaseException as error:  # noqa: BLE001  it is reported
                # The exceptions of handlers were dealt with before: this is a defect of ours.
                report(logging.ERROR, "unexpected error while delivering events", error=error)
                more = inbox.has_backlog
            if more:
                inbox.is_scheduled = True
                self._mail.append(inbox)

    # The baton holder.

    def turn(self, until: Callable[[], bool], limit: float | None = None) -> None:
        """Wait until something is due, and do it once for every channel.

        Args:
            until: asked right before the wait; True makes it a look without waiting.
            limit: seconds to wait at most.
        """
        now = self._monotonic()
        self._admit(now)
        again, self._again = self._again, {}
        timeout = 0.0 if again else self._time_left(now, limit)
        self._turns += 1
        self._due = due = None if timeout is None else now + timeout
        self._asleep = True
        if self._touched or self._added or until():
            timeout, due = 0.0, now
        ready = self._selector.select(timeout if not timeout or self.clock.passes else None)
        self._asleep = False
        now = self._monotonic()
        was_gap = self._gaps.passed(now, self._wall(), due)
        # Many that are ready at once get less room each: what one turn brings must not keep the handlers
        # busy for so long that it looks like a slow one.
        buffer = self._buffer[: max(BUFFER_BYTES // max(1, len(ready)), SHARE_BYTES)]
        for key, mask in ready:
            if key.data is None:
                self._pipe.drain()
            else:
                self._call(key.data, key.data.on_ready, mask, buffer, now)
                again.pop(key.data, None)
        for channel in again:
            if channel in self._registered:
                self._call(channel, channel.on_ready, selectors.EVENT_READ, buffer, now)
        for channel in list(self._registered) if was_gap else ():
            self._call(channel, channel.on_gap, now)
        self._run_timers(now)

    def close(self) -> None:
        """Let go of every channel and of the loop's own descriptors."""
        for channel in [*self._registered, *self._added]:
            self._remove(channel)
        self._added.clear()
        self._selector.close()
        self._pipe.close()

    def fail(self, error: BaseException) -> None:
        """End every channel because of an error, those that are about to join included."""
        while self._registered or self._added:
            channel = next(iter(self._registered), None)
            self._fail(self._added.popleft() if channel is None else channel, error)

    def reset_after_fork(self) -> None:
        """In the child of a fork: leave the channels to the parent.

        Nothing is taken out of the selector: the parent's is the same.
        """
        self.baton = threading.Lock()
        self._selector.close()
        self._pipe.reset_after_fork()
        self._again, self._registered = {}, {}
        self._timers = Timers()
        for waiting in (self._added, self._touched, self._mail):
            waiting.clear()

    def _admit(self, now: float) -> None:
        for _ in range(len(self._added)):
            channel = self._added.popleft()
            self._registered[channel] = (channel.fileno(), 0)
            self._call(channel, channel.on_start, now)
        for _ in range(len(self._touched)):
            channel = self._touched.popleft()
            if channel in self._registered:
                self._call(channel, channel.on_touch, now)

    def _call(self, channel: Channel, method: Callable[..., bool | None], *args: Any) -> None:
        try:
            self._settle(channel, bool(method(*args)))
        except BaseException as error:
            if is_interrupt(error):
                raise
            # A defect of ours in one channel must not take the others with it.
            report_aside(logging.ERROR, "unexpected error in %r", channel, error=error)
            self._fail(channel, error)

    def _fail(self, channel: Channel, error: BaseException) -> None:
        """Have the channel end because of an error, and let go of it."""
        for end in (partial(channel.on_error, error), partial(self._remove, channel)):
            try:
                end()
            except BaseException as another:
                if is_interrupt(another):
                    raise
                report_aside(logging.ERROR, "unexpected error while %r ends", channel, error=another)

    def _settle(self, channel: Channel, more: bool) -> None:
        """Bring selector and timers into line with what the channel now wants."""
        if channel.is_finished:
            self._remove(channel)
            return
        if more:
            self._again[channel] = None
        descriptor, mask = self._registered[channel]
        wanted = channel.interest()
        if wanted != mask:
            if not mask:
                self._selector.register(descriptor, wanted, channel)
            elif not wanted:
                self._selector.unregister(descriptor)
            else:
                self._selector.modify(descriptor, wanted, channel)
            self._registered[channel] = (descriptor, wanted)
        when = channel.next_timer()
        if when is not None:
            # By a clock that stands still nobody has to wake up: moments are kept to the letter.
            self._timers.set(channel, when, self._monotonic() if self.clock.passes else when)

    def _remove(self, channel: Channel) -> None:
        descriptor, mask = self._registered.pop(channel, (-1, 0))
        self._timers.remove(channel)
        try:
            if mask:
                with suppress(KeyError):  # a change that failed, since the descriptor was closed, took it out
                    self._selector.unregister(descriptor)
        finally:
            channel.release()

    def _time_left(self, now: float, limit: float | None) -> float | None:
        when = self._timers.next
        if when is None:
            return limit
        left = min(max(0.0, when - now), LONGEST_SECONDS)
        return left if limit is None else min(left, limit)

    def _run_timers(self, now: float) -> None:
        # Moments that these set anew wait for the next turn, also those that have passed.
        for channel in self._timers.take(now):
            if channel in self._registered:
                self._call(channel, channel.on_timer, now)
