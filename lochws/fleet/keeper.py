"""Keeper of a fleet on one worker: it runs the apps of the shards whose leases the worker holds.

Four things run side by side. Reports go out on the worker's event loop, and each reply says which
shards the worker owns. Three threads do the rest:

* The opener calls `make_app` and starts the apps.
* The mover closes apps, counts them, and notes which shards have opened or ended.
* The guard does nothing but watch the clock: it closes all apps before the leases can run out, whatever the
  network, the event loop and the user's functions are doing. It runs no user code.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .. import Backoff, Feed, State, Threads, WebSocketApp, events
from ..system.rate_limit import RateLimit
from ..system.report import report
from .messages import Content, Failed, Held, Reply, Report

#: A function that takes a source and the worker's threads, and returns an app or a feed that was not started.
MakeApp = Callable[[Any, Threads], "WebSocketApp | Feed"]

#: Events that an app's handlers receive even after its lease has expired, since they report the end.
_ENDS = {"disconnected", "connect_fail", "closed", "closing", "back_off", "error", "sent"}
#: A connection that stays open for this many seconds resets the count of failures.
_STABLE = 10.0
#: Seconds between two rounds through all apps, which count them and find those that have stopped. After a
#: long round, the wait is this many times as long as the round.
_ROUND, _TIMES = 2.0, 5
#: Seconds that the mover pauses after each shard, so that the receiving thread gets the GIL.
_PAUSE = 0.001
#: After `_SLICE` apps, the opener and the mover wait for a turn of the event loop, which renews the leases,
#: for at most `_TURN` seconds.
_SLICE, _TURN = 32, 1.0
#: Seconds after which the log says that `make_app` has not returned.
_SLOW = 10.0
#: How many attempts may be under way. A worker that takes over thousands of sources, on a busy machine, would
#: not finish many more of them before the servers time out, and would then repeat them all.
_ATTEMPTS = 256
#: The fractions of a lease after which a worker that could not renew it closes its apps, and drops the
#: connections that are left.
CLOSES, DROPS = 0.6, 0.75


def _boot_time() -> float:
    """Return the time in seconds, including the time for which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


#: The clock of leases.
now: Callable[[], float] = _boot_time if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic


class LeaseClock:
    """The clock of a keeper's apps: it stands still while the leases may have run out.

    A process that wakes up from a stop is so kept from sending what its timers have due, until the guard has
    dropped the connections. All methods: any thread.

    Args:
        is_valid: returns whether the leases are valid for certain.
    """

    passes = True

    def __init__(self, is_valid: Callable[[], bool]) -> None:
        self._is_valid = is_valid
        self._last = time.monotonic(), time.time()

    def monotonic(self) -> float:
        """Return the monotonic time, or the last one at which the leases were valid."""
        if self._is_valid():
            self._last = time.monotonic(), time.time()
        return self._last[0]

    def wall(self) -> float:
        """Return the wall clock's time, or that at which the leases were last valid."""
        return time.time() if self._is_valid() else self._last[1]

    def attend(self, timed: object) -> None:
        """Do nothing: this clock is never advanced by hand."""


@dataclass(frozen=True)
class Orders:
    """The options of a fleet that its keepers need; see `lochws.fleet.Fleet` for the meaning of each."""

    fleet: str
    lease: float
    make_app: MakeApp
    text_of: Callable[[Any], str]
    quarantine_after: int
    supervisors: int
    persist: bool | Backoff
    timing: dict[str, Any]


class Run:
    """The app of one source."""

    __slots__ = ("app", "error", "failures", "give_up_after", "is_settled", "opened", "source", "text")

    def __init__(self, source: Hashable, text: str, give_up_after: int) -> None:
        self.source = source
        self.text = text
        self.app: WebSocketApp | Feed | None = None
        self.is_settled = False
        self.failures = 0
        self.give_up_after = give_up_after
        self.opened = 0.0
        self.error: str | None = None

    def on_ready(self, event: events.Ready) -> None:
        """Record that a connection is open."""
        self.is_settled = True
        self.opened = now()

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Count a failed attempt."""
        self._failed(event)

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Count a connection that did not last."""
        if now() - self.opened >= _STABLE:
            self.failures = 0
        elif not event.graceful or event.ended_by != "client":
            self._failed(event)

    def _failed(self, event: events.ConnectFail | events.Disconnected) -> None:
        self.is_settled = True
        self.failures += 1
        if self.failures >= self.give_up_after and self.error is None:
            self.error = str(event.reason)


@dataclass
class Shard:
    """A shard that this worker has apps for.

    Attributes:
        number: its number.
        version: the latest version of its content that has arrived.
        filled: the version whose apps have been started, or -1.
        is_owned: whether the worker owns it; otherwise it is opened before its owner leaves it.
        runs: its apps by the texts of their sources.
        parting: the apps of sources that it no longer has, until they have stopped.
        opening: the apps that were not known to have connected or failed when `_settle` last looked.
        is_up: whether each source has connected or failed at least once.
        is_leaving: whether its apps are being closed.
        drops_at: when connections that are still open are dropped. Once they are dropped, when the shard
            counts as closed even if a handler has not returned. By the clock of leases.
        is_dropped: whether the connections were dropped.
        is_lost: whether the guard drops them, or has dropped them, because the lease had expired or was about
            to.

    Once `is_leaving` is true, `runs` and `parting` do not change any more.
    """

    number: int
    version: int
    filled: int = -1
    is_owned: bool = True
    runs: dict[str, Run] = field(default_factory=dict)
    parting: list[Run] = field(default_factory=list)
    opening: list[Run] = field(default_factory=list)
    is_up: bool = False
    is_leaving: bool = False
    drops_at: float = 0.0
    is_dropped: bool = False
    is_lost: bool = False

    def all_runs(self) -> list[Run]:
        """Return all apps that may still have a connection. Under the lock, unless the shard is leaving."""
        return [*self.runs.values(), *self.parting]


class Keeper:
    """The apps of a fleet on one worker.

    Args:
        orders: the options of the fleet.
        worker: the worker's name.
        address: the worker's address.
        send: sends a report to the desk and returns the reply, or None if the report was outdated.
    """

    def __init__(
        self, orders: Orders, worker: str, address: str, send: Callable[[Report], Awaitable[Reply | None]]
    ) -> None:
        self._orders = orders
        self._worker, self._address, self._send = worker, address, send
        self._id = uuid.uuid4().hex
        self._lock = threading.RLock()  # guards the shards; never held while an app is opened or closed
        self._shards: dict[int, Shard] = {}
        self._failed: list[Failed] = []
        self._counts = [0] * 5
        self._closes_at = self._drops_at = 0.0  # when apps must be closed, and dropped; see _apply
        self._lost: list[Shard] = []  # for the guard to drop
        self._is_dropping = False  # whether they include all shards
        self._was_late = False  # whether something was held back because the leases may have run out
        self._threads = Threads(
            orders.supervisors, name=f"fleet-{orders.fleet}", clock=LeaseClock(self.is_valid),
            attempts=_ATTEMPTS,
        )
        self._contents: deque[Content] = deque()  # for the opener
        self._has_contents = threading.Event()
        self._making: tuple[str, float] | None = None  # the source that make_app was called for, and when
        self._slow: tuple[str, float] | None = None  # the last of these that was reported
        self._jobs: deque[Callable[[], None]] = deque()  # for the mover
        self._has_jobs = threading.Event()
        self._guard_wakes = threading.Event()
        self._is_leaving = self._has_ended = False
        self._numbers = 0
        self._longest_close = min(5.0, orders.lease / 4)
        self._failure_lines, self._renewal_lines, self._slow_lines = RateLimit(), RateLimit(), RateLimit()

    # On the event loop.

    def start(self) -> None:
        """Start reporting. On the worker's event loop."""
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._reports = True
        for target in (self._guard, self._open_all, self._move):
            name = f"lochws-fleet-{target.__name__.split('_')[1]}-{self._orders.fleet}"
            here = contextvars.copy_context()
            threading.Thread(target=here.run, args=(target,), name=name, daemon=True).start()
        self._reporting = self._loop.create_task(self._keep_reporting())

    async def stop(self, *, tells: bool = True) -> None:
        """Close all apps, tell the desk, and end the threads. On the worker's event loop.

        Args:
            tells: whether the scheduler can be told. If not, the leases run out.
        """
        self._is_leaving = True
        self._reports = tells  # a cancellation can be lost in asyncio.wait_for
        if not tells:
            self._reporting.cancel()
        end = now() + 2 * self._longest_close
        # Thousands of apps take a while, in which the event loop must go on: it renews the leases.
        await self._loop.run_in_executor(None, self._leave_all)
        while self._shards and now() < end:
            await asyncio.sleep(0.02)
        with self._lock:
            self._lose_all()
        while self._lost:
            await asyncio.sleep(0.02)
        self._reports = False
        self._reporting.cancel()
        if tells:
            await asyncio.wait([self._reporting], timeout=max(1.0, end - now()))
            try:
                await asyncio.wait_for(self._report_once(), max(1.0, end - now()))
            except Exception as error:  # noqa: BLE001  the scheduler may be gone: then the leases run out
                report(logging.DEBUG, "no last report from the fleet %r", self._orders.fleet, error=error)
        self._has_ended = True
        for wakes in (self._guard_wakes, self._has_jobs, self._has_contents):
            wakes.set()

    def _leave_all(self) -> None:
        """Begin to close all apps; no others are opened any more."""
        with self._lock:
            shards = list(self._shards.values())
        for shard in shards:
            self._close_shard(shard)
        self._has_jobs.set()

    def ask(self) -> None:
        """Send a report soon. On the worker's event loop."""
        self._asked.set()

    async def _keep_reporting(self) -> None:
        lease = self._orders.lease
        while self._reports:
            self._asked.clear()
            wait = lease / 5
            try:
                reply = await asyncio.wait_for(self._report_once(), lease / 2)
                if reply is not None and reply.has_more:
                    wait = 0.0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  if none succeeds, the guard acts
                report(
                    logging.WARNING, "the fleet %r could not renew its leases", self._orders.fleet,
                    error=error, limit=self._renewal_lines,
                )
                wait = lease / 20
            await asyncio.sleep(0.02)  # at most fifty reports per second, however often it is asked
            if wait and self._reports:  # otherwise a cancellation was lost above
                try:
                    await asyncio.wait_for(self._asked.wait(), wait)
                except (TimeoutError, asyncio.TimeoutError):
                    pass

    async def _report_once(self) -> Reply | None:
        while True:
            with self._lock:
                sent = now()
                if sent >= self._drops_at or self._was_late:  # this process was stopped for long
                    self._lose_all()
                if not self._is_dropping:
                    break
            await asyncio.sleep(0.02)  # a lease would let apps that are not closed yet connect again
        self._numbers += 1
        with self._lock:
            held = [
                (each.is_owned, Held(each.number, each.version, each.is_up))
                for each in self._shards.values() if not each.is_lost
            ]
            failed, self._failed = self._failed, []
        reply = None
        try:
            reply = await self._send(Report(
                self._worker, self._id, self._numbers, self._address,
                [each for is_owned, each in held if is_owned],
                [each for is_owned, each in held if not is_owned],
                failed, [*self._counts, _memory(), threading.active_count()], self._is_leaving,
            ))
        finally:
            if reply is None:
                with self._lock:
                    self._failed = [*failed, *self._failed]
        if reply is not None:
            self._apply(reply, sent)
        return reply

    def _apply(self, reply: Reply, sent: float) -> None:
        """Do what a reply says. Its leases are counted from `sent`, which is before their renewal."""
        owned, wanted, leave = set(reply.owned), {*reply.owned, *reply.coming}, set(reply.leave)
        if now() >= sent + DROPS * self._orders.lease:
            return  # too late: the guard has dropped everything, or is about to
        with self._lock:
            if self._was_late:  # apps have missed something since the report was sent
                self._lose_all()
            self._closes_at = sent + CLOSES * self._orders.lease
            self._drops_at = sent + DROPS * self._orders.lease
            self._was_late = False
            for number, shard in self._shards.items():
                if shard.is_owned and number not in owned:
                    self._lose(shard)  # it has another owner already
                elif number not in wanted or number in leave or reply.is_closing:
                    if self._leave(shard):
                        self._jobs.append(partial(self._close_all, shard))
                elif number in owned:
                    shard.is_owned = True
            for content in reply.contents:
                number = content.shard
                if number in leave or self._is_leaving or reply.is_closing:
                    continue
                shard = self._shards.setdefault(number, Shard(number, -1, is_owned=number in owned))
                if not shard.is_leaving:
                    shard.version, shard.is_up = content.version, False
                    self._contents.append(content)
        for wakes in (self._guard_wakes, self._has_jobs, self._has_contents):
            wakes.set()

    # The guard.

    def is_valid(self) -> bool:
        """Return whether the leases of this worker are certainly valid. Any thread.

        If they are not, the caller drops an event or lets a timer wait. Then all connections have to end,
        even if a reply that was on its way renews the leases before the guard notices.
        """
        if now() < self._drops_at:
            return not self._is_dropping
        self._was_late = True
        return False

    def _guard(self) -> None:
        longest = min(0.25, self._orders.lease / 20)
        while not self._has_ended:
            self._guard_wakes.clear()
            time_now = now()
            with self._lock:
                if time_now >= self._drops_at:
                    self._lose_all()
                shards = list(self._shards.values()) if self._closes_at <= time_now < self._drops_at else []
                following = self._closes_at if time_now < self._closes_at else self._drops_at
            self._drop_lost()
            for shard in shards:  # thousands of apps take a while; there may be a new lease meanwhile
                if not self._closes_at <= now() < self._drops_at:
                    break
                with self._lock:
                    is_new = self._leave(shard)
                for run in shard.all_runs() if is_new else ():
                    _close_quietly(run)
            if shards:
                self._has_jobs.set()
            wait = following - now()
            self._guard_wakes.wait(min(wait, longest) if wait > 0 else longest)
        self._drop_lost()

    def _drop_lost(self) -> None:
        """Drop the connections of lost shards. Without the lock, which the reports need."""
        with self._lock:
            shards = self._lost.copy()
        if not shards:
            return
        opening: list[Run] = []
        connected: list[Run] = []
        for shard in shards:
            for run in shard.all_runs():
                (connected if _cut(run) else opening).append(run)
        for run in (*opening, *connected):
            _drop(run)
        with self._lock:
            for shard in shards:
                shard.is_dropped, shard.drops_at = True, now() + 1
            del self._lost[: len(shards)]
            self._is_dropping = self._is_dropping and bool(self._lost)
        self._has_jobs.set()

    def _lose_all(self) -> None:
        """Have the guard drop all connections: another worker may take over from now on. Under the lock."""
        for shard in self._shards.values():
            self._is_dropping |= self._lose(shard)

    def _lose(self, shard: Shard) -> bool:
        """Have the guard drop the connections of a shard. Return whether that is new. Under the lock."""
        if shard.is_lost:
            return False
        shard.is_leaving = shard.is_lost = True
        self._lost.append(shard)
        self._guard_wakes.set()
        return True

    def _leave(self, shard: Shard) -> bool:
        """Mark a shard as leaving. If that is new, return True: close its apps then. Under the lock."""
        if shard.is_leaving:
            return False
        shard.is_leaving = True
        shard.drops_at = now() + self._longest_close
        return True

    def _close_shard(self, shard: Shard) -> None:
        """Begin to close the apps of a shard, unless that has begun. Without the lock."""
        with self._lock:
            is_new = self._leave(shard)
        if is_new:
            self._close_all(shard)

    def _close_all(self, shard: Shard) -> None:
        """Close the apps of a shard that is leaving. Without the lock."""
        for count, run in enumerate(shard.all_runs(), 1):
            _close(run)
            if count % _SLICE == 0:
                self._give_way()

    def _give_way(self) -> None:
        """Wait until the event loop, which may be waiting for the GIL, has made a turn. On another thread."""
        turned = threading.Event()
        try:
            self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # the event loop has ended
            return
        turned.wait(_TURN)

    # The opener.

    def _open_all(self) -> None:
        while not self._has_ended:
            self._has_contents.clear()
            while self._contents:
                self._fill(self._contents.popleft())
                self._has_jobs.set()
                self._give_way()
            self._has_contents.wait()

    def _fill(self, content: Content) -> None:
        """Open the apps for a shard's sources, and close those of sources that it no longer has."""
        with self._lock:
            shard = self._shards.get(content.shard)
            if shard is None or shard.is_leaving or shard.version != content.version:
                return  # the content of a later version is in the queue
        excluded = set(content.excluded)
        wanted: dict[str, Hashable] = {}
        try:
            wanted.update((self._orders.text_of(source), source) for source in pickle.loads(content.sources))
        except BaseException as error:  # noqa: BLE001  such as a class that this worker cannot import
            self._has_failed(content.shard, f"shard {content.shard}", "its sources cannot be loaded", error)
        with self._lock:
            surplus = [] if shard.is_leaving else [
                run for text, run in shard.runs.items() if text not in wanted or text in excluded
            ]
            for run in surplus:
                self._part(shard, run)
        for run in surplus:
            _close(run)
        missing = [text for text in wanted if text not in excluded and text not in shard.runs]
        for count, text in enumerate(missing, 1):
            self._open(shard, wanted[text], text)
            if count % _SLICE == 0:
                self._give_way()
        with self._lock:
            shard.filled = content.version
            shard.opening = list(shard.runs.values())

    def _open(self, shard: Shard, source: Hashable, text: str) -> None:
        run = Run(source, text, self._orders.quarantine_after)
        try:
            self._making = text, now()
            app = self._orders.make_app(source, self._threads)
            if not isinstance(app, (WebSocketApp, Feed)):
                raise TypeError(f"make_app returned {app!r}: expected a WebSocketApp or a Feed, not started")
            app.add_handler(run)
            _wrap(app, shard, self)
            run.app = app
            if self._keep(shard, run):
                app.start(persist=self._orders.persist, **self._orders.timing)
                self._keep(shard, run)
        except BaseException as error:  # noqa: BLE001  even SystemExit; the source is in quarantine
            with self._lock:
                if not shard.is_leaving:
                    shard.runs.pop(text, None)
            self._has_failed(shard.number, text, "make_app failed", error)
        finally:
            self._making = None

    def _has_failed(self, shard: int, source: str, what: str, error: BaseException) -> None:
        report(logging.ERROR, "%r: %s", source, what, error=error, limit=self._failure_lines)
        with self._lock:
            self._failed.append(Failed(shard, source, f"{type(error).__name__}: {_words(error)}"))
        self._ask_from_thread()

    def _keep(self, shard: Shard, run: Run) -> bool:
        """Put an app into its shard. If the shard is closing, drop it instead, and return False."""
        with self._lock:
            is_kept = not shard.is_leaving
            if is_kept:
                shard.runs[run.text] = run
        if not is_kept:
            _drop(run)
        return is_kept

    # The mover.

    def _move(self) -> None:
        next_round = 0.0
        while not self._has_ended:
            self._has_jobs.clear()
            while self._jobs:
                self._jobs.popleft()()
                self._end_shards()
            is_busy = self._end_shards()
            if (begun := now()) >= next_round:
                self._look_round()
                next_round = now() + max(_ROUND, _TIMES * (now() - begun))
            is_busy |= self._settle()
            self._has_jobs.wait(0.02 if is_busy else max(0.0, next_round - now()))

    def _settle(self) -> bool:
        """Note the shards whose sources have all connected or failed once. Return whether others are left."""
        with self._lock:
            opening = [each for each in self._shards.values() if not (each.is_up or each.is_leaving)]
            for shard in opening:
                while shard.opening and shard.opening[-1].is_settled:
                    shard.opening.pop()
                shard.is_up = shard.filled == shard.version and not shard.opening
            is_news = any(shard.is_up for shard in opening)
        if is_news:
            self._ask_from_thread()
        return not all(shard.is_up for shard in opening)

    def _end_shards(self) -> bool:
        """Forget the shards whose apps have all stopped. Return whether some are still closing."""
        time_now = now()
        with self._lock:
            leaving = [each for each in self._shards.values() if each.is_leaving]
            ended, late = [], []
            for shard in leaving:
                if shard.is_lost and not shard.is_dropped:
                    pass  # the guard is about to drop it
                elif all(map(_has_stopped, shard.all_runs())):
                    ended.append(shard)
                elif time_now >= shard.drops_at and not shard.is_dropped:
                    shard.is_dropped, shard.drops_at = True, time_now + 1
                    late.append(shard)
                elif time_now >= shard.drops_at:
                    ended.append(shard)  # the connections are cut; only a handler has not returned
            for shard in ended:
                del self._shards[shard.number]
        for shard in late:
            for run in shard.all_runs():
                _drop(run)
        if ended:
            self._ask_from_thread()
        return len(ended) < len(leaving)

    def _look_round(self) -> None:
        """Count the apps, and put those into quarantine that keep failing or have stopped by themselves."""
        self._warn_of_slowness()
        with self._lock:
            shards = [
                (shard, list(shard.runs.values())) for shard in self._shards.values() if not shard.is_leaving
            ]
            for shard, _ in shards:
                shard.parting = [run for run in shard.parting if not _has_stopped(run)]
        counts = [0] * 5
        is_news = False
        for shard, runs in shards:
            for run in runs:
                if run.error is None and run.app is not None and run.is_settled and _has_stopped(run):
                    end = run.app.last_end
                    run.error = f"the app has stopped: {end.reason if end else 'it was closed'}"
                if run.error is not None:
                    is_news |= self._give_up(shard, run)
                elif run.app is not None:
                    _count(run.app, counts)
            self._has_jobs.wait(_PAUSE)
        self._counts = counts
        if is_news:
            self._ask_from_thread()

    def _give_up(self, shard: Shard, run: Run) -> bool:
        with self._lock:
            if shard.is_leaving or shard.runs.get(run.text) is not run:
                return False
            self._part(shard, run)
            self._failed.append(Failed(shard.number, run.text, run.error or ""))
        _close(run)
        return True

    def _part(self, shard: Shard, run: Run) -> None:
        """Stop counting an app of a shard. The caller then closes it. Under the lock."""
        del shard.runs[run.text]
        shard.parting.append(run)

    def _warn_of_slowness(self) -> None:
        making = self._making
        if making is not None and making is not self._slow and now() - making[1] >= _SLOW:
            self._slow = making
            report(
                logging.WARNING, "%r: make_app has not returned for %.0f s; this worker's other sources wait",
                making[0], now() - making[1], limit=self._slow_lines,
            )

    def _ask_from_thread(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._asked.set)
        except RuntimeError:  # the event loop has ended
            pass


def _wrap(app: WebSocketApp | Feed, shard: Shard, keeper: Keeper) -> None:
    """Call handlers only while the lease is valid: it may have expired while the process was suspended."""
    def guarded(name: str, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if name in _ENDS:
            return handler

        def call(event: Any) -> Any:
            if (keeper.is_valid() and not shard.is_lost) or getattr(event, "name", None) in _ENDS:
                return handler(event)
            return None

        return call

    if isinstance(app, Feed):
        app._registry.wrap(guarded)
    else:
        app.hooks.wrap_handlers(guarded)


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001  an exception of a user, whose __str__ raises
        return "its message cannot be read"


def _close(run: Run) -> None:
    """Close an app, with the method that a subclass of the user may have overridden."""
    if run.app is not None:
        try:
            run.app.close()
        except BaseException as error:  # noqa: BLE001  of a user's method, on our thread
            report(logging.ERROR, "%r: close() failed", run.text, error=error)
            _close_quietly(run)


def _close_quietly(run: Run) -> None:
    """Close an app without calling a method of the user, which could block or raise."""
    if isinstance(run.app, Feed):
        Feed.close(run.app)
    elif run.app is not None:
        WebSocketApp.close(run.app)


def _cut(run: Run) -> bool:
    """Cut the connections of an app, as a quick first part of `_drop`. Return whether there were any."""
    if isinstance(run.app, Feed):
        conductor = run.app._life.conductor
        apps = [] if conductor is None else [leg.app for leg in conductor.legs]
    else:
        apps = [] if run.app is None else [run.app]
    connections = [each for app in apps if (each := app._lochws.life.connection) is not None]
    for connection in connections:
        connection._stream.shutdown()
    return bool(connections)


def _drop(run: Run) -> None:
    """Close an app and drop its connections, without calling a method of the user."""
    _close_quietly(run)
    reason = "the lease of the shard has run out"
    if isinstance(run.app, Feed):
        Feed.force_disconnect(run.app, reason)
    elif run.app is not None:
        WebSocketApp.force_disconnect(run.app, reason)


def _has_stopped(run: Run) -> bool:
    app = run.app
    if isinstance(app, Feed):
        return not app._life.is_running
    return app is None or app.state in (State.NEW, State.STOPPED)


def _count(app: WebSocketApp | Feed, counts: list[int]) -> None:
    """Add an app to the numbers of the worker: sources, open, connections, messages received and sent."""
    counts[0] += 1
    counts[1] += app.is_active
    if isinstance(app, Feed):
        status = app.status()
        counts[2] += status.switches + status.losses + status.is_ready
        counts[3] += status.passed
        return
    counters = app.counters
    counts[2] += counters.connections
    counts[3] += counters.messages_received
    counts[4] += counters.messages_sent


def _memory() -> int:
    """Return the memory of this process in bytes, or 0."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
