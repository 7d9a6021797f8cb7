"""Reader: the thread that turns the loop and delivers events, independent of WebSocket.

The reader holds the loop's baton for one turn, lends it, and delivers events: handlers run here, one after
the other, without any lock. If a delivery takes longer than a grace period, a supervisor thread calls
`stand_in`, which takes the baton and turns the loop until the reader has finished the delivery. So fast
handlers need no thread switch, and a slow handler does not cost a connection.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from time import sleep
from types import FrameType

from ..clock import SYSTEM, Clock, Rest
from ..errors import WebSocketError
from ..system.control import start_thread
from ..system.interpreters import new_thread
from ..system.rate_limit import RateLimit
from ..system.report import Block, flush_reports, report, report_aside, safe_str
from ..system.waits import is_alive, join
from .inbox import BATCHES_PER_DELIVERY, Inbox
from .loop import Loop

#: If a delivery takes longer than this, in seconds, a stand-in turns the loop for the reader.
GRACE_SECONDS = 0.1
#: A delivery that takes longer than this, in seconds, is logged with the reader's stack, and again each time
#: its duration has doubled.
STUCK_SECONDS = 5.0
#: How often a reader whose loop has failed checks whether its last app has ended, in seconds.
END_LOOK_SECONDS = 0.02
#: How often a handler that waits looks at the network while a test's clock stands still, in seconds.
CLOCK_LOOK_SECONDS = 0.001

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
#: Parts of the package whose code counts as the user's in a stack: users could have written it.
_LIKE_USERS = tuple(os.path.join(_PACKAGE, part) for part in ("handlers", "demo", "testing"))


class Reader:
    """One thread and its loop.

    Args:
        name: the thread's name.
        watch: called on the reader's thread when a delivery begins that is not being watched. It must arrange
            for a check of `delivery` after `grace` seconds.
        clock: the clock of the loop and of the watch.
        failed: called on the reader's thread, with the exception, if its loop can no longer be turned. From
            then on every channel ends with that exception, until `stop` is called.
    """

    def __init__(
        self,
        name: str,
        watch: Callable[[], object],
        clock: Clock = SYSTEM,
        failed: Callable[[BaseException], object] = lambda _: None,
    ) -> None:
        self.loop = Loop(clock)
        self._watch = watch
        self._failed = failed
        self._thread = new_thread(self._run, name)
        #: The number of the current delivery, or 0. Written by the reader, read by any thread.
        self.delivery = 0
        self.deliveries = 0  # so far; written by the reader, read by anyone
        self.is_watched = False  # set by the reader, cleared by the watching thread
        self.has_stand_in = False  # written by the stand-in, read by any thread
        self.is_pausing = False  # waits on purpose until a consumer has room; written by the reader
        self._wanted = False  # the reader waits for its baton; written by the reader
        self._stopping = False  # written once, by anyone
        self._error: BaseException | None = None  # why the loop cannot be turned; written once, by anyone
        self._watch_limit = RateLimit()
        self.grace = GRACE_SECONDS
        self.stuck = STUCK_SECONDS

    # Any thread.

    def start(self) -> None:
        """Start the thread."""
        start_thread(self._thread)

    def stop(self) -> None:
        """Stop the thread once its last channel has left and everything has been delivered."""
        self._stopping = True
        self.loop.end_waits()

    def fail(self, error: BaseException) -> None:
        """End every channel with this error. Only the first call has an effect."""
        if self._error is None:
            self._error = error
        self.loop.end_waits()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended. Return False if it has not, or if it is the calling thread."""
        if self.is_current:
            return False
        return join(self._thread, timeout)

    def rest(self, *, handlers: bool) -> Rest | None:
        """Return the state of the thread's wait, also if it has ended; None while it does anything else.

        Args:
            handlers: whether to return None while handlers run. If False, the result describes the reader's
                stand-in during that time, if there is one.
        """
        if self.delivery:
            if handlers:
                return None
            if not self.has_stand_in:
                return Rest(self.deliveries, None)
        elif self.loop.mail:
            return None
        if self._stopping and not is_alive(self._thread):
            return Rest(self.deliveries, None)
        return self.loop.rest()

    @property
    def is_current(self) -> bool:
        """True if the calling thread is the reader, and so runs a handler."""
        return threading.current_thread() is self._thread

    def reset_after_fork(self) -> None:
        """Make the thread end in the child of a fork, if a handler forked, as soon as the handler returns."""
        self._stopping = True
        self.loop.reset_after_fork()

    # The reader's thread.

    def _run(self) -> None:
        loop, lent = self.loop, self.loop.lent
        turn = loop.quick_turn  # Python 3.11 does not specialize the call of a function in an attribute
        self._take_baton()
        while True:  # with a condition, Python 3.11 would not specialize the loop's code
            if self._error is not None or (self._stopping and not (loop.mail or loop.has_channels)):
                break
            first = None
            try:
                first = turn(loop)
            except BaseException as error:  # noqa: BLE001  it ends all channels
                self.fail(error)
            if first is not None or loop.mail:
                lent.append(None)
                self._deliver(first)
                try:
                    lent.pop()
                except IndexError:  # a stand-in has taken it, or a handler has forked
                    self._take_baton()
        lent.append(None)  # not released: after a fork during the turn, the child's lock is not taken
        if self._error is not None:
            self._end_all(self._error)
        self._take_baton()
        try:
            loop.close()
        except Exception as error:  # noqa: BLE001  it is reported
            report_aside(logging.ERROR, "the loop of %s could not be closed", self._thread.name, error=error)

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> None:
        """Turn the loop once in the middle of a delivery, for a handler that waits for something.

        Args:
            until: called right before the loop waits; if it returns True, there is no wait.
            limit: seconds to wait at most, or None for no limit.

        Raises:
            WebSocketError: the loop cannot be turned any more.
        """
        if not self.loop.clock.passes:  # the loop would wait without a limit, but `limit` is in real time
            sleep(CLOCK_LOOK_SECONDS)
            limit = 0.0
        self._take_baton()  # from the stand-in, if there is one
        try:
            if self._error is None:
                self.loop.turn(until, limit)
        except BaseException as error:  # noqa: BLE001  it ends all channels
            self.fail(error)
        finally:
            self.loop.lent.append(None)
        if self._error is not None:
            raise WebSocketError(f"the threads of lochws have failed: {safe_str(self._error)}")

    def _end_all(self, error: BaseException) -> None:
        """End every channel, and keep delivering events until `stop` is called."""
        name = self._thread.name
        report_aside(logging.ERROR, "%s cannot go on, and the apps that run on it end", name, error=error)
        self._failed(error)
        while True:
            was_stopping = self._stopping
            self._take_baton()
            try:
                self.loop.fail(error)
            finally:
                self.loop.lent.append(None)
            if self.loop.mail:
                self._deliver()
            elif was_stopping:
                break
            else:
                sleep(END_LOOK_SECONDS)  # the selector may be what is broken
        flush_reports()

    def _take_baton(self) -> None:
        loop = self.loop
        if not loop.try_baton():
            self._wanted = True
            loop.wake()
            loop.baton.acquire()
            self._wanted = False

    def _deliver(self, first: Inbox | None = None) -> None:
        """Deliver a bounded number of batches from each inbox. Called while the baton is free or lent.

        Args:
            first: the inbox whose `last` items come before all others, or None.
        """
        self.deliveries = self.delivery = self.deliveries + 1  # in this order: see `rest`
        if not self.is_watched:
            self._have_it_watched()
        if first is not None:
            handle = first.handle  # as in `_run`
            try:
                handle(first.last)
            except BaseException as error:  # noqa: BLE001  it is reported, as below
                report(logging.ERROR, "unexpected error while delivering events", error=error)
            first.last = ()
        if self.loop.mail:
            self._deliver_mail()
        self.delivery = 0

    def _deliver_mail(self) -> None:
        mail = self.loop.mail
        waiting = len(mail)
        # The more inboxes wait, the less of each is delivered. Otherwise the backlog behind a slow handler
        # would keep the reader busy for so long that it looks slow again and gets another stand-in.
        batches = BATCHES_PER_DELIVERY if waiting <= 1 else max(1, BATCHES_PER_DELIVERY // waiting)
        while waiting and mail:  # if a handler forks, it is empty in the child
            waiting -= 1
            inbox = mail.popleft()
            inbox.is_scheduled = False
            try:
                more = inbox.deliver(batches)
            except BaseException as error:  # noqa: BLE001  it is reported
                # The exceptions of handlers are handled elsewhere: this is a defect in lochws.
                report(logging.ERROR, "unexpected error while delivering events", error=error)
                more = inbox.has_backlog
            if more:
                inbox.is_scheduled = True
                mail.append(inbox)

    def _have_it_watched(self) -> None:
        self.is_watched = True
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001  no thread can be started: the next delivery asks again
            self.is_watched = False
            text = "no thread can stand in for %s while a handler runs"
            report_aside(logging.ERROR, text, self._thread.name, error=error, limit=self._watch_limit)

    # The watching thread.

    def stand_in(self, delivery: int) -> None:
        """Turn the loop in place of the reader until the delivery has ended.

        The delivery is logged with the reader's stack if it takes too long.
        """
        loop = self.loop
        now = loop.clock.monotonic
        began = now()  # before taking the baton, which would stay taken if the clock raised
        if self._error is not None or not loop.try_baton():
            return
        next_warning = self.stuck
        self.has_stand_in = True
        try:
            while self.delivery == delivery and not self._wanted and self._error is None:
                loop.turn(until=lambda: self._wanted, limit=max(0.0, began + next_warning - now()))
                if now() >= began + next_warning and self.delivery == delivery:
                    self._warn(next_warning)
                    next_warning *= 2
        except BaseException as error:  # noqa: BLE001  the reader sees to it when it is back
            self.fail(error)
        finally:
            self.has_stand_in = False
            loop.baton.release()

    def _warn(self, seconds: float) -> None:
        if self.is_pausing:
            report_aside(
                logging.INFO,
                "%s has been waiting for more than %g s for room in a full mailbox or for coroutine handlers",
                self._thread.name, seconds, fields={"ws_event": "paused", "ws_running_for": seconds},
            )
            return
        frames = users_frames(sys._current_frames().get(self._thread.ident or 0))
        name = _name_of(frames[0]) if frames else "a function without a Python frame"
        walked = ((frame, frame.f_lineno or 0) for frame in frames)
        stack = "".join(traceback.StackSummary.extract(walked).format()).rstrip()
        report_aside(
            logging.WARNING,
            "handlers on %s have been running for more than %g s without a pause; "
            "further events wait for %s:\n%s",
            self._thread.name, seconds, name, Block(stack or "  (no stack)"),
            fields={"ws_event": "slow_handler", "ws_handler": name, "ws_running_for": seconds},
        )


def users_frames(innermost: FrameType | None) -> list[FrameType]:
    """Return the frames of a handler and of what it called, without those of lochws that called the handler.

    Args:
        innermost: the innermost frame of the thread that runs the handler.

    Returns:
        The frames, outermost first; none if a function without a Python frame is running.
    """
    frames = []
    while innermost is not None:
        frames.append(innermost)
        innermost = innermost.f_back
    frames.reverse()
    ours = [_is_ours(frame) for frame in frames]
    first = ours.index(True) if True in ours else 0  # before it, there are those of `threading`
    handlers = ours.index(False, first) if False in ours[first:] else len(frames)
    return frames[handlers:]


def _is_ours(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_PACKAGE) and not file.startswith(_LIKE_USERS)


def _name_of(frame: FrameType) -> str:
    """Return the name of the function that runs in a frame, with its class from Python 3.11 on."""
    code = frame.f_code
    return str(getattr(code, "co_qualname", code.co_name))
