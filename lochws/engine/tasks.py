"""Tasks: generators that a loop drives on its thread, thousands at a time, independent of WebSocket.

A task yields the waits of `lochws.system.steps`. While it waits, its sockets are in the loop's selector. When
a wait is over, a turn of the loop resumes the task, so the steps between waits must be short and never block.
In each turn, tasks may take as long as everything else has taken since their last turn, but at least
`LEAST_SECONDS` and at most `TURN_SECONDS`. So a thousand TLS handshakes and a busy connection share the time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeAlias

from ..clock import SYSTEM
from ..system import forks, usercode
from ..system.report import report_aside
from ..system.steps import HasDescriptor, Ready, Steps, Wait, raisable
from .loop import Loop
from .timers import Timers

#: The longest time that tasks may take in one turn, in seconds, though the last step is not cut short; and
#: the time that they always get.
TURN_SECONDS, LEAST_SECONDS = 0.004, 0.0005
#: How many times a task is resumed after its loop has failed. With a cancelled deadline it ends sooner.
_MAX_ENDINGS = 10

#: Creates the generator of a task. It is passed a function that any thread may call to have the task resumed.
Begin: TypeAlias = Callable[[Callable[[], None]], Steps[None]]


class Task:
    """One generator, from when it is added until it has ended. For `Tasks` alone."""

    __slots__ = ("begin", "is_due", "owner", "ready", "steps", "until", "wait", "watches")

    def __init__(self, begin: Begin, owner: object) -> None:
        self.begin = begin
        self.owner = owner
        self.steps: Steps[None] | None = None
        self.is_due = False  # it is about to be resumed
        self.until: float | None = None  # when its wait times out
        self.wait: Wait | None = None  # the last one
        self.ready: Ready = ()
        self.watches: tuple[_Watch, ...] = ()

    def waiting(self) -> Wait | None:
        """Return the wait that has not ended; None if the task is about to be resumed."""
        return None if self.is_due else self.wait


class _Watch:
    """One socket that a task waits for, as the loop sees it."""

    __slots__ = ("_channel", "_resume", "_task", "descriptor")

    def __init__(
        self, channel: HasDescriptor, descriptor: int, task: Task, resume: Callable[[Task], object]
    ) -> None:
        self._channel = channel
        self.descriptor = descriptor
        self._task = task
        self._resume = resume

    def on_ready(self, _mask: int, _buffer: memoryview, _now: float, _is_direct: bool = False, /) -> None:
        """End the wait of the task, unless another of its sockets has done so in this turn."""
        if self in self._task.watches:
            self._task.ready = (self._channel,)
            self._resume(self._task)


class Tasks:
    """The tasks of one loop: a channel without a descriptor, which is in the loop while there are tasks.

    Any thread may call `add`, and the function that is passed to a task; all else is for the baton holder.

    Args:
        loop: the loop.

    Attributes:
        current: the task that took the last step.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._added: deque[Task] = deque()  # any thread appends
        self._woken: deque[Task] = deque()  # likewise
        # All below is the baton holder's.
        self._tasks: dict[Task, None] = {}
        self._due: deque[Task] = deque()
        self._timers: Timers[Task] = Timers()
        self._left_at = 0.0  # when the last turn of the tasks ended
        self.current: Task | None = None  # None after its end, so that it is not kept
        loop.set_alarm(self, None)

    # Any thread.

    def add(self, begin: Begin, owner: object) -> None:
        """Add a task.

        Args:
            begin: creates the generator, on the loop's thread.
            owner: the owner in `lochws.system.usercode` of the user's functions that the task calls.
        """
        self._added.append(Task(begin, owner))
        self._loop.add(self)

    def _wake(self, task: Task) -> None:
        self._woken.append(task)
        self._loop.touch(self)

    # The loop.

    def fileno(self) -> int:
        """Return -1: each socket of a task is in the selector by itself."""
        return -1

    def interest(self) -> int:
        """Return 0: the channel itself has no descriptor."""
        return 0

    def on_start(self, now: float) -> bool:
        """Take in the added tasks."""
        while self._added:
            task = self._added.popleft()
            self._tasks[task] = None
            self._resume(task)
        return self.on_touch(now)

    def on_touch(self, _now: float) -> bool:
        """Resume the tasks that were woken."""
        while self._woken:
            task = self._woken.popleft()
            if task in self._tasks:
                self._resume(task)
        return False

    def on_ready(self, _mask: int, _buffer: memoryview, _now: float, _is_direct: bool = False, /) -> bool:
        """Resume the tasks whose wait is over, for a limited time. Return whether any are left."""
        self.on_timer(0.0)
        now = monotonic()
        until = now + min(TURN_SECONDS, max(LEAST_SECONDS, now - self._left_at))
        while self._due:
            task = self._due.popleft()
            task.is_due = False
            self._step(task)
            now = monotonic()
            if now >= until:
                break
        self._left_at = now
        self._set_alarm()
        return bool(self._due)

    def on_timer(self, _now: float) -> None:
        """Have the tasks resumed whose wait has timed out."""
        now = monotonic()
        for task in self._timers.take(now):
            if task.until is None:
                continue  # the timer belongs to an earlier wait, which ended before it
            if task.until <= now:
                self._resume(task)
            else:
                self._timers.set(task, task.until, task.until)

    def on_suspension(self, _now: float) -> None:
        """Do nothing: the waits of tasks are short."""

    def next_timer(self) -> float | None:
        """Return when the first wait ends, by the machine's clock; None if the loop has another clock."""
        return self._timers.next if self._loop.clock is SYSTEM else None

    def on_error(self, error: BaseException) -> None:
        """End all tasks, because the loop has failed."""
        self.on_start(0.0)
        self._due.clear()
        for task in list(self._tasks):
            task.is_due = False
            for _ in range(_MAX_ENDINGS):
                self._step(task)
                if task not in self._tasks:
                    break
            else:
                self._step(task, error)
                self._end(task)
        self._set_alarm()

    @property
    def backlog(self) -> int:
        """The number of tasks that are about to be resumed."""
        return len(self._due)

    @property
    def is_finished(self) -> bool:
        """True without tasks: the loop may forget this channel until one is added."""
        return not self._tasks and not self._added

    def release(self) -> None:
        """Drop the tasks that are left after the end of the loop."""
        self._end_all(list(self._tasks))

    def reset_after_fork(self) -> None:
        """Drop the parent's tasks in the child of a fork. The loop's owner calls this."""
        dropped, self._tasks = list(self._tasks), {}
        for task in dropped:
            task.watches = ()  # the selector is shared with the parent
        for waiting in (self._added, self._woken, self._due):
            waiting.clear()
        forks.afterwards(partial(self._end_all, dropped))

    # The baton holder.

    def _resume(self, task: Task) -> None:
        """Have the task resumed soon."""
        if not task.is_due:
            task.is_due = True
            self._unwatch(task)  # its ready sockets would keep the loop from waiting
            self._due.append(task)
            self._loop.go_on(self)

    def _step(self, task: Task, failure: BaseException | None = None) -> None:
        self._unwatch(task)
        self.current = task
        ready, task.ready = task.ready, ()
        try:
            while True:
                wait = usercode.run(partial(self._advance, task, ready, failure), task.owner)
                try:
                    self._watch(task, wait)
                    return
                except BaseException as error:  # noqa: BLE001  a descriptor that the selector refuses, for one
                    self._unwatch(task)
                    ready, failure = (), raisable(error)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001  a defect, which must not end the other tasks
            report_aside(logging.ERROR, "unexpected error in a task", error=error)
        self._end(task)

    def _advance(self, task: Task, ready: Ready, failure: BaseException | None) -> Wait:
        if task.steps is None:
            task.steps = task.begin(partial(self._wake, task))
            return next(task.steps)
        return task.steps.send(ready) if failure is None else task.steps.throw(failure)

    def _watch(self, task: Task, wait: Wait) -> None:
        task.wait, task.until = wait, wait.until
        if wait.until is not None:
            self._timers.set(task, wait.until, wait.until)  # without slack
        for channel, events in wait.channels:
            watch = _Watch(channel, channel.fileno(), task, self._resume)
            self._loop.watch(watch, watch.descriptor, events)
            task.watches += (watch,)

    def _unwatch(self, task: Task) -> None:
        # Before the task goes on, as it may close the socket.
        for watch in task.watches:
            self._loop.unwatch(watch, watch.descriptor)
        task.watches = ()

    def _end_all(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._end(task)

    def _end(self, task: Task) -> None:
        self._unwatch(task)
        self._timers.remove(task)
        self._tasks.pop(task, None)
        self.current = None
        if task.steps is not None:
            try:
                task.steps.close()
            except (RuntimeError, ValueError):
                pass  # the generator ignores its end, or was running when its thread forked
            except BaseException as error:  # noqa: BLE001  from a user's socket; it must not end the other tasks
                report_aside(logging.ERROR, "unexpected error at the end of a task", error=error)

    def _set_alarm(self) -> None:
        self._loop.set_alarm(self, self._timers.next)
