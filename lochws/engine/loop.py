"""Event loop: poller, wake-up and deadlines for many channels, independent of WebSocket and of threads.

A `Loop` moves the bytes of its channels. Its baton is the right to do so: only the thread that holds the
baton may call `turn`, and channels are called from nowhere else. In a threaded program that thread is the
reader or its stand-in (see `lochws.engine.reader`); in an iteration it is the iterating thread.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ
from time import monotonic
from typing import Any, Protocol

from ..clock import SYSTEM, Clock, Rest
from ..system.report import is_interrupt, report_aside
from ..system.waits import LONGEST_SECONDS
from ..system.wakeup import WakePipe
from .inbox import Inbox
from .poller import make_poller, mask_of
from .suspension import SuspensionDetector
from .timers import Timers
from .turn import new_turn

#: The size of the buffer that all channels of a loop receive into.
BUFFER_BYTES = 256 * 1024
#: The part of the buffer that each channel gets at least, however many channels are ready.
SHARE_BYTES = 16 * 1024


class Channel(Protocol):
    """A connection as the loop sees it. Every method is called with the baton held."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""

    def interest(self) -> int:
        """Return what to wait for: EVENT_READ and EVENT_WRITE of `selectors`, or 0."""

    def on_start(self, now: float) -> bool:
        """Begin, since the channel has joined the loop. Return whether there is more to do immediately."""

    def on_touch(self, now: float) -> bool:
        """Do the work that `Loop.touch` was called for. Return whether there is more to do immediately."""

    def on_ready(
        self, mask: int, buffer: memoryview, now: float, is_direct: bool = False, /
    ) -> bool | Inbox | None:
        """Do a bounded amount of work, since the descriptor is ready.

        Args:
            mask: what the descriptor is ready for: EVENT_READ and EVENT_WRITE of `selectors`.
            buffer: memory to receive into, valid during the call.
            now: the time, in monotonic seconds.
            is_direct: whether the channel may return an inbox. True only if the reader turns the loop and no
                inbox has anything to deliver.

        Returns:
            Whether there is more to do immediately. None if there is not and, in addition, neither `interest`
            nor `is_finished` has changed, and `next_timer` is not earlier than before. An inbox if, besides
            that, the reader must handle `Inbox.last` before anything else.
        """

    def on_timer(self, now: float) -> None:
        """Do the work that is due. Called at the time that `next_timer` returned, or at an earlier one."""

    def on_suspension(self, now: float) -> None:
        """Check the connection: the machine may have been suspended.

        Data that had arrived has been read before this call; timers run after it.
        """

    def next_timer(self) -> float | None:
        """Return when to call `on_timer` next, in monotonic seconds, or None for never."""

    def on_error(self, error: BaseException) -> None:
        """Finish, because one of the methods has raised `error`, or the loop itself has failed with it."""

    @property
    def is_finished(self) -> bool:
        """True if the loop should release the channel."""

    def release(self) -> None:
        """Close the descriptor, which the loop no longer uses."""



class Watch(Protocol):
    """One of several descriptors of a channel."""

    def on_ready(self, mask: int, buffer: memoryview, now: float, is_direct: bool = False, /) -> None:
        """Note that the descriptor is ready. The arguments are those of `Channel.on_ready`."""



class Loop:
    """An event loop for any number of channels.

    Any thread may call `add`, `touch`, `notify` and `wake`; all other methods are for the baton holder.

    Args:
        clock: the clock for the timers.

    Attributes:
        baton: the lock whose holder may call `turn`.
        lent: has one item while the reader delivers and still holds the baton. The thread that removes the
            item holds the baton from then on. This takes a fifth of the time that the lock takes.
        mail: the inboxes that have something to deliver. Any thread appends, the reader takes.
        quick_turn: called with this loop, which it has no reference to; does what `turn(None)` does.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self._monotonic = clock.monotonic
        self.baton = threading.Lock()
        self.lent: deque[None] = deque()  # appending to an empty list may raise MemoryError
        self._pipe = WakePipe()
        self._added: deque[Channel] = deque()  # any thread appends, the baton holder takes
        self._touched: deque[Channel] = deque()  # likewise
        self.mail: deque[Inbox] = deque()
        # All below is the baton holder's.
        try:
            self._poller = make_poller()
        except BaseException:
            self._pipe.close()
            raise
        self._poller.watch(self._pipe.fileno(), 0, EVENT_READ)
        self._registered: dict[Channel, tuple[int, int]] = {}  # descriptor, mask (0: not in the poller)
        self._watched: dict[int, Any] = {}  # those in the poller, and each Watch, by descriptor
        self._again: dict[Channel, None] = {}  # the channels with more to do immediately, in order
        self._timers: Timers[Channel] = Timers()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        # Alarms are only needed beside the machine's clock.
        poll = self._poller.poll if clock is SYSTEM else self._poll_until_alarm
        self._turn = new_turn(
            self._poller, poll, clock, self.mail, self._touched, self._added, self._again, self._timers,
            self._watched, self._buffer
        )
        self.quick_turn = self._turn.turn
        self._suspensions = SuspensionDetector(self._turn.now, self._turn.wall)
        self._alarmed: Channel | None = None  # set by `set_alarm`, with the next
        self._alarm_at: float | None = None

    # Any thread.

    def add(self, channel: Channel) -> None:
        """Add a channel to the loop."""
        self._added.append(channel)
        self.wake()

    def touch(self, channel: Channel) -> None:
        """Have the channel's `on_touch` called in a turn soon."""
        self._touched.append(channel)
        self.wake()

    def notify(self, inbox: Inbox) -> None:
        """Have the inbox delivered soon."""
        self.mail.append(inbox)
        if self._turn.is_asleep:  # `wake`, without a call on the way of every message
            self._pipe.wake()

    def ask_flush(self, channel: Channel, _flush: Callable[[], object] | None) -> None:
        """Have a channel's queue flushed in the next turn: `Crew.ask_flush` for a loop without a crew."""
        self.touch(channel)

    def wake(self) -> None:
        """End the wait of the current turn, if it is waiting."""
        # The waiting thread sets the flag before it checks the deques for the last time. So an item that is
        # appended before the flag is read here cannot be missed.
        if self._turn.is_asleep:
            self._pipe.wake()

    def look_at_clock(self) -> None:
        """End the wait of this turn or of the next one, because the clock was advanced."""
        self._pipe.wake()

    def rest(self) -> Rest | None:
        """Return the state of this turn's wait; None if it does not wait or is about to stop waiting."""
        rest = Rest(self._turn.number, self._turn.due)
        if not self._turn.is_asleep or self._touched or self._added:
            return None
        if self._alarmed in self._registered:
            return None
        try:
            return None if self._poller.poll(0, 1) else rest
        except (OSError, ValueError, RuntimeError):  # it was just closed or changed
            return None

    def end_waits(self) -> None:
        """Make this turn and all later ones of the reader return without waiting."""
        self._turn.is_ending = True
        self.wake()

    def try_baton(self) -> bool:
        """Take the baton if it is free or lent. Return False if another thread holds it."""
        try:
            self.lent.pop()
        except IndexError:
            return self.baton.acquire(blocking=False)
        return True

    @property
    def has_channels(self) -> bool:
        """True if any channel is in the loop or about to join."""
        return bool(self._registered or self._added)

    # The baton holder.

    def turn(self, until: Callable[[], bool] | None, limit: float | None = None) -> Inbox | None:
        """Wait until something is due, and let every channel that has something to do act once.

        Args:
            until: called right before the wait; if it returns True, there is no wait. None is for the reader,
                which does not wait while there is `mail`, nor once `is_ending` is set.
            limit: seconds to wait at most, or None for no limit.

        Returns:
            An inbox whose `last` items the reader must handle next; otherwise None.
        """
        if self._added or self._touched:
            self._admit(self._monotonic())
        again: dict[Channel, None] | None = None
        if self._again:
            again, limit = self._again.copy(), 0.0
            self._again.clear()
        ready = self._turn.run(until, limit, self._timers.next, again is not None)
        if ready is None or isinstance(ready, Inbox):
            return ready
        self._act(ready, again)
        return None

    def _act(
        self, ready: list[tuple[int, int]] | tuple[Any, object], again: dict[Channel, None] | None = None
    ) -> None:
        """Call the channels that are ready and those that have more to do, and run the timers."""
        turn, again = self._turn, again or {}
        now, buffer = turn.now, self._buffer
        if isinstance(ready, tuple):
            channel, result = ready
            again.pop(channel, None)
            if isinstance(result, BaseException):
                self._on_defect(channel, result)
            elif result is not None:
                self._call(channel, bool, result)
        else:
            # If many channels are ready, each gets less room: the messages of one turn must not keep the
            # handlers busy for so long that they look slow.
            if len(ready) > 1:
                buffer = buffer[: max(BUFFER_BYTES // len(ready), SHARE_BYTES)]
            for descriptor, events in ready:
                channel = self._watched.get(descriptor)
                if channel is None:  # the pipe, or a channel that was removed in this turn
                    self._pipe.drain()
                    continue
                try:
                    more = channel.on_ready(self._mask_for(channel, events), buffer, now)
                    if more is not None:
                        self._settle(channel, more)
                except BaseException as error:  # noqa: BLE001  an interruption propagates
                    self._on_defect(channel, error)
                again.pop(channel, None)
        was_suspended = False
        if turn.is_suspicious:  # the full check is made only if a suspension is possible
            self._suspensions.ahead = turn.ahead
            was_suspended = self._suspensions.was_suspended(now, turn.wall, turn.due)
            turn.ahead = self._suspensions.ahead
        if again or was_suspended:
            self._go_on(again, buffer, was_suspended, now)
        if self._timers.next is not None and self._timers.next <= now:
            self._run_timers(now)

    def watch(self, watch: Watch, descriptor: int, events: int) -> None:
        """Wait for one more descriptor, of a channel that waits for several, until `unwatch` is called.

        Args:
            watch: its `on_ready` is called when the descriptor is ready.
            descriptor: the descriptor, which nothing else in this loop waits for.
            events: EVENT_READ and EVENT_WRITE of `selectors`.

        Raises:
            OSError, ValueError, KeyError: the descriptor cannot be waited for.
        """
        self._poller.watch(descriptor, 0, events)
        self._watched[descriptor] = watch

    def unwatch(self, watch: Watch, descriptor: int) -> None:
        """Stop waiting for a descriptor that was passed to `watch`. Call this before it is closed."""
        if self._watched.get(descriptor) is watch:  # if it was closed, another may have it now
            del self._watched[descriptor]
            try:
                self._poller.watch(descriptor, EVENT_READ, 0)
            except (OSError, ValueError, RuntimeError):
                pass  # the poller has been closed

    def go_on(self, channel: Channel) -> None:
        """Have a channel's `on_ready` called in the next turn, which does not wait."""
        self._again[channel] = None

    def set_alarm(self, channel: Channel, when: float | None) -> None:
        """Have a channel's `on_ready` called at a time of the machine's clock. One channel per loop.

        It is for loops with another clock. With the machine's clock, `next_timer` serves.

        Args:
            channel: the channel. While it is in the loop, the loop does not count as resting.
            when: the time in monotonic seconds; None for never.
        """
        self._alarmed, self._alarm_at = channel, when

    def _mask_for(self, channel: Channel, events: int) -> int:
        # A `Watch`, which is not registered, ignores the mask.
        registered = self._registered.get(channel)
        return 0 if registered is None else mask_of(events, registered[1])

    def _poll_until_alarm(self, limit: float | None, most: int) -> list[tuple[int, int]]:
        """Wait as the poller does, until the alarm at the latest."""
        if self._alarm_at is not None:
            left = min(LONGEST_SECONDS, max(0.0, self._alarm_at - monotonic()))
            limit = left if limit is None else min(left, limit)
        ready = self._poller.poll(limit, most)
        if self._alarmed is not None and self._alarm_at is not None and self._alarm_at <= monotonic():
            self._again[self._alarmed] = None
        return ready

    def _go_on(
        self, again: dict[Channel, None], buffer: memoryview, was_suspended: bool, now: float
    ) -> None:
        """Call the channels that have more to do, and all channels after a suspension."""
        for channel in again:
            if channel in self._registered:
                self._call(channel, channel.on_ready, EVENT_READ, buffer, now)
        for channel in list(self._registered) if was_suspended else ():
            self._call(channel, channel.on_suspension, now)

    def close(self) -> None:
        """Release every channel, and close the loop's own descriptors."""
        for channel in list(self._registered):
            self._remove(channel)
        while self._added:
            self._remove(self._added.popleft())
        self._poller.close()
        self._pipe.close()

    def fail(self, error: BaseException) -> None:
        """End every channel because of an error, including those that are about to join."""
        while self._registered or self._added:
            channel = next(iter(self._registered), None)
            self._fail(self._added.popleft() if channel is None else channel, error)

    def reset_after_fork(self) -> None:
        """Release the parent's channels in the child of a fork. The loop's owner calls this.

        Nothing is removed from the poller, which the child shares with its parent.
        """
        self.baton = threading.Lock()
        self.lent.clear()
        self._poller.close()
        self._pipe.reset_after_fork()
        self._registered = {}
        self._again.clear()
        self._watched.clear()
        self._timers = self._turn.timers = Timers()
        self._alarmed = self._alarm_at = None
        for waiting in (self._added, self._touched, self.mail):
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

    def _call(self, channel: Channel, method: Callable[..., bool | Inbox | None], *args: Any) -> None:
        try:
            self._settle(channel, bool(method(*args)))
        except BaseException as error:  # noqa: BLE001  an interruption propagates
            self._on_defect(channel, error)

    def _on_defect(self, channel: Channel, error: BaseException) -> None:
        """Finish a channel after a defect in lochws, so that the defect does not end the other channels."""
        if is_interrupt(error):
            raise error
        report_aside(logging.ERROR, "unexpected error in %r", channel, error=error)
        self._fail(channel, error)

    def _fail(self, channel: Channel, error: BaseException) -> None:
        """Finish a channel because of an error, and release it."""
        for end in (partial(channel.on_error, error), partial(self._remove, channel)):
            try:
                end()
            except BaseException as another:
                if is_interrupt(another):
                    raise
                report_aside(logging.ERROR, "unexpected error while %r ends", channel, error=another)

    def _settle(self, channel: Channel, more: bool) -> None:
        """Update the poller and the timers to the channel's current interest and deadline."""
        if channel.is_finished:
            self._remove(channel)
            return
        if more:
            self._again[channel] = None
        descriptor, mask = self._registered[channel]
        wanted = channel.interest()
        if wanted != mask:
            self._poller.watch(descriptor, mask, wanted)
            self._registered[channel] = (descriptor, wanted)
            if not mask:
                self._watched[descriptor] = channel
            elif not wanted:
                del self._watched[descriptor]
        when = channel.next_timer()
        if when is not None:
            # With a clock that stands still, rounding would save nothing, so deadlines are kept exactly.
            self._timers.set(channel, when, self._monotonic() if self.clock.passes else when)

    def _remove(self, channel: Channel) -> None:
        descriptor, mask = self._registered.pop(channel, (-1, 0))
        self._timers.remove(channel)
        try:
            if mask and self._watched.get(descriptor) is channel:  # if it was closed, another may have it now
                del self._watched[descriptor]
                self._poller.watch(descriptor, mask, 0)
        finally:
            channel.release()

    def _run_timers(self, now: float) -> None:
        # Deadlines that are set during this call wait for the next turn, even if they have passed.
        for channel in self._timers.take(now):
            if channel in self._registered:
                self._call(channel, channel.on_timer, now)
