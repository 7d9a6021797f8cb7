"""Paced outgoing: the items that wait on a connection whose server limits messages per second.

Like `lochws.connection.outgoing`, it is a plain data structure without lock and socket, and a
`lochws.connection.sendqueue.SendQueue` owns it. A message over budget waits where it would wait for a full
kernel. So the bound of the queue, the order, compression and `Disconnected.unsent` need no rules of their
own.

A frame is admitted by the time before the kernel takes it, and counted by the time after. So a window that
holds for these times also holds for the true ones. TCP may hold back frames that it has taken: a burst too
large for its congestion window, or whatever follows a lost packet. They are counted once TCP has caught up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, cast

from ..base.records import record
from ..protocol.frames import Item, Opcode, count_frames
from .outgoing import BATCH_BYTES, Outgoing, Pack, Raw, is_fragmented
from .window import SlidingWindow

#: The interval at which to check whether TCP is still behind: this fraction of the window's length, but at
#: least this many seconds.
LOOK_PART = 0.01
LOOK_SECONDS = 0.001


def is_never_behind() -> bool:
    """Return False, which stands for a TCP that has sent all that it has taken."""
    return False


@record(frozen=True)
class Budget:
    """The limit on the frames of a connection.

    Attributes:
        window: tells how many may be sent now.
        counts_frames: whether pings, pongs and the Close frame count like messages.
        clock: returns the time in monotonic seconds.
        is_behind: returns whether TCP has yet to send some of what it has taken.
    """

    window: SlidingWindow
    counts_frames: bool
    clock: Callable[[], float]
    is_behind: Callable[[], bool] = is_never_behind


class PacedOutgoing(Outgoing):
    """The messages and frames that wait to be sent on one connection, within a budget.

    Pings and pongs go ahead of all messages. Our Close frame goes after all messages, until `overtake` is
    called: then it goes next, and the messages that it has overtaken, large or not, are never sent.

    Args:
        pack: makes the frames of plain messages.
        budget: the limit.
        batch_bytes: the maximum number of bytes in a batch, unless a single frame is larger.
    """

    __slots__ = ("_budget", "_kept_back", "_more_frames", "_window")

    def __init__(self, pack: Pack, budget: Budget, batch_bytes: int = BATCH_BYTES) -> None:
        super().__init__(pack, batch_bytes)
        self._budget = budget
        self._window = budget.window
        self.plans = True  # always
        self._more_frames = 0  # fragments of the items, beyond one for each; 0 if frames do not count
        self._kept_back = 0  # frames that the kernel has taken, but TCP had not sent when last checked

    # Adding.

    def _place(self, item: Any) -> tuple[list[Any], Item | Raw]:
        if type(item) is tuple and item[1] is None and item[0][0] & 0x0F != Opcode.CLOSE:
            return self._place_control(item[0])
        return super()._place(item)

    def _count_framed(self, added: Sequence[Item | Raw]) -> None:
        super()._count_framed(added)
        if self._budget.counts_frames:
            self._more_frames += sum(
                count_frames(cast("bytes", item[0])) - 1 for item in added if is_fragmented(item)
            )

    def replace_older(self, frame: bytes) -> None:
        """Forget an urgent frame of the same kind, which may still wait for the budget.

        The newest pong answers all pings (RFC 6455 section 5.5.3), so a flood of pings takes no memory.
        """
        if self._budget.counts_frames:
            self.urgent = [other for other in self.urgent if other[0] != frame[0]]

    # Writing.

    @property
    def is_ready(self) -> bool:
        """True if there is something to write that the budget allows now."""
        if self.rest or self._prefix:
            return True
        if self._has_controls:
            return not self._budget.counts_frames or self._free() > 0
        return self._share() > 0

    @property
    def is_waiting(self) -> bool:
        """True if something waits that the budget allows now or later. Unlike `is_ready`, it ignores time."""
        return self._has_controls or self._start < len(self.items)

    def next_time(self) -> float | None:
        """Return the time at which more may be written, possibly now; None if nothing waits."""
        if not self.is_waiting:
            return None
        now = self._budget.clock()
        if self.is_ready:
            return now
        return self.next_look() if self._kept_back else self._window.opens_at(now)

    def next_look(self) -> float:
        """Return when to look again for a change that is not announced. Needs no lock."""
        return self._budget.clock() + max(LOOK_PART * self._window.seconds, LOOK_SECONDS)

    @property
    def holds_ping(self) -> bool:
        """True if a ping or pong waits for the budget."""
        return bool(self.urgent or self.controls) and not self.is_ready

    def wait(self, more: int) -> float:
        """Return how many seconds a message would wait for the budget if it were added now.

        Args:
            more: how many others will be added before it.
        """
        ahead = len(self.items) - self._start + len(self.raw) + self._kept_back + more
        if self._budget.counts_frames:
            ahead += len(self.urgent) + len(self.controls) + len(self._prefix) + self._more_frames
        else:
            ahead -= self._controls
        return self._window.wait(ahead, self._budget.clock())

    def take_urgent(self) -> None:
        """Put the control frames that the budget allows in front of the next batch. Under the lock."""
        if self._prefix or self.rest:
            return
        if self._kept_back and not self._budget.is_behind():
            self._count(0)
        urgent, controls = self.urgent, list(self.controls)
        room = self._free() if self._budget.counts_frames else len(urgent) + len(controls) + 1
        if self._close is not None:
            if room:
                self._cut(self._close)
            return
        of_user = controls[: max(0, room - len(urgent))]
        size = self.size - sum(map(len, of_user))
        taken, left, left_controls = [*urgent[:room], *of_user], urgent[room:], controls[len(of_user) :]
        # There is no call between these statements, so Ctrl-C cannot interrupt them and lose a frame.
        self._prefix, self.urgent, self.controls, self.size = taken, left, left_controls, size

    def make_batch(self) -> None:
        """Build the frames of the next batch, unless one is being written. For the writer.

        Only the writer spends, so the budget still allows what it allowed when this thread became the writer.
        """
        if self.rest:
            return
        start = self._start
        share = self.items[start : start + self._share()]
        packed, end, offset = b"", start, self._offset
        if share:
            # If frames count, then so do fragments: they are sent one by one.
            one_by_one = self._budget.counts_frames
            limit = 0 if one_by_one else self._batch_bytes
            if is_fragmented(share[0]) and len(frames := cast("bytes", share[0][0])) > limit:
                packed, end, offset = self._fragments(frames, limit)
            else:
                if one_by_one:
                    share = list(takewhile(lambda item: not is_fragmented(item), share))
                packed, count = self._pack(share, 0, self._batch_bytes)
                end = start + count
        prefix = b"".join(self._prefix)
        self._prefix_left = len(prefix)
        self._next_offset, self._end, self.rest = offset, end, prefix + packed

    def took(self, taken: int) -> None:
        """Note that the kernel has taken this many bytes of the rest; a whole batch then counts."""
        if taken == len(self.rest):
            start, end = self._start, self._end
            messages = self._messages_in(start, end)
            count = messages
            if self._budget.counts_frames:
                has_fragment = self._next_offset > self._offset  # and does not end its message
                count = len(self._prefix) + end - start + has_fragment
                self._more_frames -= has_fragment
            if self._budget.is_behind():
                self._kept_back += count
            else:
                self._count(count)
        super().took(taken)
        if not self._controls:
            self._close = None  # it went in its turn, before it could overtake anything

    def take_unsent(self) -> list[Item | Raw]:
        """Remove and return the messages that were not sent completely, in order."""
        self._count(0)
        return super().take_unsent()

    @property
    def _has_controls(self) -> bool:
        """True if a control frame waits that goes before all messages."""
        return bool(self.urgent or self.controls or self._close is not None)

    def _count(self, count: int) -> None:
        """Count frames that have just been sent, and those that had been kept back. Under the lock."""
        count, self._kept_back = count + self._kept_back, 0
        if count:
            self._window.spend(count, self._budget.clock())

    def _free(self) -> int:
        return self._window.free(self._budget.clock()) - self._kept_back

    def _share(self) -> int:
        """Return how many of the waiting items may be written now. Under the lock, or by the writer."""
        items, start = self.items, self._start
        waiting = len(items) - start
        if not waiting:
            return 0
        free = self._free()
        if self._budget.counts_frames:
            return min(waiting, free - len(self._prefix))
        if not self._controls:
            return min(waiting, free)
        share = messages = 0
        while share < waiting:  # our Close frame and barriers take nothing from the budget
            item = items[start + share]
            messages += not (type(item) is tuple and item[1] is None)
            if messages > free:
                break
            share += 1
        return share
