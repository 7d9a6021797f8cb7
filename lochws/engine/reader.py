"""The reader thread: turns the loop and delivers what has come; knows nothing of WebSocket.

The reader holds the loop's baton for one turn, lets it go, and delivers: handlers run here, one
after the other, without any lock. While a delivery takes longer than a grace period somebody else
calls `stand_in`, which holds the baton and turns the loop until the reader is back. So fast handlers
cost no change of threads, and a slow handler costs no connection.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable

from ..clock import SYSTEM, Clock, Rest
from ..system import forks
from ..system.report import report_aside
from ..system.waits import join
from .loop import Loop

#: A delivery longer than this gets a stand-in for the reader.
GRACE_SECONDS = 0.1
#: A delivery longer than this is logged with the reader's stack; again each time it has doubled.
STUCK_SECONDS = 5.0


class Reader:
    """One daemon thread and its loop.

    Args:
        name: the thread's name.
        watch: called on the reader's thread when a delivery begins and nobody watches over it.
            Whoever is called must look at `delivery` after `grace` seconds.
        clock: what the loop goes by, and whoever watches.
    """

    def __init__(self, name: str, watch: Callable[[], object], clock: Clock = SYSTEM) -> None:
        self.loop = Loop(clock)
        self._watch = watch
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        #: The number of the delivery under way, or 0. Written by the reader, read by anyone.
        self.delivery = 0
        self.deliveries = 0  # so far; written by the reader, read by anyone
        self.is_watched = False  # set by the reader, cleared by the one who watches
        self.has_stand_in = False  # written by the one who stands in, read by anyone
        self._wanted = False  # the reader waits for its baton; written by the reader
        self._stopping = False  # written once, by anyone
        self.grace = GRACE_SECONDS
        self.stuck = STUCK_SECONDS
        forks.register(self)

    # Any thread.

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread once its last channel has gone and all has been delivered."""
        self._stopping = True
        self.loop.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended. Returns False if it has not, or is the calling thread."""
        if self.is_current:
            return False
        return join(self._thread, timeout)

    def rest(self, *, handlers: bool) -> Rest | None:
        """How the thread waits, or has ended; None while it does anything else.

        Args:
            handlers: whether to say None while handlers run. Else it is what their stand-in does, if there
                is one.
        """
        if self.delivery:
            if handlers:
                return None
            if not self.has_stand_in:
                return Rest(self.deliveries, None)
        elif self.loop.has_mail:
            return None
        if self._stopping and not self._thread.is_alive():
            return Rest(self.deliveries, None)
        return self.loop.rest()

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is the reader: whether it runs a handler."""
        return threading.current_thread() is self._thread

    def reset_after_fork(self) -> None:
        """In the child of a fork, which a handler may have made: the thread ends when it returns."""
        self._stopping = True

    # The reader's thread.

    def _run(self) -> None:
        loop = self.loop
        while loop.has_mail or loop.has_channels or not self._stopping:
            self._take_baton()
            try:
                loop.turn(until=self._is_needed)
            finally:
                loop.baton.release()
            if loop.has_mail:
                self._deliver()
        self._take_baton()
        loop.close()

    def _is_needed(self) -> bool:
        return self.loop.has_mail or self._stopping

    def _take_baton(self) -> None:
        baton = self.loop.baton
        if not baton.acquire(blocking=False):
            self._wanted = True
            self.loop.wake()
            baton.acquire()
            self._wanted = False

    def _deliver(self) -> None:
        self.deliveries += 1
        self.delivery = self.deliveries
        if not self.is_watched:
            self.is_watched = True
            self._watch()
        self.loop.deliver()
        self.delivery = 0

    # The one who watches.

    def stand_in(self, delivery: int) -> None:
        """Turn the loop in the reader's place until that delivery has ended.

        The delivery is logged with the reader's stack if it takes too long.
        """
        loop = self.loop
        if not loop.baton.acquire(blocking=False):
            return
        now = loop.clock.monotonic
        began = now()
        next_warning = self.stuck
        self.has_stand_in = True
        try:
            while self.delivery == delivery and not self._wanted:
                loop.turn(until=lambda: self._wanted, limit=max(0.0, began + next_warning - now()))
                if now() >= began + next_warning and self.delivery == delivery:
                    self._warn(next_warning)
                    next_warning *= 2
        finally:
            self.has_stand_in = False
            loop.baton.release()

    def _warn(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "(no stack)"
        report_aside(  # the baton is held
            logging.WARNING,
            "handlers on %s have been running for more than %g s without a pause; further events wait:\n%s",
            self._thread.name, seconds, stack,
        )
